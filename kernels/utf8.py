"""Arrow's UTF-8 buffers, their characters, and slices of them, for kernels that read any string array."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]
Ints: TypeAlias = NDArray[np.int64]
_F = TypeVar("_F", bound=Callable[..., Any])

# Tables of characters go to the end of plane 1; what lies above needs four rules and no table.
TABLE_SIZE = 0x20000
_BROKEN = 0xFFFD

# Scripts written without spaces between words, with their punctuation and full-width forms. Tibetan has its own mark
# between syllables; the long-word rule would cut whole sentences of it.
UNSPACED_RANGES = (
    (0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19FF), (0x1A20, 0x1AAF),
    (0x1B00, 0x1B7F), (0x2E80, 0x2FFF), (0x3000, 0x312F), (0x3190, 0x4DBF), (0x4E00, 0x9FFF), (0xA000, 0xA4CF),
    (0xA980, 0xA9FF), (0xAA60, 0xAADF), (0xF900, 0xFAFF), (0xFE30, 0xFE4F), (0xFF00, 0xFF9F), (0xFFE0, 0xFFEF),
    (0x16FE0, 0x18DFF), (0x1AFF0, 0x1B2FF),
)  # fmt: skip


def jit(function: _F) -> _F:
    compiled: _F = numba.njit(cache=True, nogil=True)(function)
    return compiled


def row_batches(texts: pa.Array, max_bytes: int = 16 << 20) -> Iterator[pa.Array]:
    """Slices of `texts`, in order, of at most `max_bytes` each or of one row."""
    _, offsets = utf8_buffers(texts)
    start = 0
    while start < len(texts):
        end = int(np.searchsorted(offsets, offsets[start] + max_bytes, side="right")) - 1
        end = max(end, start + 1)
        yield texts.slice(start, end - start)
        start = end


def utf8_buffers(texts: pa.Array) -> tuple[Bytes, Ints]:
    """The bytes and int64 offsets of a string array; a null row is empty, whatever its offsets say."""
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        raise ValueError(f"texts are {texts.type}, expected string or large_string")
    if texts.null_count:
        texts = texts.fill_null("")
    _, offset_buffer, data_buffer = texts.buffers()
    width = np.dtype(np.int64 if pa.types.is_large_string(texts.type) else np.int32)
    if offset_buffer is None or not len(texts):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    offsets = np.frombuffer(offset_buffer, width)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    data = np.frombuffer(data_buffer if data_buffer is not None else b"", np.uint8)
    return data, offsets


def string_array(data: Bytes, offsets: Ints, is_null: NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    """A string array over the first `offsets[-1]` bytes of `data`."""
    large = pa.types.is_large_string(kind)
    validity = pa.py_buffer(np.packbits(~is_null, bitorder="little"))
    width = offsets if large else offsets.astype(np.int32)
    # Copied, so that what was cut does not stay in memory.
    buffers = [validity, pa.py_buffer(width), pa.py_buffer(data[: offsets[-1]].copy())]
    return pa.Array.from_buffers(kind, len(is_null), buffers, null_count=int(is_null.sum()))


@jit
def decode(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """The code point at byte `i` and its bytes; a byte that is not UTF-8 is one U+FFFD, and nothing is read past `end`."""
    first = np.int64(data[i])
    if first < 0x80:
        return int(first), 1
    width = 2 if first < 0xE0 else (3 if first < 0xF0 else 4)
    if first < 0xC2 or first > 0xF4 or i + width > end:
        return _BROKEN, 1
    code = first & (0x7F >> width)
    for k in range(1, width):
        byte = np.int64(data[i + k])
        if byte & 0xC0 != 0x80:
            return _BROKEN, 1
        code = code << 6 | (byte & 0x3F)
    return int(code), width


def within(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)
