"""The smallest change of a recipe that would keep a document: found by asking the very gates with other params."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from polylm.dashboard.document import Verdict
from polylm.dashboard.gates import extras_of, stage_of
from polylm.dashboard.queries import Place, Queries
from polylm.dashboard.recipe_fields import changed, field_of, leaves, set_words
from polylm.dashboard.store_reading import Manifest
from polylm.tasks import build
from polylm.tasks.build import Job
from polylm.tasks.corpus.rule_sets import OTHERS
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.rules import Rule, Rules

MOST_TRIED = 60  # fields of the params that are tried for a rule
DIGITS = 4


@dataclass(frozen=True)
class Change:
    """What moves the bound of one broken rule: `--set` words, or only what it was fitted from."""

    entry: Entry
    rule: str
    value: float | str | None
    changes: dict[str, Any]  # of the gate's params; empty where none moves it
    before: Any = None
    words: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()  # fields of the recipe that the bound was made from, with their values


@dataclass(frozen=True)
class Advice:
    """How a rejected document would be kept."""

    changes: list[Change]
    is_kept: bool  # the gates were asked again with all changes: none rejects it
    unseen: tuple[str, ...]  # gates whose columns were not measured of it, because of a gate that rejects it

    @property
    def words(self) -> list[str]:
        return [word for change in self.changes for word in change.words]

    @property
    def is_whole(self) -> bool:
        return all(change.changes for change in self.changes)


def advice_on(here: Queries, run: Run, jobs: Sequence[tuple[Entry, Job]], place: Place, verdict: Verdict) -> Advice:
    """For every broken rule the change that moves its bound to the document's value, rounded so that it is kept.

    Only gates with a broken rule are asked again: the others say what they said.
    """
    broken = {answer.gate for answer in verdict.broken}
    changes: list[Change] = []
    still = False
    for entry, job in jobs:
        if entry.stage in broken:
            own = _changes(here, run, entry, job, place.row)
            changes += own
            params = with_changes(job, {path: value for change in own for path, value in change.changes.items()})
            rules = job.stage(one_row(here, job, place.row).for_gate(), params, *extras_of(job))
            still |= bool(any_broken(rules)[0])
    return Advice(changes, not still, unseen_gates(here, [entry for entry, _ in jobs], changes))


def _changes(here: Queries, run: Run, entry: Entry, job: Job, row: int) -> list[Change]:
    one = one_row(here, job, row)
    extras, made = extras_of(job), here.manifest(entry)
    rules = job.stage(one.for_gate(), job.params, *extras)
    found: list[Change] = []
    so_far: dict[str, Any] = {}
    for name, rule in rules.items():
        if not rule.broken[0]:
            continue
        now = job.stage(one.for_gate(), with_changes(job, so_far), *extras)
        if not now[name].broken[0]:
            continue  # another rule's change moved this bound too
        moves = next(_that_keep(job, one, extras, name, rule, so_far), {})
        so_far |= moves
        found.append(
            Change(
                entry,
                name,
                _value(rule),
                moves,
                _bound(rule) if moves else None,
                tuple(set_words(run, made, moves)),
                () if moves else tuple(_behind(here, run, made)),
            )
        )
    return found


def _that_keep(
    job: Job, one: build.Shown, extras: Sequence[Any], name: str, rule: Rule, so_far: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Changes of one field after which the rule holds: fields with the value of the bound, the likeliest first."""
    labels = labels_in(one)
    likeliest = sorted(_moves(job, rule), key=lambda move: -len({name, *labels} & set(move[0].split("."))))
    for path, new in [*_new_entries(job, labels, name, rule), *likeliest][:MOST_TRIED]:
        try:
            params = with_changes(job, so_far | {path: new})
        except ValidationError:
            continue
        if not job.stage(one.for_gate(), params, *extras)[name].broken[0]:
            yield {path: new}


def _new_entries(job: Job, labels: set[str], name: str, rule: Rule) -> Iterator[tuple[str, Any]]:
    """A threshold for the document's label alone in tables where it has none: its bound is derived, or that of all others."""
    if rule.side == "one_of":
        return
    for field, table in job.params.model_dump(mode="json").items():
        others = table.get(OTHERS) if isinstance(table, Mapping) else None
        if isinstance(others, Mapping) and name in others:
            for label in sorted(labels):
                if name not in table.get(label, {}):
                    yield f"{field}.{label}.{name}", outward(float(rule.value[0]), rule.side == "at_most")


