"""What a classifier's scores are worth: AUC, and a line through their log odds that makes them probabilities (Platt 1999)."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Line: TypeAlias = tuple[float, float]  # slope and height over the log odds of a score

_LEAST = 1e-6  # scores are taken from here to 1 - here: fastText's have no more digits
_STEPS = 50  # Newton's method is at rest after about ten


@dataclass(frozen=True, slots=True)
class Fit:
    line: Line
    auc: float


def fit(scores: Floats, is_positive: NDArray[np.bool_]) -> Fit:
    """Fit to held-out scores, both classes with the same weight, so that 0.5 means: as likely the one as the other.

    The targets are Platt's, a little inside 0 and 1, so that classes which part cleanly have a finite line. Rounded to
    6 decimals, so that machines agree.
    """
    return Fit(_line(scores, is_positive), area_under_curve(scores, is_positive))


def apply(line: Line, scores: Floats) -> Floats:
    """Probabilities of scores."""
    return np.asarray(1 / (1 + np.exp(-(line[0] * _log_odds(scores) + line[1]))))


def area_under_curve(scores: Floats, is_positive: NDArray[np.bool_]) -> float:
    """The chance that a positive scores above a negative, ties half (Mann and Whitney), to 4 decimals."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    if not positives or not negatives:
        raise ValueError(f"{positives} positives and {negatives} negatives: an AUC needs both")
    above = ranks[is_positive].sum() - positives * (positives + 1) / 2
    return round(float(above / (positives * negatives)), 4)


def _log_odds(scores: Floats) -> Floats:
    clipped = np.clip(scores, _LEAST, 1 - _LEAST)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _line(scores: Floats, is_positive: NDArray[np.bool_]) -> Line:
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    targets = np.where(is_positive, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    weights = np.where(is_positive, 0.5 / positives, 0.5 / negatives)
    terms = np.stack([_log_odds(scores), np.ones(len(scores))])
    line = np.array([1.0, 0.0])
    for _ in range(_STEPS):
        likely = 1 / (1 + np.exp(-(line @ terms)))
        slope = terms @ (weights * (likely - targets))
        curve = (terms * (weights * likely * (1 - likely))) @ terms.T + 1e-9 * np.eye(2)
        line = line - np.clip(np.linalg.solve(curve, slope), -1, 1)
    return round(float(line[0]), 6), round(float(line[1]), 6)
