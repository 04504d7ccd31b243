"""Stop words and thresholds derived from clean text: what they remove, what bounds them, what the gate makes of them."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import swedish
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.tasks.corpus.rule_sets import rule_set, sane_range
from polylm.tasks.corpus.stop_words import StopWordParams, fit_stop_words
from polylm.tasks.corpus.text import StatisticsParams, TextParams, filter_text, measure_text
from polylm.tasks.corpus.text_rules import RULES
from polylm.tasks.corpus.thresholds import (
    DERIVED,
    METHODS,
    ThresholdParams,
    _steps,
    fit_thresholds,
    removed,
    threshold_at,
)

RECORDS = [record | {"kind": "doc"} for record in swedish.references()] + swedish.records()


def rows_of(records, language="sv"):
    texts = pa.array([record["text"] for record in records], pa.string())
    return {
        "text": texts,
        "language": pa.array([language] * len(texts)).dictionary_encode(),
        "kind": pa.array([record["kind"] for record in records], pa.string()),
        "chars": pc.utf8_length(texts).cast(pa.uint32()),
        "invisible_chars": pa.array([0] * len(texts), pa.uint32()),
    }


def measured(rows, stop_words):
    counts = measure_text(rows, StatisticsParams(), stop_words)
    return rows | {name: pa.array(values) for name, values in counts.items()}


def for_gate(rows):
    numbers = {
        k: v.cast(pa.float64()).to_numpy(zero_copy_only=False) for k, v in rows.items() if pa.types.is_integer(v.type)
    }
    return numbers | {"language": rows["language"]}


@pytest.fixture(scope="module")
def stops():
    return fit_stop_words([rows_of(RECORDS)], StopWordParams(languages=("sv",)))


@pytest.fixture(scope="module")
def rows(stops):
    return measured(rows_of(RECORDS), stops)


@pytest.fixture(scope="module")
def fitted(rows):
    return fit_thresholds([rows], ThresholdParams())


def chosen(table):
    return {row["rule"]: row for row in table.to_pylist() if row["chosen"]}


def histogram_of(values):
    steps, counts = np.unique(_steps(np.array(values, np.float64)), return_counts=True)
    return dict(zip(steps.tolist(), counts.tolist(), strict=True))


@settings(deadline=None)
@given(
    st.lists(st.fractions(0, 1, max_denominator=500).map(float), min_size=1, max_size=300),
    st.floats(0.01, 0.4),
    st.sampled_from(["min", "max"]),
)
def test_a_threshold_at_q_removes_at_most_q_and_one_step_more_would_remove_more(values, q, side):
    threshold = threshold_at(histogram_of(values), q, side=side)
    broken = [value > threshold if side == "max" else value < threshold for value in values]
    assert sum(broken) <= q * len(values) * (1 + 1e-9)
    # The step in which the threshold stands would be too much.
    near = [value > threshold / 1.001 - 1e-9 if side == "max" else value < threshold * 1.001 + 1e-9 for value in values]
    assert sum(near) > q * len(values) * (1 - 1e-9)
    assert removed(histogram_of(values), threshold, side=side) <= q * len(values) * (1 + 1e-9)


@pytest.mark.parametrize("q", [0.02, 0.05, 0.2])
def test_thresholds_derived_at_q_remove_about_q_of_the_reference(rows, q):
    found = chosen(fit_thresholds([rows], ThresholdParams(quantile=q)))
    for rule in ("list_ratio", "gopher_below_alpha_threshold", "paper_others"):
        if not found[rule]["note"]:
            assert found[rule]["references_removed"] / found[rule]["references"] == pytest.approx(q, abs=0.02)


def test_every_method_is_reported_for_every_rule_with_what_it_would_remove(rows, fitted):
    found = fitted.to_pylist()
    assert {(row["rule"], row["method"]) for row in found} == {
        *((rule, method) for rule in DERIVED for method in METHODS), ("gopher_enough_stop_words", "fixed")
    }  # fmt: skip
    assert {(row["references"], row["others"]) for row in found} == {(140, 45)}
    values = {rule: RULES[rule].value(for_gate(rows)) for rule in DERIVED}
    is_reference = np.array([record["kind"] == "doc" for record in RECORDS])
    for row in found:
        if row["rule"] in DERIVED and row["threshold"] is not None:
            value, side = values[row["rule"]], RULES[row["rule"]].side
            broken = value > row["threshold"] if side == "max" else value < row["threshold"]
            assert row["references_removed"] == pytest.approx(broken[is_reference].sum(), abs=3), row
            assert row["others_removed"] == pytest.approx(broken[~is_reference].sum(), abs=3), row


def test_tails_are_stricter_than_quantiles_and_english_is_what_fineweb_has(fitted):
    by_method = {(row["rule"], row["method"]): row["threshold"] for row in fitted.to_pylist()}
    for rule in ("list_ratio", "top_2_gram", "duplicated_5_n_grams"):
        assert by_method[rule, "tail"] <= by_method[rule, "quantile"]
        assert by_method[rule, "english"] == rule_set("fineweb", "en").thresholds[rule]
        assert by_method[rule, "median_ratio"] is None  # there is no English to compare with


def test_mean_and_deviation_are_those_of_the_values(rows):
    found = fit_thresholds([rows], ThresholdParams(method="mean_std", deviations=2))
    value = RULES["paper_others"].value(for_gate(rows))[:140]
    assert chosen(found)["paper_others"]["threshold"] == pytest.approx(value.mean() + 2 * value.std(), rel=0.01)


def test_the_ratio_of_medians_carries_english_over(rows):
    english = rows | {"language": pa.array(["en"] * len(RECORDS)).dictionary_encode()}
    by_method = {
        (row["language"], row["rule"], row["method"]): row["threshold"]
        for row in fit_thresholds([rows, english], ThresholdParams()).to_pylist()
    }
    assert by_method["sv", "list_ratio", "median_ratio"] == by_method["sv", "list_ratio", "english"] == 0.3


def test_a_threshold_that_is_not_sane_is_put_to_the_nearest_that_is(rows):
    lists = dict(rows) | {"newlines": pa.array([9_000] * len(RECORDS), pa.uint32())}
    found = chosen(fit_thresholds([lists], ThresholdParams()))["list_ratio"]
    assert found["threshold"] == sane_range("list_ratio")[1]
    assert found["note"].endswith("is not sane")


def test_a_threshold_that_nothing_could_break_is_off(rows):
    unmarked = dict(rows) | {"punctuated_lines": pa.array([0] * len(RECORDS), pa.uint32())}
    found = chosen(fit_thresholds([unmarked], ThresholdParams()))["line_punct_ratio"]
    assert (found["threshold"], found["note"]) == (None, "off: nothing could break 0")


def test_published_thresholds_are_within_the_range_that_is_called_sane():
    for language in ("de", "th", "zh", "en"):
        for rule, threshold in rule_set("polylm", language).thresholds.items():
            if rule in DERIVED and threshold is not None:
                low, high = sane_range(rule)
                assert low <= threshold <= high


def test_with_few_references_nothing_is_derived(rows):
    assert fit_thresholds([rows], ThresholdParams(min_references=141)).num_rows == 0
    assert fit_thresholds([], ThresholdParams()).num_rows == 0


def test_the_order_of_parts_changes_nothing(rows):
    parts = [{name: values.slice(start, 37) for name, values in rows.items()} for start in range(0, len(RECORDS), 37)]
    whole = fit_thresholds([rows], ThresholdParams(method="mean_std"))
    assert fit_thresholds(parts[::-1], ThresholdParams(method="mean_std")).equals(whole)


def test_swedish_stop_words_are_those_that_swedes_would_name(stops):
    words = stops["word"].to_pylist()
    assert {"den", "och", "som", "inte"} <= set(words)
    assert len(words) >= 8
    assert "." not in words
    shares = stops["share"].to_pylist()
    assert shares == sorted(shares, reverse=True)
    assert all(share >= 0.008 for share in shares[8:])


def test_words_with_vowel_signs_are_words():
    hindi = "यह एक अच्छा दिन है और हम सब बाज़ार में फल लेने के लिए गए थे। " * 60
    found = fit_stop_words(
        [rows_of([{"text": hindi, "kind": "doc"}], "hi")], StopWordParams(languages=("hi",), min_reference_bytes=1_000)
    )
    assert {"है", "में", "के"} <= set(found["word"].to_pylist())


def test_stop_words_come_from_clean_text_of_asked_languages_only():
    web = [record | {"kind": "web"} for record in RECORDS]
    assert fit_stop_words([rows_of(web)], StopWordParams(languages=("sv",))).num_rows == 0
    assert fit_stop_words([rows_of(RECORDS)], StopWordParams(languages=("uk",))).num_rows == 0
    assert fit_stop_words(iter(lambda: pytest.fail("read"), None), StopWordParams()).num_rows == 0


def test_the_flow_asks_for_wanted_languages_without_a_list():
    asked = StopWordParams(languages=("uk",)).for_wanted(("en", "sv", "uk"), StatisticsParams())
    assert asked.languages == ("uk", "sv")


def test_the_gate_takes_derived_thresholds_where_a_language_has_none_of_its_own(rows, fitted):
    seen = for_gate(rows)
    derived = filter_text(seen, TextParams(), fitted)
    bounds = {rule: row["threshold"] for rule, row in chosen(fitted).items()}
    assert set(derived["list_ratio"].bound) == {bounds["list_ratio"]}
    assert set(derived["gopher_enough_stop_words"].bound) == {2.0}
    assert set(derived["gopher_short_doc"].bound) == {50.0}  # not derived: that of all others
    refused = {rule for rule, judged in derived.items() if judged.broken[-5:].all()}
    assert "dup_line_frac" in refused


def test_a_stated_threshold_stands_before_a_derived_one_and_derive_switches_them_off(rows, fitted):
    seen = for_gate(rows)
    stated = TextParams().thresholds | {"sv": {"list_ratio": 0.123, "top_2_gram": None}}
    bounds = {
        rule: judged.bound[0] for rule, judged in filter_text(seen, TextParams(thresholds=stated), fitted).items()
    }
    assert (bounds["list_ratio"], bounds["top_2_gram"]) == (0.123, math.inf)
    assert bounds["top_3_gram"] == chosen(fitted)["top_3_gram"]["threshold"]
    off = filter_text(seen, TextParams(derive=False), fitted)
    assert off["list_ratio"].bound[0] == rule_set("fineweb", "en").thresholds["list_ratio"]


def test_languages_with_published_thresholds_keep_them(rows, fitted):
    german = for_gate(rows) | {"language": pa.array(["de"] * len(RECORDS)).dictionary_encode()}
    as_german = fitted.set_column(0, "language", pa.array(["de"] * fitted.num_rows))
    assert filter_text(german, TextParams(), as_german)["list_ratio"].bound[0] == 0.152


def test_sets_that_do_not_derive_ignore_derived_thresholds(rows, fitted):
    bounds = filter_text(for_gate(rows), TextParams(rules=("gopher",)), fitted)
    assert bounds["top_2_gram"].bound[0] == 0.2
    paper = filter_text(for_gate(rows), TextParams(rules=("paper",)), fitted)
    assert paper["paper_others"].bound[0] == chosen(fitted)["paper_others"]["threshold"]
