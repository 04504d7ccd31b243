"""Standard errors of figures, and of averages over languages whose questions are translations of each other.

Every item of a figure has a deviation: what it moves the figure by, scaled so that stderr^2 = sum of deviation^2. In an
average over languages the deviations of the same item are added before they are squared, because an item that is hard
in one language is hard in all: the error of clustered items (Miller 2024, "Adding error bars to evals", section 2.2).
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

Deviations = Mapping[Hashable, float]


def mean_and_deviations(values: Sequence[float], items: Sequence[Hashable]) -> tuple[float, Deviations]:
    """The mean of values, one an item; its error is the sample's, s / sqrt(n)."""
    count = len(values)
    mean = sum(values) / count
    scale = (count * max(1, count - 1)) ** 0.5
    return mean, by_item(items, [(value - mean) / scale for value in values])


def by_item(items: Sequence[Hashable], deviations: Sequence[float]) -> Deviations:
    """Deviations by item; those of an item that is there twice, as in both Chinese scripts, are added."""
    together: defaultdict[Hashable, float] = defaultdict(float)
    for item, deviation in zip(items, deviations, strict=True):
        together[item] += deviation
    return together


def resampled_deviations(scores: Sequence[float]) -> Deviations:
    """Of bootstrap scores, each resample as an item: figures that drew the same items in the same order add up right."""
    mean = sum(scores) / len(scores)
    scale = max(1, len(scores) - 1) ** 0.5
    return {number: (score - mean) / scale for number, score in enumerate(scores)}


def average_deviations(figures: Sequence[Deviations]) -> Deviations:
    """Of the plain mean of figures: deviations of the same item added, over the number of figures."""
    items = [item for figure in figures for item in figure]
    return by_item(items, [deviation / len(figures) for figure in figures for deviation in figure.values()])


def with_error(deviations: Deviations) -> dict[str, Any]:
    """The fields of a row of EVALUATION: its standard error, and the deviations that averages are made of."""
    return {"stderr": standard_error(deviations), "deviations": deviations}


def standard_error(deviations: Deviations) -> float | None:
    """None where all items agree (0 of 3 right): such a sample says nothing of how sure its figure is."""
    squares = sum(deviation**2 for deviation in deviations.values())
    return squares**0.5 if squares > 1e-18 else None
