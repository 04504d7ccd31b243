"""Texts are measured in their own language and judged by its thresholds; each rule gives its own reason."""

import re

import numpy as np
import pyarrow as pa
import pytest

from polylm.tasks.corpus.rule_sets import rules_of
from polylm.tasks.corpus.text import StatisticsParams, TextParams, filter_text, measure_text
from polylm.tasks.rules import judge

GOOD = (
    "The harbour was quiet that morning, and two of the boats came in late. Nobody on the quay had expected them to bring "
    "much fish, since the wind had turned north before dawn. An old woman sold bread from a cart and asked each sailor "
    "about his children. When the third boat failed to appear, people began to worry, but they kept on working. By noon "
    "a message arrived: its engine had stopped near the lighthouse, and a ferry was towing it home."
)
LINES = "\n".join(GOOD.replace(",", "").replace(":", "").split(". ")).rstrip(".")


def measured(texts, languages):
    rows = {"text": pa.array(texts, pa.string()), "language": pa.array(languages).dictionary_encode()}
    return rows | {name: pa.array(values) for name, values in measure_text(rows, StatisticsParams()).items()}


def reasons(texts, languages, params=None):
    rows = measured(texts, languages)
    seen = {
        name: values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        for name, values in rows.items()
        if name not in ("text", "language")
    }
    seen |= {"language": rows["language"], "chars": np.array([float(len(text)) for text in texts])}
    rules = filter_text(seen, params or TextParams())
    assert list(rules) == rules_of((params or TextParams()).rules)
    return judge(rules, np.zeros(len(texts), np.bool_), "filter_text").to_pylist()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD, None),
        (GOOD.partition(" An old")[0], "gopher_short_doc"),
        ("\n\n".join([GOOD, GOOD]), "dup_para_frac"),
        (LINES, "line_punct_ratio"),
        (
            " ".join(f"#{word}" for word in sorted(set(re.findall("[a-z]{4,}", GOOD)))) + ".\n" + GOOD,
            "gopher_too_many_hashes",
        ),
    ],
)
def test_each_kind_of_bad_text_has_its_reason(text, reason):
    assert reasons([text], ["en"]) == [reason]


def test_languages_do_not_change_each_other():
    texts = [GOOD, "เช้าวันนั้นท่าเรือเงียบสงบ เรือสองลำมาช้า", GOOD.upper(), "その朝、港は静かだった。"]
    languages = ["en", "th", "en", "ja"]
    together = measured(texts, languages)
    for row, (text, language) in enumerate(zip(texts, languages, strict=True)):
        alone = measured([text], [language])
        assert all(together[name][row] == alone[name][0] for name in alone if name not in ("text", "language"))


def test_a_threshold_moved_for_one_language_moves_no_other():
    texts, languages = [GOOD, GOOD], ["en", "xx"]
    assert reasons(texts, languages)[0] is None
    moved = {language: dict(own) for language, own in TextParams().thresholds.items()}
    moved["en"]["gopher_short_doc"] = 10_000
    assert reasons(texts, languages, TextParams(thresholds=moved)) == ["gopher_short_doc", reasons(texts, languages)[1]]


def test_a_language_without_thresholds_has_those_of_all_others_and_one_switched_off_breaks_nothing():
    short = ["Too short.", "Too short."]
    assert reasons(short, ["xx", "yy"]) == [reasons(["Too short."], ["zz"])[0]] * 2
    off = {"*": dict.fromkeys(rules_of(["polylm"])), "en": dict.fromkeys(rules_of(["polylm"]))}
    assert reasons([*short, "a a a a a"], ["xx", "en", "en"], TextParams(thresholds=off)) == [None] * 3


def test_no_rows_are_no_counts():
    rows = measured([], [])
    assert {len(values) for values in rows.values()} == {0}
