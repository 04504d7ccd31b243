"""The counts of ROOTS' and the paper's rules that need single characters: kinds, dates, and n-grams that repeat.

Peak memory is 12 bytes a byte of the largest document in the call, and 64 an n-gram of it that repeats.
"""

import functools
import sys
import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit, types
from numpy.typing import NDArray

from polylm.kernels.span_hash import BASE, KEYS, ONE, POWERS, ROW, ROWS, TABLE, U64, ZERO, slot_of
from polylm.kernels.unicode_classes import Blocks, Bytes, decode, distinct_blocks, flags_of
from polylm.kernels.words import I64, U8, U16, Int64s

COLUMNS: dict[str, tuple[pa.DataType, str]] = {
    "digits": (pa.uint32(), "Decimal digits of all scripts."),
    "special_chars": (pa.uint32(), "Characters that are neither letters nor marks: digits, signs, punctuation, space."),
    "dates": (pa.uint32(), "Dates in digits: 2024-05-31, 31.5.2024, 5/31/24, 2024年5月, 2024년 5월."),
    "char_grams": (pa.uint32(), "Characters in a row that ROOTS looks at: 10, in Chinese 3."),
    "repeated_char_grams": (
        pa.uint32(),
        "Of char_grams, those that are one of the commonest sqrt(distinct), if they repeat.",
    ),
}
CHAR_GRAM = 10
CHAR_GRAMS = {"zh": 3}
"""Characters in a row that ROOTS counts, where they are not CHAR_GRAM: parameters_filtering.py of
bigscience-workshop/data-preparation (91702cd), character_repetition_length."""

_AT = {name: place for place, name in enumerate(COLUMNS)}
_DIGITS, _SPECIAL, _DATES, _REPEATED = _AT["digits"], _AT["special_chars"], _AT["dates"], _AT["repeated_char_grams"]
_GRAMS = _AT["char_grams"]
_IS_SPECIAL, _IS_DIGIT = 1, 2
_YEARS, _MONTHS = (0x5E74, 0xB144), (0x6708, 0xC6D4)  # 年 년, 月 월
_BITS_A_CHAR = 8  # of the two filters; an eighth of them set, so an eighth of the n-grams is counted for nothing
_BITS = types.Array(types.uint8, 1, "C")


def count_characters(data: Bytes, offsets: Int64s, gram: int) -> NDArray[np.int64]:
    """One row of COLUMNS for each text, its n-grams `gram` characters long (at most 16)."""
    assert 1 <= gram <= 16, f"n-grams of {gram} characters: the table of powers ends at 64 bytes"
    rows = np.zeros((len(offsets) - 1, len(COLUMNS)), np.int64)
    _count_characters(data, offsets, *_classes(), POWERS, gram, rows)
    return rows


@functools.cache
def _classes() -> tuple[Blocks, Bytes]:
    """A two-level table as in `unicode_classes`: what is special, what is a digit."""
    every = np.full(sys.maxunicode + 1, _IS_SPECIAL, np.uint8)
    for points in (range(0x40000), range(0xE0000, 0xE1000)):
        every[points.start : points.stop] = np.fromiter(map(_class_of, points), np.uint8, len(points))
    first, blocks = distinct_blocks(every.reshape(-1, 128))
    first.flags.writeable = blocks.flags.writeable = False
    return blocks, first


def _class_of(point: int) -> int:
    category = unicodedata.category(chr(point))
    return 0 if category[0] in "LM" else _IS_SPECIAL | _IS_DIGIT * (category == "Nd")


@njit([types.UniTuple(types.int64, 2)(U8, types.int64, types.int64, U16, U8)], cache=True, nogil=True)
def _end_of_digits(data: Any, at: int, end: int, blocks: Any, flags: Any) -> tuple[int, int]:
    """How many digits stand in a row from `at` on, and where they end."""
    count = 0
    while at < end:
        point, width = decode(data, at)
        if not flags_of(point, blocks, flags) & _IS_DIGIT:
            break
        count, at = count + 1, at + width
    return count, at


@njit([types.boolean(U8, types.int64, types.int64, U16, U8)], cache=True, nogil=True)
def _is_date(data: Any, at: int, end: int, blocks: Any, flags: Any) -> bool:
    """Whether a date begins with the digits at `at`: three numbers with one mark between them, or year and month."""
    first, at = _end_of_digits(data, at, end, blocks, flags)
    if first > 4 or at >= end:
        return False
    mark, width = decode(data, at)
    at += width
    if mark == _YEARS[0] or mark == _YEARS[1]:
        at += at < end and data[at] == 32
        months, at = _end_of_digits(data, at, end, blocks, flags)
        if at >= end or first != 4:
            return False
        mark, _ = decode(data, at)
        return bool(1 <= months <= 2 and (mark == _MONTHS[0] or mark == _MONTHS[1]))
    if mark != 45 and mark != 46 and mark != 47:
        return False
    second, at = _end_of_digits(data, at, end, blocks, flags)
    if not 1 <= second <= 2 or at >= end or data[at] != mark:
        return False
    third, at = _end_of_digits(data, at + 1, end, blocks, flags)
    if at + 1 < end and data[at] == mark and _end_of_digits(data, at + 1, end, blocks, flags)[0]:
        return False  # four numbers or more: an address, a version
    return bool((first == 4 and 1 <= third <= 2) or (1 <= first <= 2 and (third == 2 or third == 4)))


