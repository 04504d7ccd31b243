"""How many letters of which script a text has, and how many points, capitals and accents.

Scripts are Unicode's property of that name, by the four-letter codes of ISO 15924 (`Latn`, `Hani`, `Hira`, ...). Common and
inherited characters (digits, punctuation, spaces, combining accents) belong to none. `data/scripts.json` holds the letters
and marks of 101 scripts as hexadecimal ranges, made with the package `regex` 2026.11.15.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit, types
from numpy.typing import NDArray

from polylm.kernels.unicode_classes import code_points
from polylm.kernels.words import I64, U8, U16, text_buffers

Counts = NDArray[np.uint32]

_RANGES: dict[str, str] = json.loads(Path(__file__).with_name("data").joinpath("scripts.json").read_text("utf-8"))
SCRIPTS = tuple(sorted(_RANGES))
"""The columns of `Letters.scripts`."""

# Vowel signs, cantillation and the tatweel: optional in Arabic and Hebrew writing, and absent from most of it.
POINTS = "591-5bd 5bf 5c1-5c2 5c4-5c5 5c7 610-61a 640 64b-65f 670 6d6-6dc 6df-6e4 6e7-6e8 6ea-6ed"
_COMBINING = "300-36f"
_CASED = ("Latn", "Cyrl", "Grek", "Armn")

_SCRIPT, _POINT, _UPPER, _ACCENT = 0xFF, 0x100, 0x200, 0x400
_BLOCK = 128


@dataclass(frozen=True, slots=True)
class Letters:
    """Counts over the first characters of N texts."""

    scripts: Counts  # [N, len(SCRIPTS)] letters of each script
    points: Counts  # [N] of POINTS, which are counted in `scripts` too where they have one
    upper: Counts  # [N] upper-case letters of Latin, Cyrillic, Greek and Armenian
    accents: Counts  # [N] combining accents, which composed text has next to none of


def count_letters(texts: pa.Array, chars: int) -> Letters:
    """Count the letters among the first `chars` characters of every text (no nulls; sliced or not). 420 bytes a row."""
    data, offsets = text_buffers(texts)
    found = np.zeros((len(texts), len(SCRIPTS) + 4), np.uint32)
    _count(data, offsets, chars, *_classes(), found)
    return Letters(np.ascontiguousarray(found[:, 1:-3]), *found[:, -3:].T)


@functools.cache
def _classes() -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Two levels, read-only: `classes[blocks[c >> 7] * 128 + (c & 127)]` is 1 + the script of c (0: none) and its flags."""
    every = np.zeros(0x110000, np.uint16)
    for place, name in enumerate(SCRIPTS):
        points = code_points(_RANGES[name])
        every[points] = place + 1
        if name in _CASED:
            every[[point for point in points if chr(point).isupper()]] |= _UPPER
    every[code_points(POINTS)] |= _POINT
    every[code_points(_COMBINING)] |= _ACCENT
    distinct, blocks = np.unique(every.reshape(-1, _BLOCK), axis=0, return_inverse=True)
    classes = np.ascontiguousarray(distinct.reshape(-1))
    places = blocks.reshape(-1).astype(np.uint16)
    classes.flags.writeable = places.flags.writeable = False
    return places, classes


@njit([types.void(U8, I64, types.int64, U16, U16, types.Array(types.uint32, 2, "C"))], cache=True, nogil=True)
def _count(data: Any, offsets: Any, chars: Any, blocks: Any, classes: Any, found: Any) -> None:
    """Valid UTF-8 only. Column 0 of `found` takes what has no script, the last three points, upper case and accents."""
    points, upper, accents = found.shape[1] - 3, found.shape[1] - 2, found.shape[1] - 1
    for row in range(len(offsets) - 1):
        at, end, left = offsets[row], offsets[row + 1], chars
        while at < end and left > 0:
            lead = np.int64(data[at])
            if lead < 0x80:
                point, at = lead, at + 1
            elif lead < 0xE0:
                point = (lead & 0x1F) << 6 | np.int64(data[at + 1]) & 0x3F
                at += 2
            elif lead < 0xF0:
                point = (lead & 0x0F) << 12 | (np.int64(data[at + 1]) & 0x3F) << 6 | np.int64(data[at + 2]) & 0x3F
                at += 3
            else:
                point = (lead & 0x07) << 18 | (np.int64(data[at + 1]) & 0x3F) << 12
                point |= (np.int64(data[at + 2]) & 0x3F) << 6 | np.int64(data[at + 3]) & 0x3F
                at += 4
            left -= 1
            flags = np.int64(classes[np.int64(blocks[point >> 7]) * _BLOCK + (point & (_BLOCK - 1))])
            found[row, flags & _SCRIPT] += np.uint32(1)
            found[row, points] += np.uint32((flags >> 8) & 1)
            found[row, upper] += np.uint32((flags >> 9) & 1)
            found[row, accents] += np.uint32((flags >> 10) & 1)
