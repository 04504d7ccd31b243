import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polylm.kernels import c4_documents, character_statistics
from polylm.kernels.text_statistics import COLUMNS, measure, measure_language
from polylm.kernels.unicode_classes import NOT_PUNCTUATION, TERMINAL, tables
from polylm.kernels.words import Spans, segment

STOP_WORDS = ["the", "of", "в", "the", ""]
# Few characters, so that lines, paragraphs and n-grams repeat; every kind of space, line end and mark among them.
CHARACTERS = "ab the of в中é.…•-#?。!\n\n\n\r\t\x0b\x1c\x1f\x85\u00a0\u2028\u3000\u200f😀"
TEXTS = st.one_of(
    st.text(alphabet=CHARACTERS, max_size=60),
    st.text(alphabet="ab \n", max_size=200),
    st.lists(st.sampled_from(["the", "a b", "- x", "…\n", "\n", "\n\n", " ", "#.", "b…", "x" * 70]), max_size=40).map(
        "".join
    ),
)


def duplicates(elements: list[str]) -> tuple[int, int]:
    seen, count, chars = set(), 0, 0
    for element in elements:
        if element in seen:
            count, chars = count + 1, chars + len(element)
        seen.add(element)
    return count, chars


def top_gram_chars(words: list[str], n: int) -> int:
    grams = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    return max((len(gram) * count for gram, count in grams.most_common(1)), default=0)


def duplicate_gram_chars(words: list[str], n: int) -> int:
    seen, chars, at = set(), 0, 0
    while at + n <= len(words):
        gram = "".join(words[at : at + n])
        chars += len(gram) if gram in seen else 0
        at += n if gram in seen else 1
        seen.add(gram)
    return chars


def repeated_word_grams(words: list[str], n: int) -> int:
    grams = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    return sum(count for count in grams.values() if count > 1)


def flags_in(character: str) -> int:
    blocks, flags = tables()
    return int(flags[int(blocks[ord(character) >> 7]) * 128 + (ord(character) & 127)])


def line_counts(text: str) -> dict[str, int]:
    split, lines = text.splitlines(), re.split("\n+", text)
    paragraphs = re.split(r"\n{2,}", text.strip())
    nonblank = [line for line in text.split("\n") if line.strip()]
    return {
        "chars": len(text),
        "bytes": len(text.encode()),
        "newlines": text.count("\n"),
        "hashes": text.count("#"),
        "ellipses": text.count("...") + text.count("…"),
        "split_lines": len(split),
        "bullet_lines": sum(line.lstrip().startswith(("•", "-")) for line in split),
        "ellipsis_lines": sum(line.rstrip().endswith(("...", "…")) for line in split),
        "nonblank_lines": len(nonblank),
        "punctuated_lines": sum(bool(flags_in(line[-1]) & TERMINAL) for line in nonblank),
        "short_lines": sum(len(line) <= 30 for line in nonblank),
        "duplicate_nonblank_line_chars": duplicates(nonblank)[1],
        "lines": len(lines),
        "duplicate_lines": duplicates(lines)[0],
        "duplicate_line_chars": duplicates(lines)[1],
        "paragraphs": len(paragraphs),
        "duplicate_paragraphs": duplicates(paragraphs)[0],
        "duplicate_paragraph_chars": duplicates(paragraphs)[1],
    }


def word_counts(words: list[str]) -> dict[str, int]:
    nonsymbol = [word for word in words if any(flags_in(c) & NOT_PUNCTUATION for c in word)]
    return {
        "words": len(words),
        "nonsymbol_words": len(nonsymbol),
        "nonsymbol_word_chars": sum(map(len, nonsymbol)),
        "alpha_words": sum(any(c.isalpha() for c in word) for word in words),
        "stop_words": len({"the", "of", "в"} & set(words)),
        "stop_word_occurrences": sum(word in ("the", "of", "в") for word in words),
        **{f"top_{n}_gram_chars": top_gram_chars(words, n) for n in (2, 3, 4)},
        **{f"duplicate_{n}_gram_chars": duplicate_gram_chars(words, n) for n in range(5, 11)},
        "word_grams": max(len(words) - 4, 0),
        "repeated_word_grams": repeated_word_grams(words, 5),
    }


def counts_of(texts: list[str], words: list[list[str]]) -> list[dict[str, int]]:
    array = pa.array(texts, pa.string())
    columns = measure(array, spans_of(words), STOP_WORDS)
    return [{name: int(columns[name][row]) for name in COLUMNS} for row in range(len(texts))]


def spans_of(words: list[list[str]]) -> Spans:
    """Words end to end in bytes of their own."""
    sizes = [len(word.encode()) for document in words for word in document]
    bounds = np.concatenate(([0], np.cumsum(sizes))).astype(np.int32)
    data = np.frombuffer("".join(word for document in words for word in document).encode(), np.uint8)
    firsts = np.concatenate(([0], np.cumsum([len(document) for document in words]))).astype(np.int64)
    return Spans(data, bounds[:-1].copy(), bounds[1:].copy(), firsts)


