"""One table of all results: category, task, language, value, standard error and chance, models side by side."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from polylm.tasks.evaluation.errors import average_deviations, with_error
from polylm.tasks.stage import Field, Params, Workspace, files
from polylm.tasks.store import read_columns

EVALUATION = pa.schema(
    [
        pa.field("model", pa.string()),  # null: the task was not run
        pa.field("category", pa.string()),  # one of CATEGORIES
        pa.field("task", pa.string()),
        pa.field("language", pa.string()),  # a code, a direction (en-de), or AVERAGE
        pa.field("metric", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("stderr", pa.float64()),
        pa.field("chance", pa.float64()),  # what guessing gets, or copying the source; 8 bits for a byte
        pa.field("n", pa.int64()),  # items
        pa.field("note", pa.string()),
    ]
)
CATEGORIES = ("understanding", "knowledge", "generation", "translation", "bits per byte")
AVERAGE = "mean"
_IDENTITY = ("model", "category", "task", "language", "metric")

# What the paper measured and this evaluation cannot, with the reason; a table without them would look complete.
NOT_RUN = (
    ("understanding", "XNLI", "its data is only on the Hugging Face hub: needs the hub"),
    ("understanding", "PAWS-X", "its data is only on the Hugging Face hub: needs the hub"),
    ("understanding", "XWinograd", "its data is not committed: needs a download"),
    ("knowledge", "TyDiQA-GoldP", "its data is not committed: needs a download"),
    ("generation", "MTG", "its data is only on the Hugging Face hub, and the authors' repository is empty"),
    ("translation", "WMT20", "newstest2020 is for research use and cannot be committed: needs a download"),
)


class TableParams(Params):
    """Which averages the report shows first."""

    per_language: bool = Field(default=True, description="Print a row for every language under each average.")


def make_rows(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows of EVALUATION with numbers rounded to 4 decimals, so that machines agree; missing fields are null."""
    names = EVALUATION.names
    return pa.Table.from_pylist([{name: _rounded(row.get(name)) for name in names} for row in rows], EVALUATION)


def average(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The plain mean over languages of rows of one model, task and metric.

    Its error is made of the rows' `deviations` (see `errors`), which knows that items are translations of each other.
    """
    count = len(rows)
    chances = [row["chance"] for row in rows if row.get("chance") is not None]
    return {
        **rows[0],
        "language": AVERAGE,
        "value": sum(row["value"] for row in rows) / count,
        "chance": sum(chances) / count if len(chances) == count else None,
        "n": sum(row["n"] for row in rows),
        "note": f"mean over {count}",
        **with_error(average_deviations([row["deviations"] for row in rows])),
    }


@files(writes=EVALUATION)
def tabulate(params: TableParams, *evaluations: Mapping[str, pa.Table | Path]) -> pa.Table:
    """Lay the results of all evaluations in one table, with what was not run and why.

    Each has its jobs' tables by name, or their Parquet files, which is how the machinery hands over several at once. A
    figure that two evaluations have (the byte models', the human text's) is taken from the first.
    """
    figures: dict[tuple[str, ...], dict[str, Any]] = {}
    for jobs in evaluations:
        for name in sorted(jobs):
            for row in _table(jobs[name]).to_pylist():
                figures.setdefault(tuple(row[field] for field in _IDENTITY), row)
    missing = [{"category": category, "task": task, "note": f"not run: {reason}"} for category, task, reason in NOT_RUN]
    return make_rows([*figures.values(), *missing])


@files()
def report_evaluation(params: TableParams, table: pa.Table, *, work: Workspace) -> None:
    """Write the evaluation as a page of Markdown, `evaluation.md`."""
    text = render_table(table, per_language=params.per_language)
    (work.out / "evaluation.md").write_text(f"# Evaluation\n\n{text}", encoding="utf-8")


def render_table(table: pa.Table, *, per_language: bool = True) -> str:
    """The table as Markdown: a section for each category, a column for each model, then what was not run.

    A cell is `value ± standard error`, the error left out where the sample cannot tell it; averages come first.
    """
    rows = table.to_pylist()
    sections = [_section(category, rows, per_language) for category in CATEGORIES]
    skipped = [f"- {row['task']} ({row['category']}): {row['note']}" for row in rows if row["model"] is None]
    return "\n".join([*filter(None, sections), "## Not run", "", *skipped, ""])


def _table(source: pa.Table | Path) -> pa.Table:
    return read_columns(source).select(EVALUATION.names) if isinstance(source, Path) else source


def _section(category: str, rows: list[dict[str, Any]], per_language: bool) -> str:
    ran = [row for row in rows if row["category"] == category and row["model"] is not None]
    if not ran:
        return ""
    models = list(dict.fromkeys(row["model"] for row in ran))
    lines = [f"## {category.capitalize()}", "", _line(["task", "metric", "language", "chance", "n", *models])]
    lines.append(_line(["---"] * 3 + ["---:"] * (2 + len(models))))
    groups: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    for row in ran:
        groups.setdefault((row["task"], row["metric"], row["language"]), {})[row["model"]] = row
    # Averages first inside each task and metric, the rest in the order in which the jobs gave them.
    firsts = {pair: place for place, pair in reversed(list(enumerate(key[:2] for key in groups)))}
    order = sorted(groups, key=lambda key: (firsts[key[:2]], AVERAGE not in key[2]))
    lines += [_cells(key, groups[key], models) for key in order if per_language or AVERAGE in key[2]]
    notes = dict.fromkeys(f"- {row['task']}, {row['metric']}: {row['note']}" for row in ran if row["note"])
    shown = [note for note in notes if "mean over" not in note]
    return "\n".join([*lines, "", *shown, ""])


def _cells(key: tuple[str, str, str], by_model: Mapping[str, Mapping[str, Any]], models: Sequence[str]) -> str:
    some = next(iter(by_model.values()))
    values = [_value(by_model[model]) if model in by_model else "" for model in models]
    return _line([*key, _number(some["chance"]), str(some["n"]), *values])


def _value(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "-"
    return _number(row["value"]) + (f" ± {_number(row['stderr'])}" if row["stderr"] is not None else "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
