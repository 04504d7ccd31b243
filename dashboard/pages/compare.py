"""Two runs compared: params, stages, documents kept, figures, alarms, and documents that were judged otherwise."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from polylm.dashboard.alarms import alarms_of
from polylm.dashboard.comparison import Flip, flips, param_differences, run_before, stage_pairs, stages_are_known
from polylm.dashboard.funnel import Funnel, funnel_of
from polylm.dashboard.pages.evaluation import LOWER_IS_BETTER, SURE, rows_of
from polylm.dashboard.queries import Here, Queries
from polylm.dashboard.store_reading import Runs
from polylm.dashboard.text import shortened
from polylm.dashboard.view import page, url
from polylm.tasks.evaluation.table import AVERAGE
from polylm.tasks.maintenance.run_records import Run

router = APIRouter()
SHOWN = 10  # flipped documents a page
SHOWN_CHARS = 500
CHOICES = 200  # runs in a list
Way = Literal["", "lost", "gained"]


@dataclass(frozen=True)
class Pair:
    """A number in both runs."""

    label: str
    a: int
    b: int

    @property
    def change(self) -> int:
        return self.b - self.a

    @property
    def share(self) -> float | None:
        return self.change / self.a if self.a else None


@dataclass(frozen=True)
class Change:
    """A figure of the evaluation in both runs; `sure` is better, worse, or "" where the errors do not tell."""

    model: str
    category: str
    task: str
    language: str
    metric: str
    a: float
    b: float
    error: float | None
    sure: str


@dataclass(frozen=True)
class Shown:
    """A document that flipped, with the beginning of its text, and where it is in each run."""

    flip: Flip
    address_a: str
    address_b: str
    language: str
    text: str


@router.get("/compare")
def choose(request: Request, here: Here, a: str = "", b: str = "") -> Response:
    """The two runs that a form names; without a first one, the run of the same recipe before the second (the newest)."""
    runs = here.runs()
    second = here.run(b) if b else next(iter(runs), None)
    first = here.run(a) if a else second and run_before(runs, second)
    if first and second:
        return RedirectResponse(url("compare", first.id, second.id), HTTPStatus.SEE_OTHER)
    other = next(iter(runs.older(second.id)), None) if second else None
    choices = _choices(runs, first, second)
    return page(request, "compare_choice.html", second=second, first=None, other=other, choices=choices)


@router.get("/compare/{a}/{b}")
def compare(
    request: Request,
    here: Here,
    a: str,
    b: str,
    way: Way = "",
    number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
) -> Response:
    """The page; `way` chooses flipped documents that were lost or gained."""
    first, second = here.run(a), here.run(b)
    choices = _choices(here.runs(), first, second)
    return page(request, "compare.html", choices=choices, **values(here, first, second, way, number))


def values(here: Queries, a: Run, b: Run, way: Way, number: int) -> dict[str, Any]:
    """What the page shows."""
    found = flips(here, a, b, (number - 1) * SHOWN, SHOWN, way)
    funnels = funnel_of(here, a), funnel_of(here, b)
    known = [funnel for funnel in funnels if funnel is not None]
    total = found and {"lost": found.lost, "gained": found.gained}.get(way, found.lost + found.gained)
    return {
        "a": a,
        "b": b,
        "params": param_differences(here, a, b),
        "stages": stage_pairs(here, a, b),
        "counting": len(known) < 2 or found is None or not stages_are_known(here),
        "languages": _languages(*known) if len(known) == 2 else [],
        "gates": _gates(*known) if len(known) == 2 else [],
        "changes": _changes(rows_of(here, a), rows_of(here, b)),
        "flips": found,
        "examples": [_shown(here, a, b, flip) for flip in found.shown] if found else [],
        "total": total,
        "alarms": [(which, alarm) for which, run in (("First", a), ("Second", b)) for alarm in alarms_of(run)],
        "way": way,
        "number": number,
        "shown": SHOWN,
        "sure": SURE,
    }


def _choices(runs: Runs, *chosen: Run | None) -> list[Run]:
    """The newest runs, and those that are chosen, the newest first."""
    named = {run.id: run for run in chosen if run}
    newest = list(runs[:CHOICES])
    shown = {run.id for run in newest}
    return newest + sorted((run for run in named.values() if run.id not in shown), key=lambda run: run.id, reverse=True)


def _languages(a: Funnel, b: Funnel) -> list[tuple[Pair, Pair]]:
    """Documents read and kept of each language, and of all."""
    names = sorted({*a.languages, *b.languages}, key=lambda name: -max(f.total(name).documents for f in (a, b)))
    return [
        (_pair(label, a, b, language, None), _pair(label, a, b, language, ""))
        for label, language in [*((name, name) for name in names), ("all", None)]
    ]


def _pair(label: str, a: Funnel, b: Funnel, language: str | None, gate: str | None, reason: str | None = None) -> Pair:
    return Pair(label, a.total(language, gate, reason).documents, b.total(language, gate, reason).documents)


def _gates(a: Funnel, b: Funnel) -> list[tuple[Pair, list[Pair]]]:
    """Documents that each gate took first, by reason where they differ."""
    gates = list(dict.fromkeys([*a.gates, *b.gates]))
    return [(_pair(gate, a, b, None, gate), _reasons(a, b, gate)) for gate in gates]


def _reasons(a: Funnel, b: Funnel, gate: str) -> list[Pair]:
    names = dict.fromkeys([*a.reasons(gate), *b.reasons(gate)])
    pairs = [_pair(name, a, b, None, gate, name) for name in names]
    return sorted((pair for pair in pairs if pair.change), key=lambda pair: -abs(pair.change))


def _changes(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> list[Change]:
    """Figures that both have and that differ: the means, and of single languages those whose errors leave no doubt."""
    identity = ("model", "category", "task", "language", "metric")
    before = {tuple(row[name] for name in identity): row for row in a if row["value"] is not None}
    pairs = [
        (before[key], row)
        for row in b
        if (key := tuple(row[name] for name in identity)) in before and row["value"] is not None
    ]
    changes = [_change(one, other) for one, other in pairs if one["value"] != other["value"]]
    return [change for change in changes if AVERAGE in change.language.split() or change.sure]


def _change(a: Mapping[str, Any], b: Mapping[str, Any]) -> Change:
    error = None if None in (a["stderr"], b["stderr"]) else math.hypot(a["stderr"], b["stderr"])
    apart = b["value"] - a["value"]
    sure = ""
    if error and abs(apart) >= SURE * error:
        sure = "better" if (apart > 0) != (b["metric"] in LOWER_IS_BETTER) else "worse"
    return Change(b["model"], b["category"], b["task"], b["language"], b["metric"], a["value"], b["value"], error, sure)


def _shown(here: Queries, a: Run, b: Run, flip: Flip) -> Shown:
    part, row = flip.b
    text = here.part(here.entry(b, "clean"), part, ["text"])["text"][row].as_py()
    language = here.part(here.entry(b, "identify_language"), part, ["language"])["language"][row].as_py()
    return Shown(flip, here.address(a, *flip.a), here.address(b, *flip.b), language or "", shortened(text, SHOWN_CHARS))