def _moves(job: Job, rule: Rule) -> Iterator[tuple[str, Any]]:
    """Every field of the params that has the value of the rule's bound, with the value that lets the row through."""
    bound = _bound(rule)
    for path, value in leaves(job.params.model_dump(mode="json")):
        if rule.side == "one_of" and value == bound:
            yield path, [*value, rule.value[0].as_py()]
        elif isinstance(value, int | float) and not isinstance(value, bool) and value == bound:
            yield path, outward(float(rule.value[0]), rule.side == "at_most", isinstance(value, int))


def outward(value: float, up: bool, whole: bool = False) -> float | int:
    """A number of four digits that a value is not beyond: not under it if `up`, else not over it."""
    toward = np.inf if up else -np.inf
    if whole:
        return int(np.ceil(value) if up else np.floor(value))
    short = float(f"{value:.{DIGITS}g}")
    step = 10.0 ** (np.floor(np.log10(abs(value))) - DIGITS + 1) if value else 0.0
    if (short < value) if up else (short > value):
        short = float(f"{short + (step if up else -step):.{DIGITS}g}")
    found = short if ((short >= value) if up else (short <= value)) else float(np.nextafter(value, toward))
    return int(found) if found.is_integer() else found


def _behind(here: Queries, run: Run, made: Manifest) -> Iterator[str]:
    """The fields of the recipe that the tables were made from which a gate's bounds come from: `floors.lowest (0.3)`."""
    waiting, seen = [read for read in _reads(here, made) if read.shape != "rows"], {made.ref}
    while waiting:
        read = waiting.pop(0)
        stage = stage_of(read.stage)
        if read.ref in seen or stage is None or stage.kind == "gate" or read.stage == "ingest":
            continue
        seen.add(read.ref)
        field = field_of(run, read)
        if stage.kind == "files" and field:
            yield from (f"{field}.{path} ({value})" for path, value in leaves(read.params) if _is_simple(value))
        elif not read.params:
            waiting += _reads(here, read)


def _reads(here: Queries, made: Manifest) -> list[Manifest]:
    """What an artifact was made from, as far as it is there."""
    return [here.manifest(ref) for ref in made.reads if not ref.startswith("adopt/") and here.has(ref)]


def unseen_gates(here: Queries, gates: Sequence[Entry], changes: Sequence[Change]) -> tuple[str, ...]:
    """The gates that read what was only measured of documents that the gates of these changes kept."""
    rejecting = {change.entry.artifact for change in changes}
    return tuple(
        gate.stage
        for gate in gates
        if any(rejecting & set(read.reads) for read in here.reads(gate).values() if read.shape == "rows")
    )


def labels_in(one: build.Shown) -> set[str]:
    """What a gate sees of one row that is no number: its language."""
    return {str(values[0].as_py()) for values in one.columns.values() if not _is_number(values.type)}


def one_row(here: Queries, job: Job, row: int) -> build.Shown:
    """What a gate sees of one row alone: it judges every row by itself."""

    def read() -> build.Shown:
        shown = build.Shown.of(job.parts[0], here.store)
        # Taken, not sliced: a slice would hold the columns of the whole part.
        own = {name: values.take(pa.array([row])) for name, values in shown.columns.items()}
        return build.Shown(own, np.ones(1, np.bool_))

    return here.cache.get(("row", job.stage.name, job.key, row), read)


def with_changes(job: Job, changes: dict[str, Any]) -> Any:
    """A gate's params with the values of some fields changed; ValidationError where one is out of bounds."""
    if not changes:
        return job.params
    return type(job.params).model_validate(changed(job.params.model_dump(mode="json"), changes))


def any_broken(rules: Rules) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Of each row whether any rule is broken."""
    return np.asarray(np.logical_or.reduce([rule.broken for rule in rules.values()]))


def _value(rule: Rule) -> float | str | None:
    if rule.side == "one_of":
        return str(rule.value[0].as_py())
    return float(rule.value[0])


def _bound(rule: Rule) -> list[str] | float:
    return list(rule.bound) if rule.side == "one_of" else float(np.ravel(rule.bound)[0])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_simple(value: Any) -> bool:
    return isinstance(value, int | float | str)
