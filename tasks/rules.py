"""What a gate returns: rules, from which verdicts, margins, histograms and what-if are all derived.

A rule compares one value a row with one bound; a gate is a dict of them in the order in which reasons are given:

    return {"too_short": at_least(rows["chars"], params.min_chars),
            "other_language": one_of(rows["language"], params.languages)}
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from polylm.tasks.stage import StageError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Side = Literal["at_least", "at_most", "one_of"]


@dataclass(frozen=True)
class Rule:
    """`value` side `bound`, row by row; broken where it does not hold. NaN (or a null label) is not judged."""

    value: Any  # float64 array, or a dictionary-encoded Arrow array for one_of
    side: Side
    bound: Any  # a number, an array of one bound a row, or the allowed labels

    @property
    def judged(self) -> Bools:
        if self.side == "one_of":
            return np.asarray(pc.is_valid(self.value))
        return np.asarray(~(np.isnan(self.value) | np.isnan(self.bound)))

    @property
    def broken(self) -> Bools:
        if self.side == "one_of":
            return np.asarray(self.judged & ~_is_in(self.value, self.bound))
        compare = np.less if self.side == "at_least" else np.greater
        return np.asarray(compare(self.value, self.bound))  # False at NaN

    @property
    def margin(self) -> Floats:
        """Distance to the bound, negative where broken; 0 and -1 for `one_of`; NaN where not judged."""
        if self.side == "one_of":
            return np.where(self.judged, 0.0 - self.broken, np.nan)
        sign = 1.0 if self.side == "at_least" else -1.0
        return np.asarray((self.value - self.bound) * sign)

    def at(self, row: int) -> "Rule":
        """The same rule for one row alone."""
        bound = self.bound
        if self.side != "one_of" and np.ndim(bound):
            bound = bound[row : row + 1]
        value = self.value.slice(row, 1) if isinstance(self.value, pa.Array) else self.value[row : row + 1]
        return Rule(value, self.side, bound)


Rules = Mapping[str, Rule]


def at_least(value: Any, floor: Any) -> Rule:
    """Broken where `value` < `floor`; either may be an array of one number a row."""
    return Rule(np.asarray(value, np.float64), "at_least", _bound(floor))


def at_most(value: Any, ceiling: Any) -> Rule:
    """Broken where `value` > `ceiling`."""
    return Rule(np.asarray(value, np.float64), "at_most", _bound(ceiling))


def one_of(value: Any, allowed: Collection[str]) -> Rule:
    """Broken where a label is not among those allowed."""
    return Rule(value.dictionary_encode() if isinstance(value, pa.StringArray) else value, "one_of", tuple(allowed))


def lookup(labels: pa.DictionaryArray, table: Mapping[str, float], default: float = np.nan) -> Floats:
    """One number a row from a table by label, for thresholds that differ by language; `default` elsewhere."""
    names = labels.dictionary.to_pylist()
    by_code = np.array([*(table.get(name, default) for name in names), default], np.float64)
    codes = labels.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
    return np.asarray(
        by_code.take(codes, mode="clip")
    )  # in half the time: no bounds are checked, and codes are in them


def judge(rules: Rules, any_null: Bools, gate: str) -> pa.DictionaryArray:
    """The first broken rule of every row, null = kept.

    Raises StageError where a rule has no value although none of the gate's columns is null there: a NaN that the gate
    made itself (a division by zero) would keep the row without judging it.
    """
    reasons = np.full(len(any_null), -1, np.int8)
    for code, (name, rule) in reversed(list(enumerate(rules.items()))):
        if (len(rule.value)) != len(any_null):
            raise StageError(f"{gate}: rule {name} has {len(rule.value)} values for {len(any_null)} rows")
        unjudged = ~rule.judged & ~any_null
        if unjudged.any():
            row = int(np.flatnonzero(unjudged)[0])
            raise StageError(f"{gate}: rule {name} is NaN in row {row}, where no column is null: guard the division")
        reasons[rule.broken] = code
    codes = pa.array(reasons, mask=reasons < 0)
    return pa.DictionaryArray.from_arrays(codes, pa.array(list(rules), pa.string()))


def count_reasons(verdicts: pa.Array | pa.ChunkedArray) -> dict[str, int]:
    """How many rows each reason rejected, in the order of names; kept rows are not counted."""
    counts = pc.value_counts(pc.drop_null(verdicts.cast(pa.string()))).to_pylist()
    return {entry["values"]: entry["counts"] for entry in sorted(counts, key=lambda entry: str(entry["values"]))}


def _bound(bound: Any) -> Any:
    return np.asarray(bound, np.float64) if np.ndim(bound) else float(bound)


def _is_in(labels: pa.DictionaryArray, allowed: Collection[str]) -> Bools:
    codes = labels.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    in_set = np.array([name in set(allowed) for name in labels.dictionary.to_pylist()] or [False], np.bool_)
    return in_set[codes] if len(codes) else np.zeros(0, np.bool_)
