"""What each code point is, as one byte of flags in a two-level table that compiled kernels can read.

Kernels that import from here are cached by Numba until their own file changes: after a change here, touch them
(`grep -l unicode_classes kernels/*.py`), or empty NUMBA_CACHE_DIR.
"""

import functools
import sys
import unicodedata
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Blocks = NDArray[np.uint16]

LETTER = 1  # category L: what str.isalpha calls a letter
MARK_OR_NUMBER = 2  # categories M and N, which go on with a word
SPACE = 4  # str.isspace, which is not the set of line ends
LINE_END = 8  # where str.splitlines ends a line
NOT_PUNCTUATION = 16  # outside PUNCTUATION and TERMINAL; the complement, so that OR over a word answers "has any"
TERMINAL = 32  # ends a sentence in some script
JOINER = 64  # stays inside a word when a word goes on behind it
FORMAT = 128  # category Cf, which is not seen: directional marks, soft hyphens, zero-width joiners

WORD = LETTER | MARK_OR_NUMBER
BLOCK = 128  # code points a block, so that block 0 is ASCII and its table is indexed by the byte itself

# Both sets are those of datatrove 0.10.1 (utils/text.py: PUNCTUATION, TERMINAL_PUNCTUATION), as hexadecimal ranges:
# verdicts equal to its filters need exactly these, and Unicode's own properties differ by 19 code points.
_PUNCTUATION = """0-8 b-1f 21-2f 3a-40 5b-60 7b-9f ab b4 bb 2013-2014 2019 201c-201e 2026 2236 2501 25ba 3001-3002
3008-300d 3010-3011 ff01 ff05 ff08-ff09 ff0c ff0e ff11 ff1a-ff1b ff1f ff5e"""
_TERMINAL = """21 2e 3f 589 61d-61f 6d4 700-702 7f9 837 839 83d-83e 964-965 104a-104b 1362 1367-1368 166e 1735-1736
17d4-17d6 17d9-17da 1803 1809 1944-1945 1aa8-1aab 1b5a-1b5b 1b5e-1b5f 1b7d-1b7e 1c3b-1c3c 1c7e-1c7f 203c-203d 2047-2049
2e2e 2e3c 2e53-2e54 3002 a4ff a60e-a60f a6f3 a6f7 a876-a877 a8ce-a8cf a92f a9c8-a9c9 aa5d-aa5f aaf0-aaf1 abeb fe52
fe56-fe57 ff01 ff0e ff1f ff61 10a56-10a57 10f55-10f59 10f86-10f89 11047-11048 110be-110c1 11141-11143 111c5-111c6 111cd
111de-111df 11238-11239 1123b-1123c 112a9 1144b-1144c 115c2-115c3 115c9-115d7 11641-11642 1173c-1173e 11944 11946
11a42-11a43 11a9b-11a9c 11c41-11c42 11ef7-11ef8 11f43-11f44 16a6e-16a6f 16af5 16b37-16b38 16b44 16e98 1bc9f 1da88"""
_LINE_ENDS = "a-d 1c-1e 85 2028-2029"

# Planes 0 to 3 and the tags of plane 14; the others are unassigned or private, so they have no flag but one.
_ASSIGNED = (range(0x40000), range(0xE0000, 0xE1000))


def code_points(ranges: str) -> list[int]:
    """The code points of hexadecimal ranges such as `2e 3a-40`."""
    bounds = [part.split("-") for part in ranges.split()]
    return [point for bound in bounds for point in range(int(bound[0], 16), int(bound[-1], 16) + 1)]


@functools.cache
def tables(joiners: str = "") -> tuple[Blocks, Bytes]:
    """The two levels, read-only: `flags[blocks[c >> 7] * 128 + (c & 127)]` are the flags of code point c.

    45 KB, built from `unicodedata` in 0.1 s, so letters are those of the running Python's Unicode version. `joiners`,
    ranges as in `code_points`, get the flag JOINER.
    """
    every = np.full(sys.maxunicode + 1, NOT_PUNCTUATION, dtype=np.uint8)
    for points in _ASSIGNED:
        every[points.start : points.stop] |= np.fromiter(map(_category_flags, points), np.uint8, len(points))
    for ranges, flag in ((_LINE_ENDS, LINE_END), (_TERMINAL, TERMINAL), (joiners, JOINER)):
        every[code_points(ranges)] |= np.uint8(flag)
    every[code_points(_PUNCTUATION) + code_points(_TERMINAL)] &= np.uint8(255 - NOT_PUNCTUATION)
    first, blocks = distinct_blocks(every.reshape(-1, BLOCK))
    first.flags.writeable = blocks.flags.writeable = False
    return blocks, first


def _category_flags(point: int) -> int:
    character = chr(point)
    category = unicodedata.category(character)
    if category[0] == "L":
        return LETTER
    if category[0] in "MN":
        return MARK_OR_NUMBER
    if category == "Cf":
        return FORMAT
    return SPACE if character.isspace() else 0


def distinct_blocks(rows: Bytes) -> tuple[Bytes, Blocks]:
    """Distinct rows in order of appearance, end to end, and for each row its place among them."""
    places: dict[bytes, int] = {}
    blocks = np.array([places.setdefault(row.tobytes(), len(places)) for row in rows], dtype=np.uint16)
    return np.frombuffer(b"".join(places), dtype=np.uint8).copy(), blocks


@njit(inline="always")
def decode(data: Any, at: Any) -> tuple[Any, int]:
    """The code point that starts at byte `at` of valid UTF-8, and its length in bytes."""
    lead = np.int64(data[at])
    if lead < 0x80:
        return lead, 1
    if lead < 0xE0:
        return (lead & 0x1F) << 6 | np.int64(data[at + 1]) & 0x3F, 2
    second = np.int64(data[at + 1]) & 0x3F
    if lead < 0xF0:
        return (lead & 0x0F) << 12 | second << 6 | np.int64(data[at + 2]) & 0x3F, 3
    third = np.int64(data[at + 2]) & 0x3F
    return (lead & 0x07) << 18 | second << 12 | third << 6 | np.int64(data[at + 3]) & 0x3F, 4


@njit(inline="always")
def flags_of(point: Any, blocks: Any, flags: Any) -> Any:
    """The flags of a code point."""
    if point < BLOCK:
        return np.int64(flags[point])
    return np.int64(flags[np.int64(blocks[point >> 7]) * BLOCK + (point & 127)])
