"""Bounds that were fitted: which field of the fit's params would move one far enough, found by fitting again."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from polylm.dashboard.gates import extras_of, gate_jobs, params_of, stage_of
from polylm.dashboard.keeping import Change, labels_in, one_row, outward
from polylm.dashboard.queries import Place, Queries
from polylm.dashboard.recipe_fields import changed, leaves, set_words
from polylm.dashboard.store_reading import Manifest
from polylm.tasks import build
from polylm.tasks.build import PartInput
from polylm.tasks.maintenance.run_records import Run
from polylm.tasks.rules import Rules
from polylm.tasks.stage import DOC, Params, Stage

MOST_FITTED = 300_000  # documents of which a fit is made again here: up to a second a run of it
HALVINGS = 10


@dataclass(frozen=True)
class Refitted:
    """A field of a fit's params, and the value with which the gate keeps the document; `others`: which it lets in besides."""

    path: str
    before: float
    value: float
    words: tuple[str, ...]
    others: int


@dataclass(frozen=True)
class Fit:
    """A cheap fit with its documents in memory, and the gate that reads it."""

    made: Manifest
    stage: Stage
    params: Params
    corpus: list[dict[str, pa.Array]]

    def again(self, changes: dict[str, Any]) -> pa.Table:
        """The table with other params; ValidationError where they cannot be."""
        params = type(self.params).model_validate(changed(self.params.model_dump(mode="json"), changes))
        return self.stage(self.corpus, params)


def can_refit(here: Queries, change: Change) -> bool:
    """Whether a change that no option makes could come from a fit that is quickly made again."""
    return (
        not change.changes and _fitted_by(here, change) is not None and here.manifest(change.entry).rows <= MOST_FITTED
    )


def refit(here: Queries, run: Run, change: Change, place: Place) -> list[Refitted]:
    """Every single field of the fit that keeps the document, with the value nearest to today's, the fewest let in first.

    Costs some tens of fits: for the background.
    """
    made = _fitted_by(here, change)
    assert made is not None
    fit = _fit(here, made)
    ask = _asker(here, change, place, fit)
    found = []
    for path, before in [*_numbers(made), *_own_entries(here, change, place, made)]:
        if (value := _nearest(partial(_keeps, ask, path), change, before)) is not None:
            words = tuple(set_words(run, made, {path: value}))
            found.append(Refitted(path, before, value, words, _others(here, change, place, fit, {path: value})))
    return sorted(found, key=lambda one: one.others)


def _keeps(ask: Callable[[dict[str, Any]], bool], path: str, value: float) -> bool:
    return ask({path: value})


def _fitted_by(here: Queries, change: Change) -> Manifest | None:
    """The fit whose table the gate reads, where it has params and reads nothing but documents."""
    for read in here.reads(change.entry).values():
        stage = stage_of(read.stage)
        if stage and stage.cheap and read.params and all(m.shape == "rows" for m in here.reads(read.ref).values()):
            return read
    return None


def _fit(here: Queries, made: Manifest) -> Fit:
    stage = stage_of(made.stage)
    assert stage is not None
    reads = list(here.reads(made.ref).values())
    gates = [read for read in reads if (found := stage_of(read.stage)) and found.kind == "gate"]
    holders: dict[str, Manifest] = {}
    for read in reads:
        holders |= dict.fromkeys(here.columns(read.ref), read)
    corpus = []
    for index, part in enumerate(reads[0].parts):
        files = tuple(
            (holders[name].stage, holders[name].parts[index].key, (name,)) for name in stage.reads if name != DOC
        )
        where = tuple((gate.stage, gate.parts[index].key) for gate in gates)
        own = PartInput(files, where, part.number if DOC in stage.reads else None, part.rows)
        corpus.append(build.Shown.of(own, here.store).columns)
    return Fit(made, stage, params_of(here, made.ref), corpus)


def _asker(here: Queries, change: Change, place: Place, fit: Fit) -> Callable[[dict[str, Any]], bool]:
    """A function that says whether the gate keeps the document when the fit is made with changes."""
    job = gate_jobs(here, change.entry)[place.part]
    one = one_row(here, job, place.row)

    def keeps(changes: dict[str, Any]) -> bool:
        try:
            table = fit.again(changes)
        except ValidationError:
            return False
        rules: Rules = job.stage(one.for_gate(), job.params, *_with(here, change, fit, table))
        return not rules[change.rule].broken[0]

    return keeps


def _with(here: Queries, change: Change, fit: Fit, table: pa.Table) -> list[Any]:
    """The gate's tables, with that of the fit exchanged."""
    reads = [read for read in here.reads(change.entry).values() if read.shape != "rows"]
    extras = extras_of(gate_jobs(here, change.entry)[0])
    return [table if read.ref == fit.made.ref else extra for read, extra in zip(reads, extras, strict=True)]


def _numbers(made: Manifest) -> Iterator[tuple[str, float]]:
    yield from ((path, float(value)) for path, value in leaves(made.params) if isinstance(value, float))


def _own_entries(here: Queries, change: Change, place: Place, made: Manifest) -> Iterator[tuple[str, float]]:
    """Entries that tables by label could get for the document's own (`own.de`), with the bound that stands there now."""
    job = gate_jobs(here, change.entry)[place.part]
    one = one_row(here, job, place.row)
    rules = job.stage(one.for_gate(), job.params, *extras_of(job))
    bound = float(np.ravel(rules[change.rule].bound)[0])
    for field, table in made.params.items():
        if isinstance(table, Mapping) and all(isinstance(value, float) for value in table.values()):
            yield from ((f"{field}.{label}", bound) for label in sorted(labels_in(one) - set(table)))


def _nearest(keeps: Callable[[float], bool], change: Change, before: float) -> float | None:
    """The value nearest to today's that keeps the document: the document's own, or one found by halving; None if none does."""
    if not isinstance(change.value, str | None) and 0 <= change.value <= 1:
        own = float(outward(change.value, up=change.value > before))
        if keeps(own):
            return own
    ends = [end for end in (0.0, 1.0, 0.001, 0.999) if keeps(end)]
    if not ends:
        return None
    bad, good = before, min(ends, key=lambda end: abs(end - before))
    for _ in range(HALVINGS):
        middle = (bad + good) / 2
        bad, good = (bad, middle) if keeps(middle) else (middle, good)
    short = outward(good, up=good > before)
    return float(short) if keeps(float(short)) else good


def _others(here: Queries, change: Change, place: Place, fit: Fit, changes: dict[str, Any]) -> int:
    """Documents that the gate rejects today and would not with the new fit, but for this one."""
    extras = _with(here, change, fit, fit.again(changes))
    count = 0
    for index, job in enumerate(gate_jobs(here, change.entry)):
        rows = build.Shown.of(job.parts[0], here.store).for_gate()
        before, after = (job.stage(rows, job.params, *tables) for tables in (extras_of(job), extras))
        lets = _rejects(before) & ~_rejects(after)
        count += int(lets.sum()) - int(index == place.part and lets[place.row])
    return count


def _rejects(rules: Rules) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.asarray(np.logical_or.reduce([rule.broken for rule in rules.values()]))
