"""JSON Lines, of which one field is long: that field's strings straight into Arrow's form, and where the rest of each line is.

The rest is small, and a parser's: where it takes a line with another string in that field's place, the walk here was right,
because it is right on all that is JSON. What this kernel itself vouches for is the one string, but for its UTF-8.
"""

import numpy as np
from numpy.typing import NDArray

from polylm.kernels.utf8 import Bytes, Ints, jit

START, VALUE, AFTER, END = range(4)  # columns of `Strings.spans`
_QUOTE, _BACKSLASH, _COLON, _COMMA, _LINE_FEED = 0x22, 0x5C, 0x3A, 0x2C, 0x0A
_OPEN, _CLOSE, _OPEN_LIST, _CLOSE_LIST = 0x7B, 0x7D, 0x5B, 0x5D
_UNUSUAL = -1
# Eight bytes at once: https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord
_ONES, _HIGH = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_QUOTES, _BACKSLASHES, _SPACES = (_ONES * np.uint64(byte) for byte in (_QUOTE, _BACKSLASH, 0x20))

_STOPS = np.zeros(256, np.bool_)
_STOPS[[*range(0x20), _QUOTE, _BACKSLASH]] = True
_ESCAPES = np.zeros(256, np.uint8)
_ESCAPES[list(b'"\\\\/bfnrt')] = list(b'"\\\\/\b\f\n\r\t')


def strings(data: bytes, field: bytes, longest: int) -> tuple[Bytes, Ints, NDArray[np.int64]] | None:
    """The strings of a field at the top of the objects of `data`, one a line: their bytes, offsets, and spans of the lines.

    A span is where the line starts, where the field's value starts and ends, quotes included, and where the line ends; blank
    lines have none. None where a line is not plainly such an object: the field is not there once, or no string that can be
    read; a key holds a backslash; the line has more than `longest` bytes. The strings may be no UTF-8.
    """
    most = len(data) // (len(field) + len(b'{"":""}')) + 1  # lines; memory that is not written costs nothing
    spans, offsets, out = np.empty((most, 4), np.int64), np.zeros(most + 1, np.int64), np.empty(len(data), np.uint8)
    array = np.frombuffer(data, np.uint8)
    words = array[: len(data) & ~7].view(np.uint64)
    rows = _scan(array, words, np.frombuffer(field, np.uint8), longest, spans, offsets, out)
    return None if rows == _UNUSUAL else (out[: offsets[rows]], offsets[: rows + 1], spans[:rows])


@jit
def _scan(
    data: Bytes,
    words: NDArray[np.uint64],
    field: Bytes,
    longest: int,
    spans: NDArray[np.int64],
    offsets: Ints,
    out: Bytes,
) -> int:
    """Fill `spans`, `offsets` and `out`; the number of lines that are not blank."""
    at = row = written = 0
    while at < len(data):
        start = at
        at = _after_space(data, at)
        if at < len(data) and data[at] != _LINE_FEED:
            at, written, value, after = _object(data, words, field, at, out, written)
            if at == _UNUSUAL:
                return _UNUSUAL
            at = _after_space(data, at)
            if at < len(data) and data[at] != _LINE_FEED:
                return _UNUSUAL
            spans[row, START], spans[row, VALUE], spans[row, AFTER], spans[row, END] = start, value, after, at
            row += 1
            offsets[row] = written
        if at - start > longest:
            return _UNUSUAL
        at += 1
    return row


@jit
def _object(
    data: Bytes, words: NDArray[np.uint64], field: Bytes, at: int, out: Bytes, written: int
) -> tuple[int, int, int, int]:
    """Write the field's string: (past the object, bytes written by now, where its value starts, where it ends)."""
    value = after = _UNUSUAL
    none = (_UNUSUAL, written, value, after)
    if data[at] != _OPEN:
        return none
    while True:
        key = _after_space(data, at + 1) + 1
        if key >= len(data) or data[key - 1] != _QUOTE:
            return none
        at = _key_end(data, key)
        is_field = _equal(data[key:at], field)
        at = _after_space(data, at + 1)
        if at >= len(data) or data[at] != _COLON:
            return none
        at = _after_space(data, at + 1)
        if is_field:
            if value != _UNUSUAL or at >= len(data) or data[at] != _QUOTE:
                return none
            value = at
            at, written = _unescape(data, words, at + 1, out, written)
            after = at
        else:
            at = _skip(data, at)
        if at == _UNUSUAL:
            return none
        at = _after_space(data, at)
        if at >= len(data) or (data[at] != _COMMA and data[at] != _CLOSE):
            return none
        if data[at] == _CLOSE:
            return (at + 1, written, value, after) if value != _UNUSUAL else none


@jit
def _after_space(data: Bytes, at: int) -> int:
    while at < len(data) and (data[at] == 0x20 or data[at] == 0x09 or data[at] == 0x0D):
        at += 1
    return at


