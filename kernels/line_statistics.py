"""The counts of Gopher's and FineWeb's rules that need no words: characters, lines and paragraphs, and which repeat.

Lengths are in code points. Peak memory is about 16 bytes a non-empty line of the largest document in the call.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit, types
from numpy.typing import NDArray

from polylm.kernels.scanning import count_chars, find_newline, last_char, skip_space, trim_space
from polylm.kernels.span_hash import (
    KEYS,
    POWERS,
    ROW,
    ROWS,
    SIXTY_FOUR,
    TABLE,
    cleared,
    seen_before,
    shift_for,
    span_hash,
)
from polylm.kernels.unicode_classes import LINE_END, TERMINAL, Bytes, decode, flags_of, tables
from polylm.kernels.words import I64, U8, U16, Int64s

COLUMNS: dict[str, tuple[pa.DataType, str]] = {
    "chars": (pa.uint32(), "Code points of the text."),
    "bytes": (pa.uint32(), "Bytes of the text in UTF-8."),
    "newlines": (pa.uint32(), "Characters \\n."),
    "hashes": (pa.uint32(), "Characters #."),
    "ellipses": (pa.uint32(), "Occurrences of ... that do not overlap, and of …."),
    "split_lines": (pa.uint32(), "Lines by str.splitlines, blank ones too."),
    "bullet_lines": (pa.uint32(), "Of split_lines, those that start with • or - after white space."),
    "ellipsis_lines": (pa.uint32(), "Of split_lines, those that end with ... or … before white space."),
    "nonblank_lines": (pa.uint32(), "Lines between \\n with any character that is not white space."),
    "punctuated_lines": (pa.uint32(), "Of nonblank_lines, those whose last character ends a sentence."),
    "short_lines": (pa.uint32(), "Of nonblank_lines, those of at most 30 characters."),
    "duplicate_nonblank_line_chars": (pa.uint32(), "Characters of nonblank_lines that repeat an earlier one."),
    "lines": (pa.uint32(), "Lines between runs of \\n; a run at either end of the text leaves an empty one there."),
    "duplicate_lines": (pa.uint32(), "Of lines, those that repeat an earlier one."),
    "duplicate_line_chars": (pa.uint32(), "Characters of duplicate_lines."),
    "paragraphs": (pa.uint32(), "Paragraphs between runs of two or more \\n in the stripped text."),
    "duplicate_paragraphs": (pa.uint32(), "Of paragraphs, those that repeat an earlier one."),
    "duplicate_paragraph_chars": (pa.uint32(), "Characters of duplicate_paragraphs."),
}

_AT = {name: place for place, name in enumerate(COLUMNS)}
# Compiled code reads these as constants; the order of COLUMNS is the order of the kernel's output.
_CHARS, _BYTES, _NEWLINES = _AT["chars"], _AT["bytes"], _AT["newlines"]
_HASHES, _ELLIPSES = _AT["hashes"], _AT["ellipses"]
_SPLIT_LINES, _BULLET_LINES, _ELLIPSIS_LINES = _AT["split_lines"], _AT["bullet_lines"], _AT["ellipsis_lines"]
_NONBLANK, _PUNCTUATED, _SHORT = _AT["nonblank_lines"], _AT["punctuated_lines"], _AT["short_lines"]
_DUPLICATE_NONBLANK_CHARS = _AT["duplicate_nonblank_line_chars"]
_LINES, _DUPLICATE_LINES = _AT["lines"], _AT["duplicate_lines"]
_DUPLICATE_LINE_CHARS, _PARAGRAPHS = _AT["duplicate_line_chars"], _AT["paragraphs"]

_SHORT_LINE_CHARS = 30  # FineWeb's short_line_length, the same in FineWeb2

# Bytes that start neither a line end (ASCII's, U+0085, U+2028, U+2029) nor #, . or U+2026.
_PLAIN = np.ones(256, np.uint8)
_PLAIN[[*range(10, 14), *range(28, 31), 35, 46, 0xC2, 0xE2]] = 0
_PLAIN.flags.writeable = False


def count_lines(data: Bytes, offsets: Int64s) -> NDArray[np.int64]:
    """One row of COLUMNS for each text."""
    rows = np.zeros((len(offsets) - 1, len(COLUMNS)), np.int64)
    _count_lines(data, offsets, *tables(), _PLAIN, POWERS, rows)
    return rows


@njit([types.void(U8, types.int64, types.int64, U16, U8, ROW)], cache=True, nogil=True)
def _end_split_line(data: Any, start: int, end: int, blocks: Any, flags: Any, row: Any) -> None:
    """Count one of splitlines' lines, by what is left of it without white space at its ends."""
    row[_SPLIT_LINES] += 1
    if start == end:  # most of what a text of newlines has
        return
    start = skip_space(data, start, end, blocks, flags)
    last = trim_space(data, start, end, blocks, flags) - 3
    if start == end:
        return
    three = last >= start
    bullet = three and data[start] == 0xE2 and data[start + 1] == 0x80 and data[start + 2] == 0xA2
    if bullet or data[start] == ord("-"):
        row[_BULLET_LINES] += 1
    dots = three and data[last] == 46 and data[last + 1] == 46 and data[last + 2] == 46
    if dots or (three and data[last] == 0xE2 and data[last + 1] == 0x80 and data[last + 2] == 0xA6):
        row[_ELLIPSIS_LINES] += 1


