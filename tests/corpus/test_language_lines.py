"""Shares of languages by line."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import MODEL, ODD_TEXTS

from polylm.tasks.corpus.line_languages import WRITES, LineLanguageParams, measure_line_languages

GERMAN = "Der Hafen war an jenem Morgen still; zwei Boote kamen spät."
ENGLISH = "The harbour was quiet that morning; two boats came in late."
THAI = "เช้าวันนั้นท่าเรือเงียบสงบ เรือสองลำมาช้า"
COUNTS = [name for name, kind in WRITES.items() if kind == pa.uint32()]

pytestmark = pytest.mark.skipif(not MODEL.exists(), reason="lid.176.ftz is not there: `make install` fetches it")


def measured(*texts, **params):
    rows = {"text": pa.array(texts, pa.string())}
    columns = measure_line_languages(rows, LineLanguageParams(**params), MODEL)
    return [
        dict(zip(columns, row, strict=True)) for row in zip(*(c.to_pylist() for c in columns.values()), strict=True)
    ]


def test_counts_the_characters_of_each_language():
    found = measured("\n".join([GERMAN, ENGLISH, GERMAN, THAI, "ok", ""]))[0]
    assert (found["line_language"], found["line_language_chars"]) == ("de", 2 * len(GERMAN))
    assert (found["second_line_language"], found["second_line_language_chars"]) == ("en", len(ENGLISH))
    assert (found["other_line_chars"], found["unsure_line_chars"]) == (len(THAI), 2)


def test_a_text_in_one_language_has_no_second():
    found = measured(None, ENGLISH)
    assert found[0] == dict.fromkeys(WRITES)
    assert found[1]["second_line_language"] is None
    assert found[1]["second_line_language_chars"] == 0


def test_short_lines_are_unsure():
    assert measured(ENGLISH, min_chars=100)[0]["unsure_line_chars"] == len(ENGLISH)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from([GERMAN, THAI, *ODD_TEXTS]), max_size=5).map("\n".join), max_size=5))
def test_every_character_but_line_ends_is_counted_once(texts):
    for text, found in zip(texts, measured(*texts), strict=True):
        assert sum(found[name] for name in COUNTS) == len(text) - text.count("\n")
