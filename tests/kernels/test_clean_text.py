"""Cleaning: what goes, what stays, and properties of any text."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nasty import nasty_texts

from polylm.kernels.clean_text import CleanResult, clean

ORDINARY = [
    "The committee met on 3 May 2024; nobody (not even the chair) was late.\n\nIt ended at 17:30, see www.example.org.",
    "Zażółć gęślą jaźń — „cytat”, 25 % i 1 000 zł…",
    "Đường phố Hà Nội vắng người vào sáng sớm.",
    "В лесу родилась ёлочка, в лесу она росла.",
    "می‌خواهم کتاب‌ها را بخوانم؛ ه‍",
    "שָׁלוֹם עֲלֵיכֶם",
    "क्‍ष और क्‌ष अलग हैं।",
    "ශ්‍රී ලංකාව",
    "ภาษาไทยไม่เว้นวรรคระหว่างคำ" * 10,
    "ភាសាខ្មែរមិនដកឃ្លារវាងពាក្យ" * 10,
    "ພາສາລາວບໍ່ຍະຫວ່າງລະຫວ່າງຄຳ" * 10,
    "မြန်မာစာတွင်စကားလုံးများကြားနေရာမခြားပါ" * 10,
    "中文的句子没有空格，标点也不例外。" * 20,
    "日本語の文章には、スペースがありません。カタカナモ・ヒラガナも。" * 10,
    "한국어는 띄어쓰기를 합니다.",
    "👩‍🚀 👨‍👩‍👧 🙂‍↔️ ❤️ 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f 1️⃣",
]


def cleaned(*texts: str | None, max_word_chars: int = 40, drop_url_lines: bool = True) -> CleanResult:
    return clean(pa.array(texts, pa.string()), max_word_chars=max_word_chars, drop_url_lines=drop_url_lines)


def clean_one(text: str, **params: int) -> str | None:
    return cleaned(text, **params).texts.to_pylist()[0]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_not_touched(text: str):
    result = cleaned(text)
    assert result.texts.to_pylist() == [text]
    assert not any(c.any() for c in (result.url_lines, result.long_words, result.invisible_chars, result.space_chars))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\u00a0b\u3000c\td", "a b c d"),
        ("  a  b \r\n\tc\u2028d\x85e", "a b\nc\nd\ne"),
        ("\n\na\n \n\n\nb\n", "a\n\nb"),
        (" \n\t\r\n ", None),
    ],
)
def test_white_space_is_one_space_one_newline_and_at_most_one_blank_line(text: str, expected: str | None):
    assert clean_one(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("co\u00adop\u200bera\ufefftion\x00\x9f", "cooperation"),
        ("lat\u200din and lat\u200cin", "latin and latin"),
        ("می\u200c\u200cخواهم", "می\u200cخواهم"),
        ("\u200dه", "\u200dه"),
        ("👩\u200d 👩\u200dx", "👩 👩x"),
        ("a\U000e0067 🏴\U000e0067", "a 🏴\U000e0067"),
        ("\u06002024 \ufdd0\U0001fffe\U000e0001\u3164", "\u06002024"),
        ("\u200b\u200d\u2060", None),
    ],
)
def test_invisible_characters_go_but_joiners_stay_where_scripts_and_emoji_need_them(text: str, expected: str | None):
    assert clean_one(text) == expected


@pytest.mark.parametrize(
    "line",
    ["http://a.com/x?y=1", "HTTPS://Ä.de", "www.x.org", "<ftp://f.net>", "(http://a) http://b", " http://a.com\u200b "],
)
def test_lines_that_are_only_addresses_go(line: str):
    result = cleaned(f"before\n{line}\nafter")
    assert result.texts.to_pylist() == ["before\nafter"]
    assert result.url_lines.tolist() == [1]
    assert clean_one(f"before\n{line}\nafter", drop_url_lines=False).count("\n") == 2


@pytest.mark.parametrize(
    "line", ["see http://a.com", "http://", "www.", "www...", "http", "https://例子.com是一个网站", "awww.x"]
)
def test_lines_that_say_more_than_an_address_stay(line: str):
    assert clean_one(f"before\n{line}\nafter") == f"before\n{line}\nafter"


def test_blank_lines_round_a_cut_line_are_one():
    assert clean_one("a\n\nhttp://x.y\n\nb") == "a\n\nb"


def test_over_long_words_are_cut_by_characters_not_bytes():
    result = cleaned("a " + "é" * 40 + " b " + "é" * 41 + " c", "x" * 41, "k\n" + "-" * 41 + "\nl")
    assert result.texts.to_pylist() == ["a " + "é" * 40 + " b c", None, "k\nl"]
    assert result.long_words.tolist() == [1, 1, 1]


def test_what_is_glued_to_a_script_without_spaces_is_cut_and_the_script_is_not():
    assert clean_one("中文" * 50 + "x" * 41 + "ไทย" * 50) == "中文" * 50 + "ไทย" * 50
    assert clean_one("a " + "x" * 41 + "中") == "a 中"


def test_an_over_long_address_is_a_line_of_addresses_when_alone_and_a_word_otherwise():
    long_url = "http://" + "x" * 40
    result = cleaned(f"a\n{long_url}", f"a {long_url}", f"a\nhttp://b {'x' * 41}")
    assert result.texts.to_pylist() == ["a", "a", "a"]
    assert (result.url_lines.tolist(), result.long_words.tolist()) == ([1, 0, 1], [0, 1, 1])


def test_counts_tell_what_was_cut():
    result = cleaned("\u200ba  b\r\n\r\n\r\nc ", None)
    assert result.invisible_chars.tolist() == [1, 0]
    assert result.space_chars.tolist() == [
        6,
        0,
    ]  # one of two spaces, four of six characters of line ends, the last space


def test_nulls_slices_and_offset_widths_make_no_difference():
    texts = ["skipped", *ORDINARY, None, "  x ", "", "http://a.b", "skipped"]
    alone = [cleaned(text).texts.to_pylist()[0] for text in texts]
    for kind in (pa.string(), pa.large_string()):
        sliced = pa.array(texts, kind).slice(1, len(texts) - 2)
        result = clean(sliced, max_word_chars=40, drop_url_lines=True)
        result.texts.validate(full=True)
        assert result.texts.type == kind
        assert result.texts.to_pylist() == alone[1:-1]
    assert cleaned().texts.to_pylist() == []


def test_a_null_row_with_bytes_behind_it_is_empty():
    texts = pa.array(["one", "two", "three"])
    masked = pa.Array.from_buffers(pa.string(), 3, [pa.py_buffer(b"\x05"), *texts.buffers()[1:]])
    assert clean(masked, max_word_chars=40, drop_url_lines=True).texts.to_pylist() == ["one", None, "three"]


def test_broken_utf8_is_passed_on_and_nothing_is_read_past_the_end():
    raw = b"a\xff \xe4\xb8 \xf0\x9f\x91"
    texts = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, len(raw)], np.int32)), pa.py_buffer(raw)]
    )
    assert clean(texts, max_word_chars=9, drop_url_lines=True).texts.buffers()[2].to_pybytes() == raw


def test_other_arrays_and_no_word_length_are_refused():
    with pytest.raises(ValueError, match="texts are int64, expected string or large_string"):
        clean(pa.array([1]), max_word_chars=9, drop_url_lines=True)
    with pytest.raises(ValueError, match="max_word_chars is 0, expected at least 1"):
        cleaned("a", max_word_chars=0)


@settings(max_examples=250, deadline=None)
@given(nasty_texts, st.integers(1, 12), st.booleans())
def test_cleaning_twice_changes_nothing(text: str, max_word_chars: int, drop_url_lines: bool):
    once = cleaned(text, max_word_chars=max_word_chars, drop_url_lines=drop_url_lines).texts
    twice = clean(once, max_word_chars=max_word_chars, drop_url_lines=drop_url_lines)
    assert twice.texts.to_pylist() == once.to_pylist()
    assert twice.space_chars.sum() == twice.invisible_chars.sum() == 0


@settings(max_examples=200, deadline=None)
@given(nasty_texts)
def test_characters_are_conserved_where_no_line_and_no_word_is_cut(text: str):
    result = cleaned(text, max_word_chars=10_000, drop_url_lines=False)
    left = result.texts.to_pylist()[0] or ""
    assert len(text) == len(left) + result.invisible_chars[0] + result.space_chars[0]
    assert left == left.strip()
    assert not any(pattern in left for pattern in ("  ", "\n\n\n", " \n", "\n "))
