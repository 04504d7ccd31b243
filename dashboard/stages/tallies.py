"""What each rule of a gate removes, alone, first and by itself only, and how a move changes it: estimates with errors."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from polylm.dashboard.stages.sampling import Bits, Ints, Sample
from polylm.tasks.rules import Rule
from polylm.tasks.stage import Params

Z = 1.96  # of an interval that holds 95 of 100 times
ANSWER_SECONDS = 0.08  # for judging; where a move touches more rows, a sample of them is judged
LEARNED_ROWS = 20_000
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number of documents (or bytes) in the whole store; `error` is half of its 95 % interval, 0 where all were seen."""

    value: float
    error: float = 0.0


@dataclass(frozen=True)
class RuleTally:
    """What one rule removes: in any case; where no rule before it does; where no other rule does."""

    rule: str
    alone: Estimate
    first: Estimate
    only: Estimate


@dataclass(frozen=True)
class Tallies:
    """All rules over the documents of some labels."""

    documents: int
    rejected: Estimate
    rules: list[RuleTally]
    both: Floats  # documents that break rule i and rule j


@dataclass(frozen=True)
class Change:
    """What a move does to the documents of one label, or of all (label None)."""

    label: str | None
    documents: int
    kept: Estimate  # before
    change: Estimate
    amount: Estimate  # bytes or characters kept before
    amount_change: Estimate
    passing: Estimate  # the change in documents that no other gate of the run rejects


@dataclass(frozen=True)
class WhatIf:
    """The answer to a move."""

    total: Change
    by_label: list[Change]
    touched: list[str]  # rules that the move reaches
    alone: list[tuple[str, Estimate, Estimate]]  # of those: what they remove before, and after
    gained: Ints  # rows of the sample that would be kept; some
    lost: Ints
    judged: int  # rows
    is_exact: bool


def tally(sample: Sample, labels: Sequence[int]) -> Tallies:
    """Count the rules over the documents of some labels, each label weighted by how many documents it has."""
    count = len(sample.rules)
    sums, spread = np.zeros((3, count), np.float64), np.zeros((3, count), np.float64)  # alone, first, only
    both, rejected, rejected_spread = np.zeros((count, count)), 0.0, 0.0
    for label in labels:
        found = sample.bits[sample.of(label)]
        documents, seen = int(sample.population[label]), len(found)
        if not seen:
            continue
        patterns, times = np.unique(found, return_counts=True)
        masks = _masks(patterns, count)
        kinds = (masks, _first(masks), masks & (masks.sum(axis=0) == 1))
        for kind, mask in enumerate(kinds):
            hits = mask @ times
            sums[kind] += documents * hits / seen
            spread[kind] += _variance(hits, seen, documents)
        both += documents / seen * ((masks * times) @ masks.T)
        hit = int(times[patterns != 0].sum())
        rejected += documents * hit / seen
        rejected_spread += float(_variance(np.array(hit), seen, documents))
    rules = [
        RuleTally(name, *(Estimate(float(sums[k, i]), Z * math.sqrt(spread[k, i])) for k in range(3)))
        for i, name in enumerate(sample.rules)
    ]
    documents = int(sum(sample.population[label] for label in labels))
    return Tallies(documents, Estimate(rejected, Z * math.sqrt(rejected_spread)), rules, both)


def what_if(sample: Sample, params: Params, extras: Sequence[Any] | None = None, flips: int = 4) -> WhatIf:
    """Ask the gate with other params, or other tables: only rules and labels that the move reaches are judged again.

    What it reaches is found by looking, at 256 rows of every label.
    """
    touched, labels = reach(sample, params, extras=extras)
    reached = [slice_ for label in labels if (slice_ := sample.of(label)).stop > slice_.start]
    total = sum(rows.stop - rows.start for rows in reached)
    share = min(1.0, sample.rows_a_second * ANSWER_SECONDS / max(1, total))
    rows = [_beginning(one, share) for one in reached]
    began = time.perf_counter()
    judged = sample.bits_of(params, rows, touched, extras)
    _learn_rate(sample, sum(len(bits) for bits in judged), time.perf_counter() - began)
    stay = ~np.uint64(sum(1 << index for index in touched))
    after = {one.start: (sample.bits[one] & stay) | new for one, new in zip(rows, judged, strict=True)}
    changes = [_change(sample, label, after.get(int(sample.starts[label]))) for label in range(len(sample.labels))]
    gained, lost = _flips(sample, after, flips)
    return WhatIf(
        total=_total(changes),
        by_label=[changes[label] for label in labels],
        touched=[sample.rules[index] for index in touched],
        alone=[(sample.rules[i], *_alone(sample, i, after)) for i in touched],
        gained=gained,
        lost=lost,
        judged=sum(len(bits) for bits in judged),
        is_exact=share == 1.0 and sample.rows == sample.documents,
    )


def reach(
    sample: Sample, params: Params, label: int | None = None, extras: Sequence[Any] | None = None
) -> tuple[list[int], list[int]]:
    """The rules (by index) that other params reach, and the labels where they do: by looking at some rows of each (of one)."""
    places, before = sample.probe if label is None else sample.probe_of([label])
    after = sample.ask(params, places, extras)
    differ = np.array([_differs(before[name], after[name]) for name in sample.rules]).reshape(len(sample.rules), -1)
    rules = [int(i) for i in np.flatnonzero(differ.any(axis=1))]
    where = np.searchsorted(sample.starts, places[differ.any(axis=0)], side="right") - 1
    return rules, [int(label) for label in np.unique(where)]


