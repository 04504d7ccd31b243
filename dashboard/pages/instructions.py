"""Instructions: seed tasks, what was asked, which generated tasks were kept and why the others were not, with examples."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from polylm.dashboard import charts
from polylm.dashboard.errors import Missing
from polylm.dashboard.queries import Here, Queries
from polylm.dashboard.view import page, words
from polylm.tasks.instructions.prompts import Task, read_seeds
from polylm.tasks.maintenance.run_records import Entry, Run

router = APIRouter()
STAGE = "generate_instructions"
ACCEPTED = "accepted"
SHOWN = 10  # tasks a page
Short = Annotated[str, Query(max_length=100)]
_COLUMNS = "id, language, instruction, input, output, rejected_because, evidence, text, round, prompt_sha256"


@dataclass
class Asked:
    """What the journal of a language holds: answers that were paid for, by whichever run of this store."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ends: Counter[str] = field(default_factory=Counter)  # why answers ended: stop, length, ...
    torn: bool = False  # the last line was cut by a kill; its request is asked again
    places: dict[str, int] = field(default_factory=dict)  # where the answer to a prompt stands, by the prompt's sha256

    @property
    def first_prompt(self) -> str:
        return next(iter(self.places), "")


@dataclass(frozen=True)
class Counts:
    """The generated tasks of one language."""

    language: str
    accepted: int
    reasons: dict[str, int]
    asked: Asked | None  # None while the journal is being read

    @property
    def rejected(self) -> int:
        return sum(self.reasons.values())


@router.get("/run/{run_id}/instructions")
def instructions(
    request: Request,
    here: Here,
    run_id: str,
    language: Short = "",
    reason: Short = "",
    prompt: Short = "",
    number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
) -> Response:
    """The page; `reason` is a reason, or `accepted`; `prompt` the sha256 of one that was asked."""
    run = here.run(run_id)
    return page(request, "instructions.html", run=run, **values(here, run, language, reason, prompt, number))


def values(
    here: Queries, run: Run, language: str = "", reason: str = "", prompt: str = "", number: int = 1
) -> dict[str, Any]:
    """What the page shows; examples of one language and reason where they are given."""
    entries = [entry for entry in run.entries(STAGE) if here.has(entry)]
    if not entries:
        return {"counts": None}
    entry = entries[-1]
    params = here.manifest(entry).params
    counts = _counts(here, entry)
    packed = run.entries("pack_instructions")
    return {
        "counts": counts,
        "reasons": _ranked(counts),
        "chart": charts.stacked(
            [
                (one.language, {ACCEPTED: one.accepted} | {words(r): n for r, n in one.reasons.items()})
                for one in counts
            ],
            title="Generated tasks by language and what became of them",
        )
        if counts
        else "",
        "params": {
            name: params.get(name)
            for name in (
                "server",
                "model",
                "api",
                "rounds",
                "max_requests",
                "tasks_asked",
                "max_tokens",
                "temperature",
                "seed",
            )
        },
        "models": here.sql("SELECT DISTINCT model FROM {beside} ORDER BY 1", {"g": entry})["model"].to_pylist(),
        "seeds": _seeds({one.language for one in counts}),
        "packed_rows": packed[-1].rows if packed else None,
        "examples": _examples(here, entry, language, reason, number),
        "total": sum(_matching(one, reason) for one in counts if language in ("", one.language)),
        "language": language,
        "reason": reason,
        "number": number,
        "shown": SHOWN,
        "prompt": _prompt(here, counts, prompt),
        "reading": any(one.asked is None for one in counts),
    }


def _counts(here: Queries, entry: Entry) -> list[Counts]:
    rows = here.sql(
        "SELECT language, rejected_because AS reason, count(*) AS n FROM {beside} GROUP BY ALL ORDER BY n DESC, reason",
        {"g": entry},
    ).to_pylist()
    return [_count(here, part.label, rows) for part in here.manifest(entry).parts]


def _count(here: Queries, language: str, rows: Sequence[dict[str, Any]]) -> Counts:
    own = {row["reason"]: row["n"] for row in rows if row["language"] == language}
    reasons = {reason: n for reason, n in own.items() if reason is not None}
    return Counts(language, own.get(None, 0), reasons, _asked(here, language))


def _matching(counts: Counts, reason: str) -> int:
    if reason == ACCEPTED:
        return counts.accepted
    return counts.reasons.get(reason, 0) if reason else counts.accepted + counts.rejected


def _ranked(counts: Sequence[Counts]) -> list[str]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one.reasons)
    return [reason for reason, _ in total.most_common()]


def _examples(here: Queries, entry: Entry, language: str, reason: str, number: int) -> list[dict[str, Any]]:
    """A page of tasks: of all, one of each language and reason comes before the second of any."""
    wanted = f"(? IN ('', language)) AND (? IN ('', coalesce(rejected_because, '{ACCEPTED}')))"
    rows: list[dict[str, Any]] = here.sql(
        f"SELECT {_COLUMNS} FROM {{beside}} WHERE {wanted} ORDER BY row_number() OVER "
        "(PARTITION BY language, rejected_because ORDER BY round, id), rejected_because IS NOT NULL, language, id "
        "LIMIT ? OFFSET ?",
        {"g": entry},
        bind=[language, reason, SHOWN, (number - 1) * SHOWN],
    ).to_pylist()
    return rows


def _seeds(languages: set[str]) -> dict[str, list[Task]]:
    seeds = read_seeds()
    return {language: [task for task in seeds if task.language == language] for language in sorted(languages)}


def _journal_path(here: Queries, language: str) -> Path:
    return here.store.root / "work" / STAGE / f"{language}.jsonl"


def _asked(here: Queries, language: str) -> Asked | None:
    """The counts of a language's journal; its name comes from a manifest."""
    path = _journal_path(here, language)
    try:
        stat = path.stat()
    except FileNotFoundError:
        return Asked()
    return here.cache.soon(("journal", path, stat.st_size, stat.st_mtime_ns), lambda: _read_journal(path))


def _read_journal(path: Path) -> Asked:
    asked = Asked()
    with path.open("rb") as file:
        start = 0
        for line in file:
            if not line.endswith(b"\n"):
                asked.torn = True
                break
            told = json.loads(line)
            answer = told["answer"]
            asked.answers += 1
            asked.prompt_tokens += answer.get("prompt_tokens", 0)
            asked.completion_tokens += answer.get("completion_tokens", 0)
            asked.ends[answer["finish_reason"]] += 1
            asked.places.setdefault(hashlib.sha256(told["prompt"].encode("utf-8", "surrogatepass")).hexdigest(), start)
            start += len(line)
    return asked


def _prompt(here: Queries, counts: Sequence[Counts], wanted: str) -> dict[str, str] | None:
    """A prompt as it was sent, with the first answer to it; None where none is asked for."""
    if not wanted:
        return None
    for one in counts:
        if one.asked and wanted in one.asked.places:
            with _journal_path(here, one.language).open("rb") as file:
                file.seek(one.asked.places[wanted])
                told = json.loads(file.readline())
            return {
                "sha256": wanted,
                "language": one.language,
                "text": told["prompt"],
                "answer": told["answer"]["text"],
            }
    raise Missing(f"No journal of this store has a prompt {wanted[:80]!r}.")
