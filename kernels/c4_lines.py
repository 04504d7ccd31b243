"""C4's rules for lines: what each line is dropped for, the lines that are left, and the counts that judge the document.

The answers are those of datatrove 0.10.1's C4QualityFilter (after C4, arXiv 1910.10683, and tensorflow-datasets'
c4_utils.py) and of its C4ParagraphFilter (mC4, arXiv 2010.11934). A line is looked at in this order: a word too long,
citations cut, no terminal punctuation, too few words (those before the cut), "lorem ipsum", "javascript", "{", a policy;
what dropped it first hides the rest. Sentences are counted by the caller, in the lines that are left.

Memory: the bytes of the call's texts once more.
"""

import functools
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit, types
from numpy.typing import NDArray

from polylm.kernels.scanning import count_chars, find_newline, skip_space, trim_space
from polylm.kernels.unicode_classes import LINE_END, SPACE, decode, flags_of, tables
from polylm.kernels.words import I64, OUT64, U8, U16, text_buffers

COLUMNS: dict[str, tuple[pa.DataType, str]] = {
    "c4_lines": (pa.uint32(), "Lines by str.splitlines, blank ones too."),
    "c4_long_word_lines": (pa.uint32(), "Of c4_lines, those dropped for a word of over 1,000 characters."),
    "c4_unterminated_lines": (pa.uint32(), "Those dropped because they do not end in . ? ! \" or ', or end in `...`."),
    "c4_few_word_lines": (pa.uint32(), "Those dropped for under 3 words between white space."),
    "c4_javascript_lines": (pa.uint32(), "Those dropped because they mention javascript."),
    "c4_policy_lines": (pa.uint32(), "Those dropped because they speak of cookies, privacy or terms of use."),
    "c4_kept_lines": (pa.uint32(), "Those that are left."),
    "c4_lorem_lines": (pa.uint32(), "Lines with lorem ipsum, up to the first of c4_bracket_lines."),
    "c4_bracket_lines": (pa.uint32(), "Lines with { that nothing had dropped."),
    "c4_paragraphs": (pa.uint32(), "Lines between \\n of at least 200 characters."),
}

_AT = {name: place for place, name in enumerate(COLUMNS)}
_LINES, _LONG_WORD, _UNTERMINATED = _AT["c4_lines"], _AT["c4_long_word_lines"], _AT["c4_unterminated_lines"]
_FEW_WORDS, _JAVASCRIPT, _POLICY = _AT["c4_few_word_lines"], _AT["c4_javascript_lines"], _AT["c4_policy_lines"]
_KEPT, _LOREM, _BRACKET = _AT["c4_kept_lines"], _AT["c4_lorem_lines"], _AT["c4_bracket_lines"]
_PARAGRAPHS = _AT["c4_paragraphs"]

MAX_WORD_CHARS, MIN_WORDS, _PARAGRAPH_CHARS = 1000, 3, 200