@njit([types.void(U8, types.int64, types.int64, U16, U8, U8, ROW)], cache=True, nogil=True)
def _scan_characters(data: Any, start: int, end: int, blocks: Any, flags: Any, plain: Any, row: Any) -> None:
    """Newlines, hashes, ellipses and the lines of splitlines."""
    at, line = start, start
    while at < end:
        if plain[data[at]]:
            at += 1
            continue
        point, width = decode(data, at)
        if flags_of(point, blocks, flags) & LINE_END:
            _end_split_line(data, line, at, blocks, flags, row)
            if point == 13 and at + 1 < end and data[at + 1] == 10:
                at += 1
            row[_NEWLINES] += data[at] == 10
            at += width
            line = at
        elif point == 46:
            run = at
            while at < end and data[at] == 46:
                at += 1
            row[_ELLIPSES] += (at - run) // 3
        else:
            row[_HASHES] += point == 35
            row[_ELLIPSES] += point == 0x2026
            at += width
    if line < end:
        _end_split_line(data, line, end, blocks, flags, row)


@njit([TABLE(U8, types.int64, types.int64, U16, U8, KEYS, TABLE, ROW)], cache=True, nogil=True)
def _scan_lines(data: Any, start: int, end: int, blocks: Any, flags: Any, powers: Any, table: Any, row: Any) -> Any:
    """Lines between newlines: how they end, how long they are, which repeat an earlier one."""
    # By newlines alone a text of newlines would ask for 16 bytes for each of them; a filled line has another byte, too.
    most = min(row[_NEWLINES] + 1, end - start - row[_NEWLINES])
    shift = shift_for(most)
    table = cleared(table, 1 << np.int64(SIXTY_FOUR - shift))
    edges = np.int64(1) if end == start else np.int64(data[start] == 10) + np.int64(data[end - 1] == 10)
    row[_LINES] = edges
    row[_DUPLICATE_LINES] = edges == 2  # the two empty lines at the ends of the text are equal
    at = start
    while at < end:
        stop = find_newline(data, at, end)
        if stop > at:
            chars = count_chars(data, at, stop)
            row[_CHARS] += chars
            row[_LINES] += 1
            blank = skip_space(data, at, stop, blocks, flags) == stop
            if not blank:
                point, _ = decode(data, last_char(data, at, stop))
                row[_NONBLANK] += 1
                row[_PUNCTUATED] += flags_of(point, blocks, flags) & TERMINAL != 0
                row[_SHORT] += chars <= _SHORT_LINE_CHARS
            if most > 1 and seen_before(table, shift, span_hash(data, at, stop, powers)):
                row[_DUPLICATE_LINES] += 1
                row[_DUPLICATE_LINE_CHARS] += chars
                row[_DUPLICATE_NONBLANK_CHARS] += 0 if blank else chars
        at = stop + 1
    return table


@njit([TABLE(U8, types.int64, types.int64, U16, U8, KEYS, TABLE, ROW)], cache=True, nogil=True)
def _scan_paragraphs(
    data: Any, start: int, end: int, blocks: Any, flags: Any, powers: Any, table: Any, row: Any
) -> Any:
    """Stretches between two or more newlines of the text without white space at its ends."""
    start = skip_space(data, start, end, blocks, flags)
    end = trim_space(data, start, end, blocks, flags)
    shift = shift_for(row[_LINES])
    table = cleared(table, 1 << np.int64(SIXTY_FOUR - shift))
    at = start
    while True:
        stop = find_newline(data, at, end)
        while stop < end and data[stop + 1] != 10:  # the last character is no newline
            stop = find_newline(data, stop + 1, end)
        row[_PARAGRAPHS] += 1
        if stop == end and row[_PARAGRAPHS] == 1:
            return table
        if seen_before(table, shift, span_hash(data, at, stop, powers)):
            row[_PARAGRAPHS + 1] += 1
            row[_PARAGRAPHS + 2] += count_chars(data, at, stop)
        if stop == end:
            return table
        at = stop
        while data[at] == 10:
            at += 1


@njit([types.void(U8, I64, U16, U8, U8, KEYS, ROWS)], cache=True, nogil=True)
def _count_lines(data: Any, offsets: Any, blocks: Any, flags: Any, plain: Any, powers: Any, rows: Any) -> None:
    """All counts that need no words."""
    table = np.zeros(1024, np.uint64)
    for document in range(len(offsets) - 1):
        start, end, row = offsets[document], offsets[document + 1], rows[document]
        _scan_characters(data, start, end, blocks, flags, plain, row)
        table = _scan_lines(data, start, end, blocks, flags, powers, table, row)
        table = _scan_paragraphs(data, start, end, blocks, flags, powers, table, row)
        row[_CHARS] += row[_NEWLINES]
        row[_BYTES] = end - start
