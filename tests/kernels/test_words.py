import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.kernels.unicode_classes import FORMAT, LETTER, LINE_END, MARK_OR_NUMBER, SPACE, tables
from polylm.kernels.words import MAX_PIECE, Spans, _pieces, segment, versions

SPACED = ["en", "de", "ru", "ar", "he", "tr", "sv"]
MIXED = st.text(alphabet="aé١ก中😀 .,'’-/_@#(\n\r\t\u00a0\u2028\u200f\u00ad\u0301\x00", max_size=40)


def words_of(spans: Spans) -> list[list[str]]:
    words = [bytes(spans.data[a:b]).decode() for a, b in zip(spans.starts, spans.stops, strict=True)]
    return [words[a:b] for a, b in zip(spans.firsts[:-1], spans.firsts[1:], strict=True)]


def words_in(text: str, language: str) -> list[str]:
    return words_of(segment(pa.array([text], pa.string()), language))[0]


def spaced_words(text: str, joiners: str) -> list[str]:
    """The state machine, slowly."""
    goes_on = [unicodedata.category(c)[0] in "LMN" for c in text] + [False]
    joins = [c in joiners or unicodedata.category(c) == "Cf" for c in text]
    words, at = [], 0
    while at < len(text):
        start, at = at, at + 1
        if text[start].isspace() or unicodedata.category(text[start]) == "Cf":
            continue
        if goes_on[start]:
            while at < len(text) and (goes_on[at] or (joins[at] and goes_on[at + 1])):
                at += 1
        else:
            while at < len(text) and text[at] == text[start]:
                at += 1
        words.append(text[start:at])
    return words


def test_every_code_point_has_the_classes_of_python():
    blocks, flags = tables()
    every = flags.reshape(-1, 128)[blocks].reshape(-1)
    characters = [chr(point) for point in range(0x110000)]
    categories = np.array([unicodedata.category(c) for c in characters])
    assert np.array_equal(every & LETTER != 0, np.char.startswith(categories, "L"))
    assert np.array_equal(every & MARK_OR_NUMBER != 0, np.isin(categories, ["Mn", "Mc", "Me", "Nd", "Nl", "No"]))
    assert np.array_equal(every & FORMAT != 0, categories == "Cf")
    assert np.array_equal(every & SPACE != 0, [c.isspace() for c in characters])
    line_ends = [c for c in characters if c.isspace() and len(f"a{c}b".splitlines()) == 2]
    assert np.flatnonzero(every & LINE_END).tolist() == [ord(c) for c in line_ends]


def test_english_keeps_numbers_names_and_contractions_whole_and_splits_hyphens():
    text = "Don't e-mail a.b@c.org 1,000.5 times -- really...  (so_what)"
    assert words_in(text, "en") == [
        *("Don't", "e", "-", "mail", "a.b@c.org", "1,000.5", "times", "--", "really", "...", "(", "so_what", ")")
    ]


def test_other_languages_keep_hyphens_and_slashes_inside_words():
    assert words_in("E-Mail und/oder Tür.", "de") == ["E-Mail", "und/oder", "Tür", "."]
    assert words_in('ארה"ב', "he") == ['ארה"ב']


def test_directional_marks_are_no_words():
    assert words_in("قال\u200f.\u200f نعم", "ar") == ["قال", ".", "نعم"]


@settings(deadline=None)
@given(MIXED)
def test_spaced_words_equal_the_slow_state_machine(text):
    assert words_in(text, "en") == spaced_words(text, "',.@_’")
    assert words_in(text, "sv") == spaced_words(text, "',.@_’\"$%&()*+-/:;<=[\\]^`{|}~–׳״")


@pytest.mark.parametrize("language", ["ko", "vi"])
@settings(deadline=None)
@given(text=MIXED)
def test_korean_and_vietnamese_words_stand_between_white_space(language, text):
    assert words_in(text, language) == text.split()


def test_chinese_thai_and_japanese_are_segmented():
    assert words_in("我们来到北京，清华大学。", "zh") == ["我们", "来到", "北京", "，", "清华大学", "。"]
    assert words_in("สวัสดีครับ ฉันไปโรงเรียน", "th") == ["สวัสดี", "ครับ", "ฉัน", "ไป", "โรงเรียน"]
    assert words_in("東京都に\u3000行く。\nabc def", "ja") == ["東京", "都", "に", "行く", "。", "abc", "def"]


@pytest.mark.parametrize("language", ["zh", "th", "ja"])
@settings(deadline=None)
@given(text=st.text(alphabet="我京กำ่ไあアー東a1 .,\n\r\u3000\u00a0\x00😀'%-", max_size=30))
def test_segmenters_lose_nothing_but_white_space(language, text):
    joined = "".join(words_in(text, language))
    lost = "\0" if language == "ja" else ""  # it would end MeCab's input
    assert "".join(joined.split()) == "".join(text.replace(lost, " ").split())


@pytest.mark.parametrize("language", ["en", "ko", "zh", "th", "ja"])
def test_slices_large_strings_and_empty_texts_give_the_same_words(language):
    texts = ["unseen", "one 二 สอง", "", " \n", "三つ four"]
    whole = [words_in(text, language) for text in texts]
    for kind in (pa.string(), pa.large_string()):
        array = pa.array(texts, kind)
        assert words_of(segment(array.slice(1), language)) == whole[1:]
        assert words_of(segment(array.slice(2, 2), language)) == [[], []]
        assert words_of(segment(array.slice(5), language)) == []
    assert words_of(segment(pa.array(["", ""]), language)) == [[], []]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a" * 3000, "b" * 9999, "\n", " ", "中" * 10_000]), max_size=6).map("".join))
def test_pieces_join_to_the_text_and_are_short(text):
    pieces = list(_pieces(text))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= MAX_PIECE for piece in pieces)


@pytest.mark.parametrize(("language", "word"), [("zh", "清华大学"), ("th", "โรงเรียน"), ("ja", "東京")])
def test_a_long_text_is_cut_into_pieces_at_its_spaces(language, word):
    text = f"{word} " * 8000
    assert words_in(text, language) == [word] * 8000


def test_words_of_a_million_lines_keep_their_document():
    spans = segment(pa.array(["x\n" * 1_000_000, "y"]), "en")
    assert spans.firsts.tolist() == [0, 1_000_000, 1_000_001]
    assert np.all(np.diff(spans.starts) == 2)


def test_versions_name_what_changes_the_words():
    assert set(versions("sv")) == {"unicode"}
    assert set(versions("zh")) == {"unicode", "rjieba"}
    assert set(versions("th")) == {"unicode", "nlpo3", "words_th"}
    assert set(versions("ja")) == {"unicode", "mecab-python3", "ipadic"}


def test_nulls_and_other_types_are_our_own_mistake():
    with pytest.raises(AssertionError, match="texts hold nulls"):
        segment(pa.array(["a", None]), "en")
    with pytest.raises(AssertionError, match="texts are int64"):
        segment(pa.array([1]), "en")
