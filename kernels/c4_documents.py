"""C4's rules for documents: what of a text its line rules would leave, and what they find in it, counted and not cut.

As `c4_lines`, once with and once without the rule for a line's end, looking at every byte once; a line with a bracket,
which may be a citation, is copied without citations first. Memory: the longest line once more.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit, types
from numpy.typing import NDArray

from polylm.kernels.c4_lines import (
    BEGINS,
    COLUMNS,
    EDIT,
    HAS_JAVASCRIPT,
    HAS_LOREM,
    HAS_POLICY,
    MAX_WORD_CHARS,
    MIN_WORDS,
    NEEDED,
    OUT,
    PHRASE_WORDS,
    PHRASES,
    TABLE,
    copy_line,
    count_paragraphs,
    digits_of_all_scripts,
    find_phrases,
    has_bracket,
    has_phrase_at,
    is_terminated,
)
from polylm.kernels.scanning import count_chars, skip_space, trim_space
from polylm.kernels.unicode_classes import LINE_END, SPACE, TERMINAL, decode, flags_of, tables
from polylm.kernels.words import I64, U8, U16

COUNTS: dict[str, tuple[pa.DataType, str]] = {
    "c4_lorem_lines": COLUMNS["c4_lorem_lines"],
    "c4_bracket_lines": COLUMNS["c4_bracket_lines"],
    "c4_sentences": (pa.uint32(), "Sentences in the lines that are left: stretches that . ! ? and their kin end."),
    "c4_any_lorem_lines": (pa.uint32(), "c4_lorem_lines where lines may end in anything, as FineWeb has it."),
    "c4_any_bracket_lines": (pa.uint32(), "c4_bracket_lines, the same."),
    "c4_any_sentences": (pa.uint32(), "c4_sentences, the same."),
    "c4_paragraphs": COLUMNS["c4_paragraphs"],
}
"""What judges a document by C4's rules, for lines that must end in a sentence's mark and for those that need not."""

_ANY = 3  # columns from a count of COUNTS to the same without ends of lines
_SENTENCES, _COUNTED_PARAGRAPHS = 2, 6
# A letter of each phrase that is rarer than its first one, by its place, all before any Kelvin sign.
_RARE = tuple(phrase.index(rare) for phrase, rare in zip(PHRASE_WORDS, "pjfpkkkk", strict=True))
_KELVIN = 0x212A  # a k of three bytes in lower case
# What a byte is to `_scan_line`.
_PLAIN, _BEGINS_SPACE, _RARE_LETTER, _CITES, _BRACKETS = 0, 1, 2, 4, 8
_KINDS = np.zeros(256, np.uint8)
_KINDS[[*b"pjfkPJFK"]] = _RARE_LETTER
_KINDS[[*range(9, 14), *range(28, 33), 0xC2, 0xE1, 0xE2, 0xE3]] = _BEGINS_SPACE
_KINDS[[ord("["), ord("{")]] = _CITES, _BRACKETS
_KINDS.flags.writeable = False
# Bytes that begin no mark that ends a sentence: ASCII's others, what continues a character, and most letters' first bytes.
_MARKLESS = np.ones(256, np.uint8)
_MARKLESS[list(b".!?") + [point for point in range(0xC0, 256) if not 0xC3 <= point <= 0xD5]] = 0
_MARKLESS[[0xD0, 0xD1]] = 1
_MARKLESS.flags.writeable = False

_ROW = types.Array(types.int64, 1, "C")
_ROWS = types.Array(types.int64, 2, "C")


def count_lines(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """One row of COUNTS for each text; memory: its longest line once more."""
    rows = np.zeros((len(offsets) - 1, len(COUNTS)), np.int64)
    _count_texts(
        data, offsets, *tables(), digits_of_all_scripts(), PHRASES, BEGINS, EDIT, NEEDED, _KINDS, _MARKLESS, rows
    )
    return rows


@njit(inline="always")
def _closes(point: int) -> bool:
    """Whether a character closes a quotation or a bracket."""
    return (
        point == 34
        or point == 39
        or point == 41
        or point == 93
        or point == 0xBB
        or point == 0x2019
        or point == 0x201D
        or point == 0x300D
        or point == 0x300F
        or point == 0xFF09
    )


@njit([types.int64(text, types.int64, types.int64, U16, U8, U8) for text in (U8, OUT)], cache=True, nogil=True)
def _count_sentences(text: Any, at: int, end: int, blocks: Any, flags: Any, markless: Any) -> int:
    """Stretches up to a mark that ends a sentence, before white space or the end; what is left behind the last is one.

    A full-width mark needs no space behind it. Closing quotes and brackets belong to the mark before them.
    """
    sentences, closed = 0, at
    while at < end:
        if markless[text[at]]:
            at += 1
            continue
        point, width = decode(text, at)
        at += width
        if not flags_of(point, blocks, flags) & TERMINAL:
            continue
        wide, kind = point >= 0x3000, np.int64(SPACE)
        while at < end:
            point, width = decode(text, at)
            kind = flags_of(point, blocks, flags)
            if not kind & TERMINAL and not _closes(point):
                break
            at += width
        if at == end or wide or kind & SPACE:
            sentences, closed = sentences + 1, at
    return sentences + (closed < end)


@njit([types.boolean(types.int64, types.boolean, _ROW, types.int64)], cache=True, nogil=True)
def _passes(found: int, bracket: bool, row: Any, first: int) -> bool:
    """Count a line for the document, in the columns of COUNTS from `first` on; whether it is left."""
    row[first] += found & HAS_LOREM != 0 and row[first + 1] == 0
    if found & HAS_JAVASCRIPT:
        return False
    row[first + 1] += bracket
    return found & HAS_POLICY == 0


@njit([types.int64(U8, types.int64, types.int64, TABLE, types.int64)], cache=True, nogil=True)
def _phrases_around(data: Any, at: int, end: int, phrases: Any, begin: int) -> Any:
    """Bits of the phrases whose rare letter stands at `at`, in a document from `begin` to `end`."""
    found: Any = 0
    letter = data[at] | 32
    for phrase in range(len(phrases)):
        start = at - _RARE[phrase]
        if start >= begin and letter == phrases[phrase, _RARE[phrase]]:
            found |= np.int64(has_phrase_at(data, start, end, phrases, phrase)) << phrase
    return found


@njit([types.int64(U8, types.int64, types.int64, U16, U8, U8, TABLE, types.int64, _ROW)], cache=True, nogil=True)
def _scan_line(
    data: Any, at: int, end: int, blocks: Any, flags: Any, kinds: Any, phrases: Any, begin: int, seen: Any
) -> int:
    """Where the next line starts; what this one has goes into `seen`. Every byte is looked at once."""
    start, word, words, longest, found = at, at, 0, 0, 0
    stop, following, marks = end, end, np.int64(0)
    while at < end:
        kind = np.int64(kinds[data[at]])
        if kind == _PLAIN:
            at += 1
            continue
        if kind == _BEGINS_SPACE:
            point, width = decode(data, at)
            is_what = flags_of(point, blocks, flags)
            if is_what & (SPACE | LINE_END):
                words += at > word
                if at - word > MAX_WORD_CHARS:
                    longest = max(longest, count_chars(data, word, at))
                word = at + width
            if is_what & LINE_END:
                stop = at
                following = at + width + (point == 13 and at + 1 < end and data[at + 1] == 10)
                break
            marks |= _CITES if point == _KELVIN else 0
            at += width
            continue
        if kind == _RARE_LETTER:
            found |= _phrases_around(data, at, end, phrases, begin)
        else:
            marks |= kind
        at += 1
    if stop == end:
        words += end > word
        longest = max(longest, count_chars(data, word, end))
    seen[0] = skip_space(data, start, stop, blocks, flags)
    seen[1] = trim_space(data, seen[0], stop, blocks, flags)
    seen[2], seen[3], seen[4], seen[5] = words, longest, found, marks
    return following


@njit([types.void(U8, I64, U16, U8, I64, TABLE, U8, U8, U8, U8, U8, _ROWS)], cache=True, nogil=True)
def _count_texts(
    data: Any,
    offsets: Any,
    blocks: Any,
    flags: Any,
    digits: Any,
    phrases: Any,
    begins: Any,
    edit: Any,
    needed: Any,
    kinds: Any,
    markless: Any,
    rows: Any,
) -> None:
    """Judge every line twice, with and without the rule for its end."""
    line, seen = np.empty(1024, np.uint8), np.zeros(6, np.int64)
    for document in range(len(offsets) - 1):
        at, end, row = offsets[document], offsets[document + 1], rows[document]
        row[_COUNTED_PARAGRAPHS] = count_paragraphs(data, at, end)
        while at < end:
            at = _scan_line(data, at, end, blocks, flags, kinds, phrases, offsets[document], seen)
            start, stop, words, longest, found, marks = seen
            if words < MIN_WORDS or longest > MAX_WORD_CHARS:
                continue
            if marks & _CITES:
                if stop - start > len(line):
                    line = np.empty(2 * (stop - start), np.uint8)
                last = copy_line(data, start, stop, digits, edit, needed, line, 0)
                found, bracket = find_phrases(line, 0, last, phrases, begins), has_bracket(line, 0, last)
                terminated = is_terminated(line, 0, last)
                sentences = _count_sentences(line, 0, last, blocks, flags, markless)
            else:
                bracket, terminated = marks & _BRACKETS != 0, is_terminated(data, start, stop)
                sentences = _count_sentences(data, start, stop, blocks, flags, markless)
            if terminated and _passes(found, bracket, row, 0):
                row[_SENTENCES] += sentences
            if _passes(found, bracket, row, _ANY):
                row[_SENTENCES + _ANY] += sentences