@settings(deadline=None)  # the first example builds the tables
@given(st.lists(TEXTS, min_size=1, max_size=4))
@example(["", "\n", "\n\n", " \n \n ", "\n a\n\n a\n"])
@example(["......", "a....", "…\n...\n.. .", "• a\r\n -b\r\r\n•", "\x85\u2028-"])
def test_counts_of_lines_equal_slow_ones(texts):
    counts = counts_of(texts, [[] for _ in texts])
    for text, found in zip(texts, counts, strict=True):
        assert {name: found[name] for name in line_counts(text)} == line_counts(text)


WORDS = st.lists(
    st.sampled_from(["a", "ab", "b", "bb", "the", "of", "в", "中", ".", "…", "1", "-a", "x" * 200]), max_size=80
)


@settings(deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=3))
@example([["ab", "c", "a", "b", "e", "x", "a", "bc", "ab", "e"], []])
@example([["a"] * 30, ["a", "b"] * 20])
def test_counts_of_words_equal_slow_ones(documents):
    counts = counts_of([""] * len(documents), documents)
    for words, found in zip(documents, counts, strict=True):
        assert {name: found[name] for name in word_counts(words)} == word_counts(words)


def test_every_column_has_a_slow_reference():
    elsewhere = {*character_statistics.COLUMNS, *c4_documents.COUNTS}  # their own tests have theirs
    assert set(line_counts("")) | set(word_counts([])) | elsewhere == set(COLUMNS)


@pytest.mark.parametrize(
    "text", ["2 big red dogs ran off . 3 big red dogs ran on .", "ax men went to mow 0a bx men went to mow 1b cx men"]
)
def test_words_in_a_row_whose_first_bytes_are_neighbours_are_not_the_same(text):
    """Their hashes differ by one."""
    found = measure(pa.array([""]), spans_of([text.split()]), [], "en")
    assert found["repeated_word_grams"][0] == repeated_word_grams(text.split(), 5) == 0


def test_words_in_a_row_are_seven_in_urdu():
    words = [["یہ", "ہے", "a", "b", "c", "d", "e", "f"] * 2]
    five, seven = (measure(pa.array([""]), spans_of(words), [], language) for language in ("en", "ur"))
    assert five["repeated_word_grams"][0] == repeated_word_grams(words[0], 5) == 8
    assert seven["repeated_word_grams"][0] == repeated_word_grams(words[0], 7) == 4


def test_documents_of_every_table_size_are_counted_alike():
    texts = [" ".join(str(i % 977) for i in range(size)) for size in (1, 40, 5_000, 20_000, 3)]
    words = [text.split() for text in texts]
    for document, found in zip(words, counts_of(texts, words), strict=True):
        assert {name: found[name] for name in word_counts(document)} == word_counts(document)


@pytest.mark.parametrize("language", ["en", "ko", "ja"])
def test_batches_and_slices_change_nothing(language):
    texts = ["unseen", "the the of", "", "長い 文。" * 50, "a\n\na", "x"]
    array = pa.array(texts)
    one_by_one = [measure(pa.array([t]), segment(pa.array([t]), language), STOP_WORDS) for t in texts[1:]]
    for batch_bytes in (1, 20, 1_000_000):
        columns = measure_language(array.slice(1), language, STOP_WORDS, batch_bytes=batch_bytes)
        assert list(columns) == list(COLUMNS)
        for name, values in columns.items():
            assert values.tolist() == [int(row[name][0]) for row in one_by_one]
            assert pa.array(values).type == COLUMNS[name][0]


def test_no_documents_give_empty_columns():
    columns = measure_language(pa.array([], pa.string()), "en", [])
    assert {len(values) for values in columns.values()} == {0}


def test_words_of_other_documents_are_our_own_mistake():
    with pytest.raises(AssertionError, match="words of 2 documents for 1 texts"):
        measure(pa.array(["a"]), spans_of([["a"], []]), [])


HEAVY = """
import resource
import pyarrow as pa
from polylm.kernels.text_statistics import measure_language
measure_language(pa.array(["warm"]), "en", [])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for text in ("\\n" * 5_000_000, "word and another one, " * 227_272, "a\\n" * 2_500_000, "a b c d e " * 500_000,
             "." * 5_000_000, "\\n" * 4_000_000 + "a" * 1_000_000):
    columns = measure_language(pa.array([text]), "en", [])
    assert columns["chars"][0] == len(text)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_five_megabytes_of_anything_take_bounded_memory():
    run = subprocess.run([sys.executable, "-P", "-c", HEAVY], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 400  # MiB: newlines, one line, one-letter lines, one-letter words, dots, both
