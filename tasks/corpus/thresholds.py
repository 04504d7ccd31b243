"""Thresholds for languages that nobody published any for, derived from the corpus's own clean text.

Clean text is what the recipe's reference kinds are, as for the quality models. FineWeb2 (arXiv 2506.20920) derives its
thresholds so, and names its methods: a quantile, the worst tenth, mean and standard deviation, the ratio of medians.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polylm.tasks.corpus.language import places_by_language
from polylm.tasks.corpus.rule_sets import rule_set, sane_range
from polylm.tasks.corpus.text import JUDGED
from polylm.tasks.corpus.text_rules import RULES, value_of
from polylm.tasks.documents.schema import REFERENCE
from polylm.tasks.stage import Corpus, Field, Params, Rows, files

THRESHOLDS = {
    "language": pa.string(),
    "rule": pa.string(),
    "method": pa.string(),
    "threshold": pa.float64(),
    "chosen": pa.bool_(),
    "note": pa.string(),
    "references": pa.int64(),
    "references_removed": pa.int64(),
    "others": pa.int64(),
    "others_removed": pa.int64(),
}
Method = Literal["quantile", "tail", "mean_std", "median_ratio", "english"]
METHODS: tuple[Method, ...] = ("quantile", "tail", "mean_std", "median_ratio", "english")
DERIVED = tuple(rule for rule, about in RULES.items() if about.derived)
STOP_RULE, STOP_MINIMUM = "gopher_enough_stop_words", 2.0  # as FineWeb2 has it in every language
_FEW_STOPS = 1.5  # fewer than two, whatever the edges of steps are
_STEPS_A_DOUBLING = 1_024  # of a histogram: a step is 0.07 % of a value
_SMALLEST = 1e-9
_EDGE = 1e-12  # a value at the edge of a step may be counted to either side

Histogram: TypeAlias = dict[int, int]  # how often each step occurs; step 0 is the value 0


class ThresholdParams(Params):
    reference_kinds: tuple[str, ...] = Field(
        (REFERENCE, "doc", "book"),
        description="Kinds of documents that read well: all of sources whose role it is, and these.",
        source="ours, as for the quality models",
    )
    min_references: int = Field(
        100, ge=1, description="Of a language; with fewer nothing is derived.", unit="documents", source="ours"
    )
    method: Method = Field("quantile", description="Which candidate is chosen.", source="ours, docs/benchmarks.md")
    quantile: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="Share of the reference that a rule removes.",
        source="ours, docs/benchmarks.md: nearest to FineWeb2's own thresholds",
    )
    tail: float = Field(0.10, gt=0, lt=0.5, description="The same for the method `tail`.", source="FineWeb2's 10Tail")
    deviations: float = Field(
        3.0, gt=0, description="Standard deviations from the mean.", source="ours; FineWeb2's MeanStd gives no number"
    )


@files(reads=["language", "kind", *JUDGED], writes=THRESHOLDS, cheap=True, version=1)
def fit_thresholds(corpus: Corpus, params: ThresholdParams) -> pa.Table:
    """Derive every rule's threshold in every language from its clean text, by each method, with what it would remove.

    One candidate a rule is chosen, within sane bounds; the gate takes it where its language has no threshold of its own.
    From integer histograms in steps of 0.07 %, so that the order of parts cannot change a digit. Memory: 100 bytes a step
    that occurs, mostly some 100 kB a language and rule.
    """
    clean: dict[str, dict[str, Histogram]] = {}
    others: dict[str, dict[str, Histogram]] = {}
    for rows in corpus:
        is_reference = np.isin(np.asarray(rows["kind"].fill_null("")), params.reference_kinds)
        values = _values(rows)
        for language, places in places_by_language(rows["language"]).items():
            reference = is_reference[places]
            for found, chosen in ((clean, places[reference]), (others, places[~reference])):
                _add(found.setdefault(language, {}), values, chosen)
    table = [
        {"language": language, **row}
        for language in sorted(clean)
        if _documents(clean[language]) >= params.min_references
        for row in _candidates(clean[language], others.get(language, {}), clean.get("en", {}), params)
    ]
    return pa.Table.from_pylist(table, pa.schema(list(THRESHOLDS.items())))


def threshold_at(histogram: Mapping[int, int], share: float, *, side: str) -> float | None:
    """The bound beyond which at most `share` of the values lie: the edge of a step; None of no values."""
    steps = sorted(histogram, reverse=side == "max")
    room, allowed = share * sum(histogram.values()), 0
    for step in steps:
        allowed += histogram[step]
        if allowed > room:
            return _upper(step) if side == "max" else _lower(step)
    return None


def removed(histogram: Mapping[int, int], threshold: float | None, *, side: str) -> int:
    """How many values break a threshold; those of the step that it stands in do if the middle of it does."""
    if threshold is None:
        return 0
    sign = 1 if side == "max" else -1
    return sum(count for step, count in histogram.items() if sign * (_middle(step) - threshold) > 0)


def _values(rows: Rows) -> dict[str, NDArray[np.float64]]:
    columns = {name: rows[name].cast(pa.float64()).fill_null(np.nan).to_numpy() for name in JUDGED}
    return {rule: value_of(rule, columns) for rule in (*DERIVED, STOP_RULE)}


def _add(
    histograms: dict[str, Histogram], values: Mapping[str, NDArray[np.float64]], places: NDArray[np.int64]
) -> None:
    for rule, all_values in values.items():
        own = all_values[places]
        steps, counts = np.unique(_steps(own[~np.isnan(own)]), return_counts=True)
        histogram = histograms.setdefault(rule, {})
        for step, count in zip(steps.tolist(), counts.tolist(), strict=True):
            histogram[step] = histogram.get(step, 0) + count


def _steps(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """0 for 0, else the number of the step on a scale of logarithms."""
    scaled = np.log2(np.maximum(values, _SMALLEST) / _SMALLEST) * _STEPS_A_DOUBLING
    return np.where(values <= 0, 0, 1 + np.floor(scaled)).astype(np.int64)


def _lower(step: int) -> float:
    return 0.0 if step == 0 else float(_SMALLEST * 2 ** ((step - 1) / _STEPS_A_DOUBLING)) * (1 - _EDGE)


def _upper(step: int) -> float:
    return 0.0 if step == 0 else _lower(step + 1) * (1 + 2 * _EDGE)


def _middle(step: int) -> float:
    return (_lower(step) + _upper(step)) / 2


def _documents(histograms: Mapping[str, Histogram]) -> int:
    return sum(histograms[STOP_RULE].values()) if histograms else 0


def _candidates(
    clean: Mapping[str, Histogram],
    others: Mapping[str, Histogram],
    english: Mapping[str, Histogram],
    params: ThresholdParams,
) -> Iterator[dict[str, Any]]:
    for rule in DERIVED:
        for method in METHODS:
            found = _by_method(method, rule, clean[rule], english.get(rule, {}), params)
            threshold, note = _sane(rule, found)
            yield _row(rule, method, threshold, note, clean, others) | {"chosen": method == params.method}
    threshold, note = _stop_threshold(clean[STOP_RULE], params)
    yield _row(STOP_RULE, "fixed", threshold, note, clean, others) | {"chosen": True}


def _row(
    rule: str,
    method: str,
    threshold: float | None,
    note: str,
    clean: Mapping[str, Histogram],
    others: Mapping[str, Histogram],
) -> dict[str, Any]:
    side, held = RULES[rule].side, _FEW_STOPS if rule == STOP_RULE and threshold else threshold
    counted = {"references": clean[rule], "others": others.get(rule, {})}
    numbers = {name: sum(histogram.values()) for name, histogram in counted.items()}
    broken = {f"{name}_removed": removed(histogram, held, side=side) for name, histogram in counted.items()}
    return {"rule": rule, "method": method, "threshold": threshold, "note": note, **numbers, **broken}


def _by_method(
    method: Method, rule: str, clean: Histogram, english: Histogram, params: ThresholdParams
) -> float | None:
    """A candidate before it is held against sane bounds; None where the method has nothing to go by."""
    side, published = (
        RULES[rule].side,
        rule_set("paper" if rule.startswith("paper_") else "fineweb", "en").thresholds[rule],
    )
    if method in ("quantile", "tail"):
        return threshold_at(clean, params.quantile if method == "quantile" else params.tail, side=side)
    if method == "mean_std":
        mean, deviation = _moments(clean)
        return mean + (1 if side == "max" else -1) * params.deviations * deviation
    if method == "english" or published is None:
        return published
    ours, theirs = (_middle(_median(histogram)) if histogram else 0.0 for histogram in (clean, english))
    return published * ours / theirs if theirs > 0 and ours > 0 else None


def _sane(rule: str, found: float | None) -> tuple[float | None, str]:
    """The threshold within sane bounds, four digits of it, and what was done to it."""
    if found is None:
        return None, "off: the method has nothing to go by"
    if RULES[rule].is_void(found):
        return None, f"off: nothing could break {found:.4g}"
    low, high = sane_range(rule)
    kept = min(max(found, low), high)
    return _rounded(kept, RULES[rule].side), "" if kept == found else f"{found:.4g} is not sane"


def _rounded(threshold: float, side: str) -> float:
    """Four digits of it, on the side on which it removes less: shares such as 8/9 are shared by many texts."""
    scale = 10.0 ** (3 - math.floor(math.log10(threshold))) if threshold > 0 else 1.0
    whole = math.ceil(threshold * scale - 1e-6) if side == "max" else math.floor(threshold * scale + 1e-6)
    return float(f"{whole / scale:.4g}")


def _stop_threshold(clean: Histogram, params: ThresholdParams) -> tuple[float | None, str]:
    """Two stop words, where clean text nearly always has them."""
    lost = removed(clean, _FEW_STOPS, side="min")
    if lost > params.tail * sum(clean.values()):
        return None, f"off: {lost} clean texts have fewer than {STOP_MINIMUM:.0f} stop words"
    return STOP_MINIMUM, ""


def _moments(histogram: Histogram) -> tuple[float, float]:
    """Mean and standard deviation, of the middles of steps in order."""
    steps = sorted(histogram)
    middles = np.array([_middle(step) for step in steps])
    counts = np.array([histogram[step] for step in steps], np.float64)
    mean = float(counts @ middles / counts.sum())
    return mean, float(np.sqrt(counts @ (middles - mean) ** 2 / counts.sum()))


def _median(histogram: Histogram) -> int:
    half, seen = sum(histogram.values()) / 2, 0
    for step in sorted(histogram):
        seen += histogram[step]
        if seen >= half:
            return step
    return 0
