"""Standard errors: a sample's own, and those of averages over translations of the same items."""

import random

import pytest

from polylm.tasks.evaluation.errors import (
    average_deviations,
    by_item,
    mean_and_deviations,
    resampled_deviations,
    standard_error,
)


def test_the_error_of_a_share_is_the_samples():
    share, deviations = mean_and_deviations([1, 0, 1, 1, 0], "abcde")
    assert share == pytest.approx(0.6)
    assert standard_error(deviations) == pytest.approx((0.6 * 0.4 / 4) ** 0.5)  # as lm-eval gives it


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [1.0, 1.0], [0.7]])
def test_a_sample_whose_items_agree_tells_no_error(values):
    assert standard_error(mean_and_deviations(values, range(len(values)))[1]) is None


def test_languages_that_agree_on_every_item_are_no_surer_than_one():
    _, deviations = mean_and_deviations([1, 0, 1, 1, 0], "abcde")
    one = standard_error(deviations)
    assert standard_error(average_deviations([deviations] * 6)) == pytest.approx(one)


def test_figures_of_other_items_add_as_independent_ones():
    _, first = mean_and_deviations([1, 0, 1], "abc")
    _, second = mean_and_deviations([0, 1, 1, 0], "defg")
    expected = (standard_error(first) ** 2 + standard_error(second) ** 2) ** 0.5 / 2
    assert standard_error(average_deviations([first, second])) == pytest.approx(expected)


def test_the_error_of_an_average_is_that_of_the_items_means():
    """The slow reference: average each item over the languages first, then take the sample's error."""
    draw = random.Random(4)
    answers = [[draw.random() + hard for hard in (0.1, 0.9, 0.4, 0.6, 0.2)] for _ in range(7)]
    _, expected = mean_and_deviations([sum(of_item) / 7 for of_item in zip(*answers, strict=True)], range(5))
    found = average_deviations([mean_and_deviations(values, range(5))[1] for values in answers])
    assert standard_error(found) == pytest.approx(standard_error(expected))


def test_two_texts_of_one_item_are_one_cluster():
    assert by_item(["a", "b", "a"], [0.1, 0.2, 0.3]) == pytest.approx({"a": 0.4, "b": 0.2})


def test_resamples_give_their_standard_deviation():
    assert standard_error(resampled_deviations([10.0, 12.0, 14.0])) == pytest.approx(2.0)