def _learn_rate(sample: Sample, judged: int, seconds: float) -> None:
    """How fast the gate judges changes with what else the machine does."""
    if judged >= LEARNED_ROWS:
        sample.rows_a_second = (sample.rows_a_second + judged / max(1e-6, seconds)) / 2


def nearest(rule: Rule, count: int) -> tuple[Ints, Ints]:
    """The rows nearest to a rule's bound, by their places among those that were asked: just rejected, and just kept."""
    margin, sides = rule.margin, []
    for side in (margin < 0, margin >= 0):
        places = np.flatnonzero(side & np.isfinite(margin))
        sides.append(places[np.argsort(np.abs(margin[places]), kind="stable")[:count]].astype(np.int64))
    return sides[0], sides[1]


def _differs(before: Rule, after: Rule) -> npt.NDArray[np.bool_]:
    if before.side == "one_of" or after.side == "one_of":
        same = before.side == after.side and set(before.bound) == set(after.bound)
        return np.full(len(before.value), not same)
    rows = len(before.value)
    return ~(_same(before.value, after.value) & _same(_wide(before.bound, rows), _wide(after.bound, rows)))


def _same(left: Floats, right: Floats) -> npt.NDArray[np.bool_]:
    return np.asarray((left == right) | (np.isnan(left) & np.isnan(right)))


def _wide(bound: object, rows: int) -> Floats:
    return np.broadcast_to(np.asarray(bound, np.float64), (rows,))


def _masks(patterns: Bits, count: int) -> npt.NDArray[np.bool_]:
    """Rules by patterns: whether the rule is broken in it."""
    bits = patterns[None, :] >> np.arange(count, dtype=np.uint64)[:, None]
    return np.asarray((bits & np.uint64(1)) == 1)


def _first(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return np.asarray(masks & (np.cumsum(masks, axis=0) == 1))


def _variance(hits: npt.NDArray[np.int64], seen: int, documents: int) -> Floats:
    """Of an estimated number of documents: binomial, without replacement; one hit and one miss are added, as nothing
    seen is not nothing there (Agresti and Coull 1998)."""
    share = (hits + 1) / (seen + 2)
    return np.asarray(documents**2 * share * (1 - share) / seen * (1 - seen / documents))


def _beginning(rows: slice, share: float) -> slice:
    return slice(rows.start, rows.start + math.ceil((rows.stop - rows.start) * share))


def _change(sample: Sample, label: int, after: Bits | None) -> Change:
    documents, none = int(sample.population[label]), Estimate(0.0)
    kept, amount = _kept(sample, label)
    if after is None:
        return Change(sample.labels[label], documents, kept, none, amount, none, none)
    begin = sample.of(label).start
    some = slice(begin, begin + len(after))
    step = (after == 0).astype(np.float64) - (sample.bits[some] == 0)
    pieces = (step, step * sample.amount[some], step * ~sample.elsewhere[some])
    change, of_amount, passing = (_estimate(piece, documents) for piece in pieces)
    return Change(sample.labels[label], documents, kept, change, amount, of_amount, passing)


def _kept(sample: Sample, label: int) -> tuple[Estimate, Estimate]:
    """Documents of a label that the gate kept in the run, and their bytes."""
    found: tuple[Estimate, Estimate] | None = sample.kept.get(label)
    if found is None:
        rows, documents = sample.of(label), int(sample.population[label])
        kept = (sample.bits[rows] == 0).astype(np.float64)
        found = _estimate(kept, documents), _estimate(kept * sample.amount[rows], documents)
        sample.kept[label] = found
    return found


def _estimate(values: Floats, documents: int) -> Estimate:
    return Estimate(documents * float(values.mean()) if len(values) else 0.0, _error(values, documents))


def _error(values: Floats, documents: int) -> float:
    """Half of the 95 % interval of a sum over all documents, from those seen; one more of the mean size is reckoned with."""
    seen = len(values)
    if seen in (0, documents):
        return 0.0
    largest = float(np.abs(values).max(initial=0.0)) or 1.0
    variance = float(values.var()) + largest**2 / seen
    return Z * documents * math.sqrt(variance / seen * (1 - seen / documents))


def _total(changes: Sequence[Change]) -> Change:
    names = ("kept", "change", "amount", "amount_change", "passing")
    summed = {name: _sum([getattr(change, name) for change in changes]) for name in names}
    return Change(None, sum(change.documents for change in changes), **summed)


def _sum(estimates: Sequence[Estimate]) -> Estimate:
    return Estimate(sum(e.value for e in estimates), math.sqrt(sum(e.error**2 for e in estimates)))


def _alone(sample: Sample, rule: int, after: dict[int, Bits]) -> tuple[Estimate, Estimate]:
    """Documents that a rule removes before and after a move, of the labels that it reaches."""
    bit, before, then = np.uint64(1 << rule), [], []
    for label, documents in enumerate(sample.population):
        if (moved := after.get(int(sample.starts[label]))) is not None:
            found = sample.bits[sample.of(label)]
            before.append(_estimate(((found & bit) != 0).astype(np.float64), int(documents)))
            then.append(_estimate(((moved & bit) != 0).astype(np.float64), int(documents)))
    return _sum(before), _sum(then)


def _flips(sample: Sample, after: dict[int, Bits], most: int) -> tuple[Ints, Ints]:
    gained, lost = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start, bits in after.items():
        before = sample.bits[start : start + len(bits)]
        gained.append(start + np.flatnonzero((bits == 0) & (before != 0))[:most])
        lost.append(start + np.flatnonzero((bits != 0) & (before == 0))[:most])
    return np.concatenate(gained)[:most], np.concatenate(lost)[:most]
