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
from polylm.kernels.unicode_classes import LINE_END, SPACE, TERMINAL, decode, flags_of, tables
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

_AT = {name: place for place, name in enumerate(COLUMNS)}
_ANY = 3  # columns from a count of COUNTS to the same without ends of lines
_SENTENCES, _COUNTED_PARAGRAPHS = 2, 6
_LINES, _LONG_WORD, _UNTERMINATED = _AT["c4_lines"], _AT["c4_long_word_lines"], _AT["c4_unterminated_lines"]
_FEW_WORDS, _JAVASCRIPT, _POLICY = _AT["c4_few_word_lines"], _AT["c4_javascript_lines"], _AT["c4_policy_lines"]
_KEPT, _LOREM, _BRACKET = _AT["c4_kept_lines"], _AT["c4_lorem_lines"], _AT["c4_bracket_lines"]
_PARAGRAPHS = _AT["c4_paragraphs"]

_MAX_WORD_CHARS, _MIN_WORDS, _PARAGRAPH_CHARS = 1000, 3, 200

# The first two have rules of their own; the others are the policies.
_PHRASE_WORDS = (
    "lorem ipsum",
    "javascript",
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_HAS_LOREM, _HAS_JAVASCRIPT, _HAS_POLICY = 1, 2, 0xFC
_PHRASES = np.zeros((len(_PHRASE_WORDS), 15), np.uint8)  # zeros end a phrase
for _row, _phrase in enumerate(_PHRASE_WORDS):
    _PHRASES[_row, : len(_phrase)] = np.frombuffer(_phrase.encode(), np.uint8)
_PHRASES.flags.writeable = False
_BEGINS = np.zeros(256, np.uint8)  # bytes, in both cases, that begin a phrase
_BEGINS[[ord(case) for phrase in _PHRASE_WORDS for case in (phrase[0], phrase[0].upper())]] = 1
_BEGINS.flags.writeable = False
# A letter of each phrase that is rarer than its first one, by its place, all before any Kelvin sign.
_RARE = tuple(phrase.index(rare) for phrase, rare in zip(_PHRASE_WORDS, "pjfpkkkk", strict=True))
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
_EDIT = np.frombuffer(b"edit]", np.uint8)
_NEEDED = np.frombuffer(b"citation needed]", np.uint8)

_ROW = types.Array(types.int64, 1, "C")
_ROWS = types.Array(types.int64, 2, "C")
_OUT = types.Array(types.uint8, 1, "C")
_TABLE = types.Array(types.uint8, 2, "C", readonly=True)


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
    _judge_texts(data, offsets, terminal, *tables(), _digits(), _PHRASES, _BEGINS, _EDIT, _NEEDED, rows, out, ends)
    counts = {name: rows[:, place].astype(np.uint32) for place, name in enumerate(COLUMNS)}
    written = out[: ends[-1]].tobytes()
    buffers = [None, pa.py_buffer(ends.tobytes()), pa.py_buffer(written)]
    return Lines(counts, pa.Array.from_buffers(pa.large_string(), len(texts), buffers))


def count_lines(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """One row of COUNTS for each text; memory: its longest line once more."""
    rows = np.zeros((len(offsets) - 1, len(COUNTS)), np.int64)
    _count_texts(data, offsets, *tables(), _digits(), _PHRASES, _BEGINS, _EDIT, _NEEDED, _KINDS, _MARKLESS, rows)
    return rows


@functools.cache
def _digits() -> NDArray[np.int64]:
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


@njit([types.int64(U8, types.int64, types.int64, I64, U8, U8, _OUT, types.int64)], cache=True, nogil=True)
def _copy_line(data: Any, at: int, end: int, digits: Any, edit: Any, needed: Any, out: Any, place: int) -> int:
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


@njit([types.boolean(text, types.int64, types.int64) for text in (U8, _OUT)], cache=True, nogil=True)
def _is_terminated(out: Any, start: int, end: int) -> bool:
    if start == end:
        return False
    last = out[end - 1]
    dots = end - start >= 3 and last == 46 and out[end - 2] == 46 and out[end - 3] == 46
    return not dots and (last == 46 or last == 63 or last == 33 or last == 34 or last == 39)


@njit(
    [types.boolean(text, types.int64, types.int64, _TABLE, types.int64) for text in (U8, _OUT)], cache=True, nogil=True
)
def _has_phrase_at(out: Any, at: int, end: int, phrases: Any, phrase: int) -> bool:
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


@njit([types.int64(_OUT, types.int64, types.int64, _TABLE, U8)], cache=True, nogil=True)
def _find_phrases(out: Any, at: int, end: int, phrases: Any, begins: Any) -> int:
    """One bit for every phrase that a line holds."""
    found = 0
    while at < end:
        if begins[out[at]]:
            for phrase in range(len(phrases)):
                if _has_phrase_at(out, at, end, phrases, phrase):
                    found |= 1 << phrase
        at += 1
    return found


@njit([types.boolean(_OUT, types.int64, types.int64)], cache=True, nogil=True)
def _has_bracket(out: Any, at: int, end: int) -> bool:
    while at < end and out[at] != ord("{"):
        at += 1
    return at < end


@njit([types.boolean(types.int64, types.boolean, _ROW)], cache=True, nogil=True)
def _passes_phrases(found: int, bracket: bool, row: Any) -> bool:
    """Count what the phrases of a line do to it and to the document; whether the line is left."""
    if found & _HAS_LOREM and row[_BRACKET] == 0:
        row[_LOREM] += 1
    if found & _HAS_JAVASCRIPT:
        row[_JAVASCRIPT] += 1
        return False
    row[_BRACKET] += bracket
    if found & _HAS_POLICY:
        row[_POLICY] += 1
        return False
    return True


@njit([types.int64(U8, types.int64, types.int64)], cache=True, nogil=True)
def _paragraphs(data: Any, at: int, end: int) -> int:
    found = 0
    while at < end:
        stop = find_newline(data, at, end)
        found += stop - at >= _PARAGRAPH_CHARS and count_chars(data, at, stop) >= _PARAGRAPH_CHARS
        at = stop + 1
    return found


@njit(
    [types.void(U8, I64, types.boolean, U16, U8, I64, _TABLE, U8, U8, U8, _ROWS, _OUT, OUT64)],
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
        row[_PARAGRAPHS] = _paragraphs(data, at, end)
        while at < end:
            stop, following = _end_of_line(data, at, end, blocks, flags)
            start = skip_space(data, at, stop, blocks, flags)
            stop = trim_space(data, start, stop, blocks, flags)
            at = following
            row[_LINES] += 1
            words, longest = _count_words(data, start, stop, blocks, flags)
            if longest > _MAX_WORD_CHARS:
                row[_LONG_WORD] += 1
                continue
            place = written + (row[_KEPT] > 0)  # behind the newline that joins it to the line before
            last = _copy_line(data, start, stop, digits, edit, needed, out, place)
            if terminal and not _is_terminated(out, place, last):
                row[_UNTERMINATED] += 1
            elif words < _MIN_WORDS:
                row[_FEW_WORDS] += 1
            elif _passes_phrases(_find_phrases(out, place, last, phrases, begins), _has_bracket(out, place, last), row):
                if place > written:
                    out[written] = 10
                row[_KEPT] += 1
                written = last
        ends[document + 1] = written


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


@njit([types.int64(text, types.int64, types.int64, U16, U8, U8) for text in (U8, _OUT)], cache=True, nogil=True)
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
    row[first] += found & _HAS_LOREM != 0 and row[first + 1] == 0
    if found & _HAS_JAVASCRIPT:
        return False
    row[first + 1] += bracket
    return found & _HAS_POLICY == 0


@njit([types.int64(U8, types.int64, types.int64, _TABLE, types.int64)], cache=True, nogil=True)
def _phrases_around(data: Any, at: int, end: int, phrases: Any, begin: int) -> Any:
    """Bits of the phrases whose rare letter stands at `at`, in a document from `begin` to `end`."""
    found: Any = 0
    letter = data[at] | 32
    for phrase in range(len(phrases)):
        start = at - _RARE[phrase]
        if start >= begin and letter == phrases[phrase, _RARE[phrase]]:
            found |= np.int64(_has_phrase_at(data, start, end, phrases, phrase)) << phrase
    return found


@njit([types.int64(U8, types.int64, types.int64, U16, U8, U8, _TABLE, types.int64, _ROW)], cache=True, nogil=True)
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
                if at - word > _MAX_WORD_CHARS:
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


@njit([types.void(U8, I64, U16, U8, I64, _TABLE, U8, U8, U8, U8, U8, _ROWS)], cache=True, nogil=True)
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
        row[_COUNTED_PARAGRAPHS] = _paragraphs(data, at, end)
        while at < end:
            at = _scan_line(data, at, end, blocks, flags, kinds, phrases, offsets[document], seen)
            start, stop, words, longest, found, marks = seen
            if words < _MIN_WORDS or longest > _MAX_WORD_CHARS:
                continue
            if marks & _CITES:
                if stop - start > len(line):
                    line = np.empty(2 * (stop - start), np.uint8)
                last = _copy_line(data, start, stop, digits, edit, needed, line, 0)
                found, bracket = _find_phrases(line, 0, last, phrases, begins), _has_bracket(line, 0, last)
                terminated = _is_terminated(line, 0, last)
                sentences = _count_sentences(line, 0, last, blocks, flags, markless)
            else:
                bracket, terminated = marks & _BRACKETS != 0, _is_terminated(data, start, stop)
                sentences = _count_sentences(data, start, stop, blocks, flags, markless)
            if terminated and _passes(found, bracket, row, 0):
                row[_SENTENCES] += sentences
            if _passes(found, bracket, row, _ANY):
                row[_SENTENCES + _ANY] += sentences
