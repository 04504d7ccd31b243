"""Kinds of characters, dates and repeated n-grams of characters against slow counts of them."""

import math
import re
import unicodedata
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polylm.kernels.character_statistics import COLUMNS, count_characters
from polylm.kernels.text_statistics import measure_language
from polylm.kernels.words import text_buffers

DATE = re.compile(
    r"(?<![\d\-./])(?:\d{4}([-./])\d{1,2}\1\d{1,2}(?!\d|\1\d)|\d{1,2}([-./])\d{1,2}\2(?:\d{4}|\d{2})(?!\d|\2\d)"
    r"|\d{4}[年년] ?\d{1,2}[月월])"
)
PIECES = [
    *("2024-05-31", "31.5.2024", "5/31/24", "1.2.3", "10.0.12.1", "2024年5月3日", "2024년 5월", "12:30", "٢٠٢٤/٠٥/٠٣"),
    *(
        "1",
        "12",
        "2024",
        "-",
        ".",
        "/",
        "年",
        "년",
        "月",
        "월",
        " ",
        "\n",
        "a",
        "é",
        "中",
        "ที่",
        "😀",
        "½",
        "e\u0301",
        "ab" * 9,
    ),
]
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.text(alphabet="aé中", max_size=80))


def repeated_char_grams(text, n):
    """ROOTS' character repetition ratio, above its line: bigscience-workshop/data-preparation, filtering.py."""
    counts = sorted(Counter(text[i : i + n] for i in range(len(text) - n + 1)).values(), reverse=True)
    return sum(counts[: min(math.isqrt(len(counts)), sum(count > 1 for count in counts))])


def slow(text, n):
    return {
        "digits": sum(character.isdecimal() for character in text),
        "special_chars": sum(unicodedata.category(character)[0] not in "LM" for character in text),
        "dates": len(DATE.findall(text)),
        "char_grams": max(len(text) - n + 1, 0),
        "repeated_char_grams": repeated_char_grams(text, n),
    }


def counted(texts, n=10):
    rows = count_characters(*text_buffers(pa.array(texts, pa.string())), n)
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows.tolist()]


@settings(deadline=None)  # the first example builds the table
@given(st.lists(TEXTS, max_size=4), st.sampled_from([1, 3, 10]))
@example(["", "a" * 300, "abc" * 50 + "é" * 50, "😀" * 40], 10)
@example(["2024-05-31-7", "1.2.2024.", "31.12.24, 1/1/1", "v1.2.34"], 10)
def test_counts_of_characters_equal_slow_ones(texts, n):
    assert counted(texts, n) == [slow(text, n) for text in texts]


@pytest.mark.parametrize("size", [9, 10, 11, 5_000, 70_000])
def test_documents_of_every_size_are_counted_alike(size):
    text = "".join(chr(97 + (k * k + k // 7) % 26) for k in range(size))
    assert counted([text, "x", text]) == [slow(text, 10), slow("x", 10), slow(text, 10)]


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("Geboren am 3.10.1990 in Bonn, gestorben am 04.11.2021.", 2),
        ("Updated 2024-05-31; version 1.2.3 of 192.168.0.1.", 1),
        ("2024年5月31日に公開されました。", 1),
        ("2024년 5월 31일", 1),
        ("Call 555-1234 or 12-34.", 0),
    ],
)
def test_dates_are_found_and_addresses_are_not(text, dates):
    assert counted([text])[0]["dates"] == dates


def test_chinese_counts_three_characters_in_a_row():
    text = "春眠不觉晓，处处闻啼鸟。春眠不觉晓，夜来风雨声。"
    assert measure_language(pa.array([text]), "zh", [])["repeated_char_grams"][0] == repeated_char_grams(text, 3) > 0


def test_a_text_that_is_one_line_again_and_again_repeats_nearly_whole():
    line = "Click here to subscribe to our newsletter. "
    (found,) = counted([line * 40])
    assert found["repeated_char_grams"] > 0.1 * len(line) * 40