@njit([types.int64(U8, types.int64, types.int64, U16, U8, KEYS, types.int64, TABLE, ROW)], cache=True, nogil=True)
def _scan_characters(
    data: Any, start: int, end: int, blocks: Any, flags: Any, powers: Any, gram: int, keys: Any, row: Any
) -> int:
    """Count what single characters are, and hash every `gram` of them in a row into `keys`; how many these are."""
    digits, special = 0, 0
    at, back, chars, before, was_digit = start, start, 0, np.int64(0), 0
    key = ZERO
    while at < end:
        point, width = np.int64(data[at]), 1
        key = key * BASE + U64(point) + ONE
        if point >= 128:
            point, width = decode(data, at)
            for k in range(at + 1, at + width):
                key = key * BASE + U64(data[k]) + ONE
        kind = flags_of(point, blocks, flags)
        special += kind & _IS_SPECIAL
        if kind & _IS_DIGIT:
            digits += 1
            if not was_digit and not 45 <= before <= 47:
                row[_DATES] += _is_date(data, at, end, blocks, flags)
        before, was_digit = point, kind & _IS_DIGIT
        at += width
        chars += 1
        if chars >= gram:
            keys[chars - gram] = key
            # The first character leaves, so that the next one makes an n-gram again.
            key -= (U64(data[back]) + ONE) * powers[at - back - 1]
            back += 1
            while back < at and data[back] & 0xC0 == 0x80:
                key -= (U64(data[back]) + ONE) * powers[at - back - 1]
                back += 1
    row[_DIGITS], row[_SPECIAL] = digits, special
    return max(chars - gram + 1, 0)


@njit([types.int64(TABLE, types.int64, _BITS, _BITS)], cache=True, nogil=True)
def _keep_repeated(keys: Any, grams: int, once: Any, twice: Any) -> int:
    """Move the keys that stand more than once to the front, with some that do not; how many these are."""
    size, shift = 8, U64(61)
    while size < grams * _BITS_A_CHAR:
        size *= 2
        shift -= ONE
    once[: size // 8] = 0
    twice[: size // 8] = 0
    # Without branches: which n-grams share a bit cannot be foreseen.
    for gram in range(grams):
        slot = slot_of(keys[gram], shift)
        bit = np.uint8(1 << (slot & 7))
        twice[slot >> 3] |= once[slot >> 3] & bit
        once[slot >> 3] |= bit
    kept = 0
    for gram in range(grams):
        slot = slot_of(keys[gram], shift)
        keys[kept] = keys[gram]
        kept += twice[slot >> 3] >> (slot & 7) & 1
    return kept


@njit([types.int64(TABLE, types.int64, types.int64)], cache=True, nogil=True)
def _commonest(keys: Any, kept: int, grams: int) -> Any:
    """How many n-grams are one of the commonest sqrt(distinct), among those that stand more than once."""
    shift, slots = U64(62), 4
    while slots < 2 * kept:
        slots *= 2
        shift -= ONE
    table = np.zeros(2 * slots, np.uint64)  # pairs of key and count
    distinct, repeated, most = grams - kept, 0, np.int64(0)
    for gram in range(kept):
        key = keys[gram] if keys[gram] != ZERO else ONE
        slot = slot_of(key, shift)
        while table[2 * slot] != key and table[2 * slot] != ZERO:
            slot = slot + 1 & slots - 1
        table[2 * slot] = key
        table[2 * slot + 1] += ONE
        count = np.int64(table[2 * slot + 1])
        distinct += count == 1
        repeated += count == 2
        most = max(most, count)
    left: Any = min(np.int64(np.sqrt(distinct)), repeated)
    by_count = np.zeros(most + 1, np.int64)
    for slot in range(slots):
        by_count[np.int64(table[2 * slot + 1])] += 1
    total = np.int64(0)
    for often in range(np.int64(most), 1, -1):
        taken = min(left, by_count[often])
        total, left = total + taken * often, left - taken
    return total


@njit([types.void(U8, I64, U16, U8, KEYS, types.int64, ROWS)], cache=True, nogil=True)
def _count_characters(data: Any, offsets: Any, blocks: Any, flags: Any, powers: Any, gram: int, rows: Any) -> None:
    most = np.int64(0)
    for document in range(len(offsets) - 1):
        most = max(most, offsets[document + 1] - offsets[document])
    keys = np.zeros(most + 1, np.uint64)
    bits = 8
    while bits < most * _BITS_A_CHAR:
        bits *= 2
    once, twice = np.zeros(bits // 8, np.uint8), np.zeros(bits // 8, np.uint8)
    for document in range(len(offsets) - 1):
        start, end, row = offsets[document], offsets[document + 1], rows[document]
        grams = _scan_characters(data, start, end, blocks, flags, powers, gram, keys, row)
        row[_GRAMS] = grams
        kept = _keep_repeated(keys, grams, once, twice)
        if kept:
            row[_REPEATED] = _commonest(keys, kept, grams)
