"""What commands print: values as JSON, and one line a thing."""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polylm.tasks.maintenance.run_records import Run
    from polylm.tasks.session import StageReport


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def short(value: Any, width: int = 32) -> str:
    text = (
        f"{value:.6g}"
        if isinstance(value, float)
        else value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, default=str)
    )
    text = "".join(character if character.isprintable() else " " for character in text)  # a terminal obeys others
    return text if len(text) <= width else f"{text[: width - 3]}..."


def as_values(report: "StageReport") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(report)


def run_line(run: "Run") -> str:
    name, state, by = (short(text, 100) for text in (run.id, run.state, run.started_by))
    told = short((run.error or _decided(run)).partition("\n")[0], 100)
    return f"{name:36} {state:17} {len(run.stages):>2} stages  {by:12}  {told}".rstrip()


def _decided(run: "Run") -> str:
    """Why somebody approved or refused what a run met, where that is how it ended."""
    given = [alarm["decision"] for alarm in run.alarms if isinstance(alarm.get("decision"), dict)]
    return str(given[-1].get("reason") or "") if given and run.state in ("approved", "refused") else ""


def plan_line(report: "StageReport", bound: str) -> str:
    """A stage of a plan; `bound` is said of counts that are not exact."""
    todo = len(report.built)
    count = f"{'' if report.exact else f'{bound} '}{todo} to build" if todo else "re-used"
    names = ", ".join(report.built[:6]) + (", ..." if todo > 6 else "")
    return f"{report.stage:24} {report.jobs:6} jobs  {count:20} {names}".rstrip()


def kept_table(kept: list[dict[str, Any]]) -> str:
    """One line a language: what no gate rejects."""
    total = {"language": "all", **{name: sum(row[name] for row in kept) for name in ("documents", "bytes")}}
    lines = [
        f"  {row['language']:22} {row['documents']:>12,} documents {row['bytes']:>18,} bytes" for row in (*kept, total)
    ]
    return "\n".join(["kept:", *lines])


def rules_table(rules: list[dict[str, Any]]) -> str:
    """One line a rule, the broken ones first, in columns."""
    rows = [
        (
            answer["gate"],
            answer["rule"],
            f"{short(answer['value'])} {answer['side']} {short(answer['bound'], 40)}",
            "" if answer["margin"] is None else f"margin {answer['margin']:.4g}",
            answer["verdict"],
        )
        for answer in sorted(rules, key=lambda answer: answer["verdict"] != "broken")
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
