"""What the kernels over UTF-8 share: where spaces, newlines and the last character of a stretch are.

Kernels that import from here are cached by Numba until their own file changes (see `unicode_classes`).
"""

from typing import Any

from numba import njit, types

from polylm.kernels.unicode_classes import SPACE, decode, flags_of
from polylm.kernels.words import U8, U16


@njit([types.int64(U8, types.int64, types.int64)], cache=True, nogil=True)
def count_chars(data: Any, start: int, stop: int) -> int:
    count = 0
    for at in range(start, stop):
        count += data[at] & 0xC0 != 0x80
    return count


@njit([types.int64(U8, types.int64, types.int64)], cache=True, nogil=True)
def find_newline(data: Any, at: int, end: int) -> int:
    while at < end and data[at] != 10:
        at += 1
    return at


@njit([types.int64(U8, types.int64, types.int64, U16, U8)], cache=True, nogil=True)
def skip_space(data: Any, at: int, end: int, blocks: Any, flags: Any) -> int:
    """Where the first character that is not white space stands, or `end`."""
    while at < end:
        point, width = decode(data, at)
        if not flags_of(point, blocks, flags) & SPACE:
            break
        at += width
    return at


@njit([types.int64(U8, types.int64, types.int64)], cache=True, nogil=True)
def last_char(data: Any, start: int, end: int) -> int:
    """Where the last character of a span that is not empty starts."""
    at = end - 1
    while at > start and data[at] & 0xC0 == 0x80:
        at -= 1
    return at


@njit([types.int64(U8, types.int64, types.int64, U16, U8)], cache=True, nogil=True)
def trim_space(data: Any, start: int, end: int, blocks: Any, flags: Any) -> int:
    """Where the last character that is not white space ends, or `start`."""
    while end > start:
        last = last_char(data, start, end)
        point, _ = decode(data, last)
        if not flags_of(point, blocks, flags) & SPACE:
            break
        end = last
    return end
