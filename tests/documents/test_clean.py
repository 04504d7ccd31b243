"""Cleaning keeps every row and what it cut; a text of which nothing is left is rejected as empty."""

import numpy as np
import pyarrow as pa
import pytest
from samples import ODD_TEXTS

from polylm.tasks.documents.clean import CleanParams, clean, drop_empty
from polylm.tasks.stage import NoParams


def cleaned(texts, **params):
    found = clean({"text": pa.array(texts, pa.string())}, CleanParams(**params))
    return {name: pa.array(values).to_pylist() for name, values in found.items()}


def test_lines_of_addresses_go_and_are_counted():
    found = cleaned(["Read on.\nhttps://example.org/a?b=c\nThe end.", "See https://example.org now."])
    assert found["text"] == ["Read on.\nThe end.", "See https://example.org now."]
    assert found["url_lines"] == [1, 0]
    assert cleaned(["a\nhttps://example.org"], drop_url_lines=False)["url_lines"] == [0]


def test_words_that_are_too_long_go_but_sentences_without_spaces_stay():
    chinese = "那天早上港口很安静" * 200
    found = cleaned(["x" * 1_001 + " y", chinese, "z" * 1_000])
    assert found["text"] == ["y", chinese, "z" * 1_000]
    assert found["long_words"] == [1, 0, 0]
    assert cleaned(["four fours"], max_word_chars=4)["text"] == ["four"]


def test_white_space_and_what_cannot_be_seen_is_made_standard_and_counted():
    found = cleaned(["a\u00a0\u2003b\u200b\r\nc\x00", " \t"])
    assert found["text"] == ["a b\nc", None]
    assert found["chars"] == [5, 0]
    assert found["invisible_chars"][0] == 2


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_characters_in_are_characters_out_and_what_was_cut(text):
    keep_all = {"drop_url_lines": False, "max_word_chars": 10_000}
    found = cleaned([text], **keep_all)
    assert sum(found[name][0] for name in ("chars", "invisible_chars", "space_chars")) == len(text)
    again = cleaned(found["text"], **keep_all)
    assert again["text"] == found["text"]
    assert (again["invisible_chars"], again["space_chars"]) == ([0], [0])


def test_every_row_stays_and_emptied_ones_have_their_reason():
    found = cleaned([*ODD_TEXTS, None])
    assert len(found["text"]) == len(ODD_TEXTS) + 1
    rule = drop_empty({"chars": np.array(found["chars"], np.float64)}, NoParams())["empty"]
    assert [text is None for text in found["text"]] == rule.broken.tolist()
    assert rule.broken.sum() >= 4
    assert rule.margin[0] == len(ODD_TEXTS[0]) - 1


def test_no_rows_are_no_rows():
    assert {len(values) for values in cleaned([]).values()} == {0}
