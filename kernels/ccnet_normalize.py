"""Text as cc_net's language models see it: lower case, no accents, digits 0, plain punctuation, one line.

Equal to `cc_net.text_normalizer.normalize` on every text, by tables that Python's own `str` and `unicodedata` fill. That strips
*every* non-spacing mark, so Thai and Hindi lose vowels; a model that was trained on such text is none the worse for it, and
scores compare with cc_net's. Line ends are control characters and vanish, so that the whole text is one sentence.
"""

import itertools
import unicodedata
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from polylm.kernels.unicode_classes import decode

Bytes: TypeAlias = NDArray[np.uint8]
Ints: TypeAlias = NDArray[np.int64]

_TABLE_SIZE = 0x30000  # planes 0 to 2; of what lies above, only the variation selectors change
_SIGMA = 0x3A3  # its lower case depends on what follows
_KEPT, _MAPPED, _ALONE = range(3)

# What cc_net replaces, by code points; full-width 1 among them is cc_net's own slip, and never met: digits are 0 by then.
_PUNCTUATION = {
    '"': (0x201E, 0x201D, 0x201C, 0xAB, 0xBB, 0xFF11, 0x300D, 0x300C, 0x300A, 0x300B),
    ",": (0xFF0C, 0x3001),
    ".": (0x3002,),
    "'": (0xB4, 0x2019),
    ":": (0x2236, 0xFF1A),
    "?": (0xFF1F,),
    "!": (0xFF01,),
    "(": (0xFF08,),
    ")": (0xFF09,),
    ";": (0xFF1B,),
    "-": (0x2013, 0x2501, 0x25BA),
    " - ": (0x2014,),
    ". ": (0xFF0E,),
    "~": (0xFF5E,),
    "...": (0x2026,),
    "<": (0x3008,),
    ">": (0x3009,),
    "[": (0x3010,),
    "]": (0x3011,),
    "%": (0xFF05,),
}
_PLAIN = {code: plain for plain, codes in _PUNCTUATION.items() for code in codes}


def normalized(texts: pa.Array) -> tuple[Bytes, Ints]:
    """The normal forms of string texts, end to end, and the offsets of each; a null is an empty one.

    Memory: 3 times the texts.
    """
    data, offsets = _buffers(texts)
    classes, at, lengths, spaces, pool = _tables()
    out = np.empty(3 * int(offsets[-1] - offsets[0]), np.uint8)
    ends, alone = _normalize_rows(data, offsets, classes, at, lengths, spaces, pool, out)
    if alone.any():
        return _with_slow_rows(texts, np.flatnonzero(alone), out, ends)
    return out[: ends[-1]], ends


def normalize_one(text: str) -> str:
    """One text's normal form, by Python: what the kernel's tables are made of, and where the order of marks matters."""
    lower = unicodedata.normalize("NFD", text.strip().lower())
    kept = (char for char in lower if unicodedata.category(char) != "Mn")
    return "".join(map(_plain, kept))


def _plain(char: str) -> str:
    if unicodedata.category(char) == "Nd":
        return "0"
    code = ord(char)
    return "" if code < 32 or 127 <= code < 160 else _PLAIN.get(code, char)


def _buffers(texts: pa.Array) -> tuple[Bytes, Ints]:
    texts = texts.cast(pa.large_string()).fill_null("")
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return np.zeros(1, np.uint8), np.zeros(len(texts) + 1, np.int64)
    return np.frombuffer(data, np.uint8), np.frombuffer(offsets, np.int64)[texts.offset :][: len(texts) + 1]


def _with_slow_rows(texts: pa.Array, rows: Ints, out: Bytes, ends: Ints) -> tuple[Bytes, Ints]:
    pieces = [out[first:last].tobytes() for first, last in itertools.pairwise(ends)]
    for row in rows.tolist():
        pieces[row] = normalize_one(texts[row].as_py()).encode()
    return np.frombuffer(b"".join(pieces), np.uint8).copy(), np.cumsum([0, *map(len, pieces)], dtype=np.int64)


@lru_cache(maxsize=1)
def _tables() -> tuple[Bytes, NDArray[np.int32], Bytes, NDArray[np.bool_], Bytes]:
    """Class, place and length in the pool, and whether it is white, of each character; and the pool. 0.3 s, once a process."""
    classes, at = np.zeros(_TABLE_SIZE, np.uint8), np.zeros(_TABLE_SIZE, np.int32)
    lengths, spaces, pool = np.zeros(_TABLE_SIZE, np.uint8), np.zeros(_TABLE_SIZE, np.bool_), bytearray()
    for code in (*range(0xD800), *range(0xE000, _TABLE_SIZE)):
        char = chr(code)
        spaces[code] = char.isspace()
        lower = unicodedata.normalize("NFD", char.lower())
        kept = [c for c in lower if unicodedata.category(c) != "Mn"]
        if code == _SIGMA or any(map(unicodedata.combining, kept)):
            classes[code] = _ALONE
        elif (plain := "".join(map(_plain, kept))) != char:
            encoded = plain.encode()
            classes[code], at[code], lengths[code] = _MAPPED, len(pool), len(encoded)
            pool += encoded
    return classes, at, lengths, spaces, np.frombuffer(bytes(pool) or b"\0", np.uint8)


@njit(cache=True, nogil=True)
def _normalize_rows(
    data: Bytes, offsets: Ints, classes: Bytes, at: NDArray[np.int32], lengths: Bytes,
    spaces: NDArray[np.bool_], pool: Bytes, out: Bytes,
) -> tuple[Ints, NDArray[np.bool_]]:  # fmt: skip
    """Write every row to `out`: their ends, and the rows that only Python can do."""
    rows = len(offsets) - 1
    ends, alone = np.zeros(rows + 1, np.int64), np.zeros(rows, np.bool_)
    o = np.int64(0)
    for row in range(rows):
        stop = offsets[row + 1]
        i = _behind_spaces(data, offsets[row], stop, spaces)
        filled = o  # behind the last character that is not white
        while i < stop:
            code, width = decode(data, i)
            if code >= _TABLE_SIZE:
                o = _copy(data, i, 0 if 0xE0100 <= code <= 0xE01EF else width, out, o)  # variation selectors are marks
                filled = o
            else:
                if classes[code] == _KEPT:
                    o = _copy(data, i, width, out, o)
                elif classes[code] == _MAPPED:
                    o = _copy(pool, at[code], lengths[code], out, o)
                else:
                    alone[row] = True
                if not spaces[code]:
                    filled = o
            i += width
        o = filled
        ends[row + 1] = o
    return ends, alone


@njit(inline="always")
def _behind_spaces(data: Any, i: Any, stop: Any, spaces: Any) -> Any:
    while i < stop:
        code, width = decode(data, i)
        if code >= _TABLE_SIZE or not spaces[code]:
            break
        i += width
    return i


@njit(inline="always")
def _copy(source: Any, at: Any, size: Any, out: Any, o: Any) -> Any:
    for k in range(size):
        out[o + k] = source[at + k]
    return o + size
