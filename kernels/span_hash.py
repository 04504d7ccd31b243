"""Hashes of spans of bytes, and open-addressing tables of them, for kernels that look for what repeats.

Equal spans are found by equal hashes: a polynomial over the bytes modulo 2^64 with an odd base, so that
`(prefix[end] - prefix[start]) * BASE^-start` is the hash of any stretch in O(1), n-grams of every n included. Chance
gives no collision (about n^2 / 2^64); text built to collide would, and then counts as repetitive.

Kernels that import from here are cached by Numba until their own file changes (see `unicode_classes`).
"""

from typing import Any

import numpy as np
from numba import njit, types

from polylm.kernels.words import U8

U64 = np.uint64
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse; 5 modulo 8, so that its powers do not repeat early
_INVERSE = pow(_BASE, -1, 1 << 64)
CHUNK = 64  # bytes hashed with one table of powers
POWERS = np.array([pow(_BASE, k, 1 << 64) for k in range(CHUNK + 1)], dtype=np.uint64)
INVERSES = np.array([pow(_INVERSE, k, 1 << 64) for k in range(CHUNK + 1)], dtype=np.uint64)
POWERS.flags.writeable = INVERSES.flags.writeable = False
BASE, INVERSE = U64(_BASE), U64(_INVERSE)
SPREAD = U64(0xD6E8FEB86659FD93)  # odd; its product's top bits, which choose the slot, depend on every bit of a key
ZERO, ONE, SIXTY_FOUR = U64(0), U64(1), U64(64)
_CACHED = 1 << 14  # elements up to which tables are at most a quarter full instead of half

KEYS = types.Array(types.uint64, 1, "C", readonly=True)
TABLE = types.Array(types.uint64, 1, "C")
ROW = types.Array(types.int64, 1, "C")
ROWS = types.Array(types.int64, 2, "C")


@njit([types.uint64(U8, types.int64, types.int64, KEYS)], cache=True, nogil=True)
def span_hash(data: Any, start: int, stop: int, powers: Any) -> Any:
    """Sum of (byte + 1) * P^k over the span, k from 0."""
    total, scale = ZERO, ONE
    while stop - start > CHUNK:
        chunk = ZERO
        for k in range(CHUNK):
            chunk += (U64(data[start + k]) + ONE) * powers[k]
        total += chunk * scale
        scale *= powers[CHUNK]
        start += CHUNK
    chunk = ZERO
    for k in range(stop - start):
        chunk += (U64(data[start + k]) + ONE) * powers[k]
    return total + chunk * scale


@njit([types.uint64(KEYS, types.int64)], cache=True, nogil=True)
def power_of(powers: Any, exponent: int) -> Any:
    scale = ONE
    while exponent > CHUNK:
        scale *= powers[CHUNK]
        exponent -= CHUNK
    return scale * powers[exponent]


@njit([types.uint64(types.int64)], cache=True, nogil=True)
def shift_for(elements: int) -> Any:
    """64 - log2 of the slots for `elements`, a power of two; emptier is faster only where it fits a cache."""
    shift, slots = U64(63), 2
    wanted = elements * (4 if elements <= _CACHED else 2)
    while slots < wanted:
        slots *= 2
        shift -= ONE
    return shift


@njit(inline="always")
def slot_of(key: Any, shift: Any) -> Any:
    return np.int64(key * SPREAD >> shift)


@njit([types.boolean(TABLE, types.uint64, types.uint64)], cache=True, nogil=True)
def seen_before(table: Any, shift: Any, key: Any) -> bool:
    """Whether the key was asked for before; remembers it. Slots hold keys, 0 is empty."""
    key = key if key != ZERO else ONE
    mask = (1 << np.int64(SIXTY_FOUR - shift)) - 1
    slot = slot_of(key, shift)
    while table[slot] != ZERO:
        if table[slot] == key:
            return True
        slot = slot + 1 & mask
    table[slot] = key
    return False


@njit([TABLE(TABLE, types.int64)], cache=True, nogil=True)
def cleared(table: Any, slots: int) -> Any:
    """The table, or a larger one, with its first slots empty."""
    if len(table) < slots:
        return np.zeros(slots, np.uint64)
    table[:slots] = ZERO
    return table
