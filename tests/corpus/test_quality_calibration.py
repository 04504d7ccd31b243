"""Calibrated scores are probabilities at equal shares of both classes."""

import numpy as np
import pytest

from polylm.tasks.corpus import calibration


def drawn(positives, negatives, seed=4):
    """Scores whose log odds are three times too sure and shifted, and their classes."""
    draw = np.random.default_rng(seed)
    truth = np.concatenate([draw.normal(1, np.sqrt(2), positives), draw.normal(-1, np.sqrt(2), negatives)])
    return 1 / (1 + np.exp(-(3 * truth - 2))), np.arange(positives + negatives) < positives


def test_of_the_scores_near_a_probability_that_share_is_positive():
    scores, is_positive = drawn(20_000, 20_000)
    found = calibration.apply(calibration.fit(scores, is_positive).line, scores)
    for low in np.arange(0.1, 0.9, 0.1):
        inside = (found >= low) & (found < low + 0.1)
        assert is_positive[inside].mean() == pytest.approx(found[inside].mean(), abs=0.03)


def test_the_shares_of_the_classes_do_not_move_the_line():
    even, uneven = (calibration.fit(*drawn(positives, 20_000)).line for positives in (20_000, 2_000))
    assert even == pytest.approx(uneven, abs=0.05)


def test_classes_that_part_cleanly_have_a_finite_line():
    scores = np.array([0.0, 0.1, 0.9, 1.0])
    fit = calibration.fit(scores, np.array([False, False, True, True]))
    assert fit.auc == 1.0
    found = calibration.apply(fit.line, scores)
    assert (np.diff(found) >= 0).all()
    assert 0 < found[0] < 0.5 < found[-1] < 1


def test_the_area_is_the_chance_that_a_positive_scores_above_a_negative():
    draw = np.random.default_rng(1)
    scores, is_positive = draw.integers(0, 6, 60).astype(float), draw.random(60) < 0.4
    pairs = [(p > n) + (p == n) / 2 for p in scores[is_positive] for n in scores[~is_positive]]
    assert calibration.area_under_curve(scores, is_positive) == pytest.approx(np.mean(pairs), abs=1e-4)
    with pytest.raises(ValueError, match="0 positives and 1 negatives"):
        calibration.area_under_curve(scores[:1], np.array([False]))