@jit
def _key_end(data: Bytes, at: int) -> int:
    """Where the quote after a key is; the end of the data for a key that holds what it may not, or an escape."""
    while at < len(data) and data[at] != _QUOTE:
        if data[at] == _BACKSLASH or data[at] < 0x20:
            return len(data)
        at += 1
    return at


@jit
def _equal(one: Bytes, other: Bytes) -> bool:
    if len(one) != len(other):
        return False
    for place in range(len(one)):  # noqa: SIM110 - the kernel's language has no all()
        if one[place] != other[place]:
            return False
    return True


@jit
def _skip(data: Bytes, at: int) -> int:
    """Past a value; brackets are only counted, their kinds are the parser's to check."""
    depth = 0
    while at < len(data):
        byte = data[at]
        if byte == _QUOTE:
            at += 1
            while at < len(data) and data[at] != _QUOTE and data[at] >= 0x20:
                at += 2 if data[at] == _BACKSLASH else 1
            if at >= len(data) or data[at] != _QUOTE:
                return _UNUSUAL
        elif byte in (_OPEN, _OPEN_LIST):
            depth += 1
        elif byte == _LINE_FEED:
            return _UNUSUAL
        elif byte in (_CLOSE, _CLOSE_LIST, _COMMA):
            if depth == 0:
                return at
            depth -= byte != _COMMA
        at += 1
    return _UNUSUAL


@jit
def _unescape(data: Bytes, words: NDArray[np.uint64], at: int, out: Bytes, written: int) -> tuple[int, int]:
    """Write the string that starts at `at`: (past its quote, bytes written by now)."""
    while True:
        at, written = _copy(data, words, at, out, written)
        if at >= len(data) or data[at] < 0x20:
            return _UNUSUAL, written
        if data[at] == _QUOTE:
            return at + 1, written
        at, code = _escape(data, at)
        if at == _UNUSUAL:
            return _UNUSUAL, written
        written = _write(code, out, written)


@jit
def _copy(data: Bytes, words: NDArray[np.uint64], at: int, out: Bytes, written: int) -> tuple[int, int]:
    """Copy up to the next quote, backslash or control character: (where that is, bytes written by now).

    Places are unsigned, because Numba makes sure of others that they do not count from the end: with these and eight bytes
    at once 2.3 GB/s, without 0.5.
    """
    while at < len(data):
        if at & 7 == 0:
            while at >> 3 < len(words):
                word = words[np.uint64(at >> 3)]
                quote, escape = word ^ _QUOTES, word ^ _BACKSLASHES
                # Where none of the eight is one, none of these has its high bit; letters beyond ASCII do not count.
                if ((quote - _ONES) & ~quote | (escape - _ONES) & ~escape | (word - _SPACES) & ~word) & _HIGH:
                    break
                for place in range(8):
                    out[np.uint64(written + place)] = np.uint8(word >> np.uint64(8 * place))
                at, written = at + 8, written + 8
            if at >= len(data):
                break
        byte = data[np.uint64(at)]
        if _STOPS[byte]:
            break
        out[np.uint64(written)] = byte
        at, written = at + 1, written + 1
    return at, written


@jit
def _escape(data: Bytes, at: int) -> tuple[int, int]:
    """Past an escape, and the character that it stands for."""
    if at + 1 >= len(data):
        return _UNUSUAL, 0
    stands_for = int(np.int64(_ESCAPES[data[at + 1]]))
    if stands_for > 0:
        return at + 2, stands_for
    code = _hexadecimal(data, at)
    if code < 0 or 0xDC00 <= code < 0xE000:
        return _UNUSUAL, 0
    if code < 0xD800 or code >= 0xE000:
        return at + 6, code
    low = _hexadecimal(data, at + 6)
    if low < 0xDC00 or low >= 0xE000:
        return _UNUSUAL, 0
    return at + 12, 0x10000 + ((code - 0xD800) << 10) + low - 0xDC00


@jit
def _hexadecimal(data: Bytes, at: int) -> int:
    """What stands in backslash, u and four digits; negative where it is none of these."""
    if at + 6 > len(data) or data[at] != _BACKSLASH or data[at + 1] != 0x75:
        return _UNUSUAL
    code = 0
    for place in range(at + 2, at + 6):
        digit = int(np.int64(data[place]))
        letter = digit | 0x20
        if 0x30 <= digit <= 0x39:
            code = code << 4 | digit - 0x30
        elif 0x61 <= letter <= 0x66:
            code = code << 4 | letter - 0x61 + 10
        else:
            return _UNUSUAL
    return code


@jit
def _write(code: int, out: Bytes, at: int) -> int:
    """Write a character as UTF-8; past it."""
    if code < 0x80:
        out[at] = code
        return at + 1
    width = 2 if code < 0x800 else (3 if code < 0x10000 else 4)
    for place in range(width - 1, 0, -1):
        out[at + place] = 0x80 | code & 0x3F
        code >>= 6
    out[at] = (0xF00 >> width) & 0xFF | code
    return at + width