# The first two have rules of their own; the others are the policies.
PHRASE_WORDS = (
    "lorem ipsum",
    "javascript",
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
HAS_LOREM, HAS_JAVASCRIPT, HAS_POLICY = 1, 2, 0xFC
PHRASES = np.zeros((len(PHRASE_WORDS), 15), np.uint8)  # zeros end a phrase
for _row, _phrase in enumerate(PHRASE_WORDS):
    PHRASES[_row, : len(_phrase)] = np.frombuffer(_phrase.encode(), np.uint8)
PHRASES.flags.writeable = False
BEGINS = np.zeros(256, np.uint8)  # bytes, in both cases, that begin a phrase
BEGINS[[ord(case) for phrase in PHRASE_WORDS for case in (phrase[0], phrase[0].upper())]] = 1
BEGINS.flags.writeable = False
EDIT = np.frombuffer(b"edit]", np.uint8)
NEEDED = np.frombuffer(b"citation needed]", np.uint8)

_ROW = types.Array(types.int64, 1, "C")
_ROWS = types.Array(types.int64, 2, "C")
OUT = types.Array(types.uint8, 1, "C")
TABLE = types.Array(types.uint8, 2, "C", readonly=True)


@dataclass(frozen=True)
class Lines:
    """Counts by the names of COLUMNS, and for every text its kept lines without citations, joined by newlines.

    C4's new text is `kept` without white space at its ends.
    """

    counts: dict[str, NDArray[np.uint32]]
    kept: pa.Array


def judge_lines(texts: pa.Array, *, terminal: bool) -> Lines:
    """Judge every line; without `terminal`, as FineWeb has it, lines need no punctuation at their end."""
    data, offsets = text_buffers(texts)
    rows = np.zeros((len(texts), len(COLUMNS)), np.int64)
    out, ends = np.empty(len(data), np.uint8), np.zeros(len(texts) + 1, np.int64)
    _judge_texts(
        data, offsets, terminal, *tables(), digits_of_all_scripts(), PHRASES, BEGINS, EDIT, NEEDED, rows, out, ends
    )
    counts = {name: rows[:, place].astype(np.uint32) for place, name in enumerate(COLUMNS)}
    written = out[: ends[-1]].tobytes()
    buffers = [None, pa.py_buffer(ends.tobytes()), pa.py_buffer(written)]
    return Lines(counts, pa.Array.from_buffers(pa.large_string(), len(texts), buffers))


@functools.cache
def digits_of_all_scripts() -> NDArray[np.int64]:
    """What the pattern \\d matches: the decimal digits of all scripts, in order."""
    points = np.array([point for point in range(sys.maxunicode + 1) if chr(point).isdecimal()], np.int64)
    points.flags.writeable = False
    return points


@njit([types.UniTuple(types.int64, 2)(U8, types.int64, types.int64, U16, U8)], cache=True, nogil=True)
def _end_of_line(data: Any, at: int, end: int, blocks: Any, flags: Any) -> tuple[int, int]:
    """Where the line of splitlines that starts at `at` ends, and where the next one starts."""
    while at < end:
        point, width = decode(data, at)
        if flags_of(point, blocks, flags) & LINE_END:
            both = point == 13 and at + 1 < end and data[at + 1] == 10
            return at, at + width + both
        at += width
    return at, at


@njit([types.UniTuple(types.int64, 2)(U8, types.int64, types.int64, U16, U8)], cache=True, nogil=True)
def _count_words(data: Any, at: int, end: int, blocks: Any, flags: Any) -> tuple[int, int]:
    """How many words stand between white space, and the characters of the longest."""
    words, longest, chars = 0, 0, 0
    while at < end:
        point, width = decode(data, at)
        if flags_of(point, blocks, flags) & SPACE:
            chars = 0
        else:
            chars += 1
            words += chars == 1
            longest = max(longest, chars)
        at += width
    return words, longest


@njit([types.boolean(U8, types.int64, types.int64, U8)], cache=True, nogil=True)
def _starts_with(data: Any, at: int, end: int, expected: Any) -> bool:
    if end - at < len(expected):
        return False
    k = 0
    while k < len(expected) and data[at + k] == expected[k]:
        k += 1
    return k == len(expected)


@njit([types.int64(U8, types.int64, types.int64, I64, U8, U8)], cache=True, nogil=True)
def _end_of_citation(data: Any, at: int, end: int, digits: Any, edit: Any, needed: Any) -> int:
    """Where the citation ends that starts with the bracket at `at`, or `at`: [12], [], [edit], [citation needed]."""
    inside = at + 1
    if _starts_with(data, inside, end, edit):
        return inside + len(edit)
    if _starts_with(data, inside, end, needed):
        return inside + len(needed)
    while inside < end and data[inside] != ord("]"):
        point, width = decode(data, inside)
        place = np.searchsorted(digits, point)
        if place == len(digits) or digits[place] != point:
            return at
        inside += width
    return inside + 1 if inside < end else at


@njit([types.int64(U8, types.int64, types.int64, I64, U8, U8, OUT, types.int64)], cache=True, nogil=True)
def copy_line(data: Any, at: int, end: int, digits: Any, edit: Any, needed: Any, out: Any, place: int) -> int:
    """Write a line without its citations; where it ends in `out`."""
    while at < end:
        if data[at] == ord("["):
            after = _end_of_citation(data, at, end, digits, edit, needed)
            if after > at:
                at = after
                continue
        out[place] = data[at]
        at, place = at + 1, place + 1
    return place


@njit([types.boolean(text, types.int64, types.int64) for text in (U8, OUT)], cache=True, nogil=True)
def is_terminated(out: Any, start: int, end: int) -> bool:
    if start == end:
        return False
    last = out[end - 1]
    dots = end - start >= 3 and last == 46 and out[end - 2] == 46 and out[end - 3] == 46
    return not dots and (last == 46 or last == 63 or last == 33 or last == 34 or last == 39)


@njit([types.boolean(text, types.int64, types.int64, TABLE, types.int64) for text in (U8, OUT)], cache=True, nogil=True)
def has_phrase_at(out: Any, at: int, end: int, phrases: Any, phrase: int) -> bool:
    """Whether the lower-cased text goes on with the phrase; beside A-Z only the Kelvin sign becomes a letter of ASCII."""
    for k in range(phrases.shape[1]):
        if phrases[phrase, k] == 0:
            return True
        if at >= end:
            return False
        letter: Any = np.int64(out[at])
        width = 1
        if 65 <= letter <= 90:
            letter += 32
        elif letter == 0xE2 and at + 2 < end and out[at + 1] == 0x84 and out[at + 2] == 0xAA:
            letter, width = 107, 3
        if letter != phrases[phrase, k]:
            return False
        at += width
    return True


@njit([types.int64(OUT, types.int64, types.int64, TABLE, U8)], cache=True, nogil=True)
def find_phrases(out: Any, at: int, end: int, phrases: Any, begins: Any) -> int:
    """One bit for every phrase that a line holds."""
    found = 0
    while at < end:
        if begins[out[at]]:
            for phrase in range(len(phrases)):
                if has_phrase_at(out, at, end, phrases, phrase):
                    found |= 1 << phrase
        at += 1
    return found


@njit([types.boolean(OUT, types.int64, types.int64)], cache=True, nogil=True)
def has_bracket(out: Any, at: int, end: int) -> bool:
    while at < end and out[at] != ord("{"):
        at += 1
    return at < end


@njit([types.boolean(types.int64, types.boolean, _ROW)], cache=True, nogil=True)
def _passes_phrases(found: int, bracket: bool, row: Any) -> bool:
    """Count what the phrases of a line do to it and to the document; whether the line is left."""
    if found & HAS_LOREM and row[_BRACKET] == 0:
        row[_LOREM] += 1
    if found & HAS_JAVASCRIPT:
        row[_JAVASCRIPT] += 1
        return False
    row[_BRACKET] += bracket
    if found & HAS_POLICY:
        row[_POLICY] += 1
        return False
    return True


@njit([types.int64(U8, types.int64, types.int64)], cache=True, nogil=True)
def count_paragraphs(data: Any, at: int, end: int) -> int:
    found = 0
    while at < end:
        stop = find_newline(data, at, end)
        found += stop - at >= _PARAGRAPH_CHARS and count_chars(data, at, stop) >= _PARAGRAPH_CHARS
        at = stop + 1
    return found


@njit(
    [types.void(U8, I64, types.boolean, U16, U8, I64, TABLE, U8, U8, U8, _ROWS, OUT, OUT64)],
    cache=True,
    nogil=True,
)
def _judge_texts(
    data: Any,
    offsets: Any,
    terminal: bool,
    blocks: Any,
    flags: Any,
    digits: Any,
    phrases: Any,
    begins: Any,
    edit: Any,
    needed: Any,
    rows: Any,
    out: Any,
    ends: Any,
) -> None:
    """Count the lines of every text, and write those that are left."""
    written = np.int64(0)
    for document in range(len(offsets) - 1):
        at, end, row = offsets[document], offsets[document + 1], rows[document]
        row[_PARAGRAPHS] = count_paragraphs(data, at, end)
        while at < end:
            stop, following = _end_of_line(data, at, end, blocks, flags)
            start = skip_space(data, at, stop, blocks, flags)
            stop = trim_space(data, start, stop, blocks, flags)
            at = following
            row[_LINES] += 1
            words, longest = _count_words(data, start, stop, blocks, flags)
            if longest > MAX_WORD_CHARS:
                row[_LONG_WORD] += 1
                continue
            place = written + (row[_KEPT] > 0)  # behind the newline that joins it to the line before
            last = copy_line(data, start, stop, digits, edit, needed, out, place)
            if terminal and not is_terminated(out, place, last):
                row[_UNTERMINATED] += 1
            elif words < MIN_WORDS:
                row[_FEW_WORDS] += 1
            elif _passes_phrases(find_phrases(out, place, last, phrases, begins), has_bracket(out, place, last), row):
                if place > written:
                    out[written] = 10
                row[_KEPT] += 1
                written = last
        ends[document + 1] = written
