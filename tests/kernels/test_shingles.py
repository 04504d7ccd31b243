"""Tokens and shingles, against slow references and properties."""

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nasty import nasty_texts

from polylm.kernels.shingles import Tokens, shingles, tokenize


def token_lists(tokens: Tokens) -> list[list[str]]:
    """The tokens as strings, by splitting at the spaces; and the spans of single tokens must say the same."""
    texts = [
        tokens.text[i:j].tobytes().decode() for i, j in zip(tokens.text_offsets, tokens.text_offsets[1:], strict=False)
    ]
    spans = shingles(tokens, 1)
    by_span = [tokens.text[i:j].tobytes().decode() for i, j in zip(spans.starts, spans.ends, strict=True)]
    assert by_span == [token for text in texts for token in text.split()]
    return [text.split() for text in texts]


def tokens_of(*texts: str | None) -> list[list[str]]:
    return token_lists(tokenize(pa.array(texts, pa.string())))


def slow_tokens(text: str) -> list[str]:
    """The same rules for Latin, Cyrillic, Arabic, Devanagari, Thai, Han and Hangul, with Python's Unicode data."""
    tokens: list[str] = []
    before = "gap"
    for char in unicodedata.normalize("NFKC", text):
        name, category = unicodedata.name(char, ""), unicodedata.category(char)
        if name.startswith(("COMBINING", "VARIATION")) or category == "Cf" or char == "ـ":
            continue
        if category == "Mn" and name.startswith("ARABIC"):
            continue
        if category[0] not in "LMN":
            before = "gap"
            continue
        kind = "alone" if name.startswith(("CJK", "THAI", "KATAKANA", "HIRAGANA")) else "word"
        if category[0] == "M" and before != "gap":
            kind = before  # a mark goes on with what it stands on
        elif category[0] == "M":
            kind = "word"
        if before != kind or (kind == "alone" and category[0] != "M"):
            tokens.append("")
        if name.startswith(("LATIN", "CYRILLIC")):
            folded = unicodedata.normalize("NFD", char.casefold())
            char = "".join(c for c in folded if not unicodedata.combining(c))
        tokens[-1] += "0" if category == "Nd" else char
        before = kind
    return tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ça va? ÉTÉ e\u0301te\u0301 Straße İstanbul", "ca va ete ete strasse istanbul"),
        ("Ёлка ИЙ ΌΣΟΣ Ⱥb", "елка ии οσοσ ⱥb"),
        ("don't — 2026, ２０２６ ½ ﬁn e\u00admail", "don t 0000 0000 0 0 fin email"),
        ("مُحَمَّدـ أحمد ١٢", "محمد أحمد 00"),
        ("שָׁלוֹם", "שלום"),
        ("हिन्दी में", "हिन्दी में"),
        ("한국어 \u1112\u1161\u11ab", "한국어 한"),
        ("か\u3099", "が"),
        ("\u09b0\u09c7\u09be", "\u09b0\u09cb"),
        ("中文，abc字", "中 文 abc 字"),
        ("ガｶﾞカ\u3099ー", "ガ ガ ガ ー"),
        ("ที่นี่", "ที่ นี่"),
        ("\U00020000\U00020001", "\U00020000 \U00020001"),
        ("… 🙂 !?", ""),
    ],
)
def test_each_script_is_normalised_in_its_own_way(text: str, expected: str):
    assert tokens_of(text) == [expected.split()]


pieces_with_reference = st.sampled_from([*"aÉßйЁ9٣_.-! \nقَـहि์्ยี中文カー한e\u0301\u00ad\u200dﬁ", "don't", "２", "ẞ", "ﷺ"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(pieces_with_reference, max_size=25).map("".join), max_size=4))
def test_tokens_are_those_of_the_slow_reference(texts: list[str]):
    assert tokens_of(*texts) == [slow_tokens(text) for text in texts]


@settings(max_examples=200, deadline=None)
@given(nasty_texts)
def test_any_text_fits_its_buffers_and_gives_valid_tokens(text: str):
    tokens = tokenize(pa.array([text]))
    assert len(tokens.text) <= 2 * len(unicodedata.normalize("NFKC", text).encode()) + 8
    token_lists(tokens)


def test_a_null_row_with_bytes_behind_it_has_no_tokens():
    texts = pa.array(["one", "two", "three"])
    masked = pa.Array.from_buffers(pa.string(), 3, [pa.py_buffer(b"\x05"), *texts.buffers()[1:]])
    assert np.diff(tokenize(masked).offsets).tolist() == [1, 0, 1]


def test_tokens_of_nulls_and_slices():
    texts = pa.array(["x", "One two", None, "", "三 four", "y"]).slice(1, 4)
    assert token_lists(tokenize(texts)) == [["one", "two"], [], [], ["三", "four"]]


@given(st.lists(st.lists(st.sampled_from(["ab", "c", "中", "ไ"]), max_size=7), max_size=4), st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_shingles_are_n_tokens_or_the_whole_of_a_shorter_text(texts: list[list[str]], length: int):
    tokens = tokenize(pa.array([" ".join(text) for text in texts], pa.string()))
    spans = shingles(tokens, length)
    for row, text in enumerate(texts):
        found = [
            tokens.text[spans.starts[i] : spans.ends[i]].tobytes().decode()
            for i in range(*spans.offsets[row : row + 2])
        ]
        windows = [text[i : i + length] for i in range(max(len(text) - length + 1, 1))] if text else []
        assert found == [" ".join(window) for window in windows]


def test_a_shingle_without_tokens_is_refused():
    with pytest.raises(ValueError, match="a shingle has 0 tokens, expected at least 1"):
        shingles(tokenize(pa.array(["a"])), 0)
