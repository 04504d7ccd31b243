"""Rules: what they compare, what they say of nulls, and what a gate's verdicts are made of."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polylm.tasks.rules import at_least, at_most, count_reasons, judge, lookup, one_of
from polylm.tasks.stage import StageError

NAN = float("nan")
numbers = st.floats(-5, 5) | st.just(NAN)


def labels(*names):
    return pa.array(names, pa.string()).dictionary_encode()


def no_nulls(count):
    return np.zeros(count, np.bool_)


def test_a_value_equal_to_its_bound_holds():
    assert at_least([1.0, 0.999], 1).broken.tolist() == [False, True]
    assert at_most([1.0, 1.001], 1).broken.tolist() == [False, True]


def test_margins_are_negative_exactly_where_a_rule_is_broken():
    assert at_least([3.0, 1.0], 2).margin.tolist() == [1.0, -1.0]
    assert at_most([3.0, 1.0], 2).margin.tolist() == [-1.0, 1.0]
    assert one_of(labels("th", "xx"), ["th"]).margin.tolist() == [0.0, -1.0]


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20))
def test_broken_judged_and_margin_agree_with_a_slow_reference(pairs):
    values, bounds = ([pair[i] for pair in pairs] for i in (0, 1))
    for rule, sign in ((at_least(values, np.array(bounds)), 1), (at_most(values, np.array(bounds)), -1)):
        for row, (value, bound) in enumerate(pairs):
            is_judged = value == value and bound == bound
            assert rule.judged[row] == is_judged
            assert rule.broken[row] == (is_judged and sign * value < sign * bound)
            assert np.isnan(rule.margin[row]) if not is_judged else (rule.margin[row] < 0) == rule.broken[row]


def test_one_of_compares_labels_and_does_not_judge_a_null():
    rule = one_of(labels("th", None, "en", "xx"), ("en", "th"))
    assert rule.broken.tolist() == [False, False, False, True]
    assert rule.judged.tolist() == [True, False, True, True]


def test_one_of_nothing_rejects_every_label_and_of_no_rows_none():
    assert one_of(labels("a", "b"), ()).broken.tolist() == [True, True]
    assert one_of(labels(), ("a",)).broken.tolist() == []
    assert one_of(labels(None, None), ("a",)).broken.tolist() == [False, False]


def test_lookup_gives_each_label_its_number_and_the_default_to_others():
    found = lookup(labels("th", "en", None, "xx"), {"th": 1.0, "en": 2.0}, default=9.0)
    assert found.tolist() == [1.0, 2.0, 9.0, 9.0]


def test_the_first_broken_rule_in_the_order_written_is_the_reason():
    value = np.array([1.0, 5.0, 9.0])
    rules = {"low": at_least(value, 2), "not_high": at_least(value, 8)}
    assert judge(rules, no_nulls(3), "g").to_pylist() == ["low", "not_high", None]
    assert judge(dict(reversed(rules.items())), no_nulls(3), "g").to_pylist() == ["not_high", "not_high", None]


def test_a_nan_is_not_judged_where_a_column_is_null():
    value = np.array([NAN, 0.0])
    assert judge({"low": at_least(value, 1)}, np.array([True, False]), "g").to_pylist() == [None, "low"]


def test_a_nan_where_no_column_is_null_fails_the_gate_and_names_rule_and_row():
    value = np.array([1.0, NAN])
    with pytest.raises(StageError, match=r"filter_x: rule low is NaN in row 1, .*guard the division"):
        judge({"low": at_least(value, 1)}, no_nulls(2), "filter_x")


def test_a_nan_bound_fails_the_gate_too():
    with pytest.raises(StageError, match="rule low is NaN in row 0"):
        judge({"low": at_least([1.0], np.array([NAN]))}, no_nulls(1), "g")


def test_a_rule_with_another_number_of_rows_is_an_error():
    with pytest.raises(StageError, match="g: rule low has 2 values for 3 rows"):
        judge({"low": at_least([1.0, 2.0], 1)}, no_nulls(3), "g")


def test_a_gate_without_rules_keeps_everything():
    assert judge({}, no_nulls(2), "g").to_pylist() == [None, None]


def test_reasons_are_counted_by_name_and_kept_rows_are_not():
    verdicts = labels("b", None, "a", "b")
    assert count_reasons(verdicts) == {"a": 1, "b": 2}
    assert list(count_reasons(verdicts)) == ["a", "b"]
    assert count_reasons(labels(None, None)) == {}


def test_a_rule_for_one_row_alone_says_what_the_whole_says_of_it():
    bounds = np.array([0.0, 4.0, 2.0])
    for rule in (at_least([1.0, 3.0, 2.0], bounds), at_most([1.0, 3.0, 2.0], 2), one_of(labels("a", "b", "a"), ["b"])):
        for row in range(3):
            assert rule.at(row).broken.tolist() == [rule.broken[row]]
            assert rule.at(row).margin.tolist() == [rule.margin[row]]
