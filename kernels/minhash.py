"""MinHash signatures, their bands and the true Jaccard similarity, on arrays.

A shingle is hashed by the first four bytes of its SHA-1, and permutation k of a hash h is
`((a[k] * h + b[k]) mod 2^64 mod (2^61 - 1)) & (2^32 - 1)`: byte for byte `datasketch.MinHash(scheme="legacy")` of datasketch
2.0.0, with the overflow of its unsigned product, which is no mistake to repair but part of the scheme. Bands, exact hashes
and shingle sets use XXH64. SHA-1 is compiled here, because calls of hashlib for every shingle cost more than all the rest.
"""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]
Ints: TypeAlias = NDArray[np.int64]
Hashes32: TypeAlias = NDArray[np.uint32]
Hashes64: TypeAlias = NDArray[np.uint64]
_F = TypeVar("_F", bound=Callable[..., Any])

_PRIME = np.uint64((1 << 61) - 1)
_LOW_32 = np.uint64(0xFFFFFFFF)
_61 = np.uint64(61)
_8, _24 = np.uint32(8), np.uint32(24)
_LANES = 16  # of 32 bits: one AVX-512 or two AVX2 registers


def _jit(function: _F) -> _F:
    compiled: _F = numba.njit(cache=True, nogil=True)(function)
    return compiled


def permutations(count: int, seed: int = 1) -> tuple[Hashes64, Hashes64]:
    """The factors `a` and terms `b` of `count` permutations, drawn in pairs as datasketch draws them."""
    draw = np.random.RandomState(seed)
    pairs = [
        (draw.randint(1, int(_PRIME), dtype=np.uint64), draw.randint(0, int(_PRIME), dtype=np.uint64))
        for _ in range(count)
    ]
    a, b = np.array(pairs, np.uint64).reshape(count, 2).T.copy()
    return a, b


def sha1_32(text: Bytes, starts: Ints, ends: Ints) -> Hashes32:
    """The first four bytes, little-endian, of the SHA-1 of every slice of `text` (datasketch's `sha1_hash32`)."""
    out = np.empty(len(starts), np.uint32)
    _sha1_spans(_frozen(text), starts, ends, out)
    return out


def xxh64(text: Bytes, starts: Ints, ends: Ints, seed: int = 0) -> Hashes64:
    """XXH64 of every slice of `text`."""
    out = np.empty(len(starts), np.uint64)
    _xxh64_spans(_frozen(text), starts, ends, np.uint64(seed), out)
    return out


def signatures(shingle_hashes: Hashes32, offsets: Ints, a: Hashes64, b: Hashes64) -> Hashes32:
    """The [N, K] signatures of N sets of 32-bit hashes, set i in `shingle_hashes[offsets[i]:offsets[i + 1]]`.

    Repeated hashes change nothing. An empty set has all bits set, as in datasketch: such rows are equal to each other
    without being similar, so mask them with `offsets[1:] > offsets[:-1]` before a join. 4 K bytes a row.
    """
    out = np.empty((len(offsets) - 1, len(a)), np.uint32)
    _minima(shingle_hashes, offsets, a, b, out)
    return out


def bands(signatures: Hashes32, bands: int, rows: int) -> Hashes64:
    """One hash a band, [N, bands]: XXH64 of the band's `rows` values (little-endian), seeded with the band's number from 1.

    Values past bands x rows are not used, as in `datasketch.MinHashLSH`. 8 bytes a band and row.
    """
    count, width = signatures.shape
    if bands < 1 or rows < 1 or bands * rows > width:
        raise ValueError(f"{bands} bands of {rows} rows need {bands * rows} permutations, the signatures have {width}")
    raw = np.ascontiguousarray(signatures, dtype="<u4").view(np.uint8).reshape(-1)
    first = np.arange(count, dtype=np.int64) * width * 4
    out = np.empty((count, bands), np.uint64)
    for band in range(bands):
        starts = first + band * rows * 4
        out[:, band] = xxh64(raw, starts, starts + rows * 4, seed=band + 1)
    return out


def exact(text: Bytes, text_offsets: Ints) -> Hashes64:
    """Band 0: XXH64, seed 0, of each normalised text. Empty texts share a hash: mask them as for `signatures`."""
    return xxh64(text, text_offsets[:-1], text_offsets[1:])


def optimal_bands(threshold: float, num_perm: int) -> tuple[int, int]:
    """The (bands, rows) with the least 0.5 * FP + 0.5 * FN, as `datasketch.MinHashLSH(threshold, num_perm)` chooses them.

    FP is the integral of 1 - (1 - s^r)^b over similarities s from 0 to the threshold, FN that of (1 - s^r)^b from there to 1.
    The integrand is a polynomial of degree b * r <= num_perm, so Gauss-Legendre quadrature is exact.
    """
    if not 0 <= threshold <= 1 or num_perm < 2:
        raise ValueError(f"threshold {threshold}, {num_perm} permutations: expected 0..1 and at least 2")
    choices = [(b, r) for b in range(1, num_perm + 1) for r in range(1, num_perm // b + 1)]
    b, r = np.array(choices, np.float64).T[:, :, None]
    nodes, weights = np.polynomial.legendre.leggauss(num_perm // 2 + 1)
    below, above = (nodes + 1) / 2 * threshold, threshold + (nodes + 1) / 2 * (1 - threshold)
    false_positive = (1 - (1 - below**r) ** b) @ weights * threshold / 2
    false_negative = (1 - above**r) ** b @ weights * (1 - threshold) / 2
    return choices[int(np.argmin(0.5 * false_positive + 0.5 * false_negative))]


def distinct(hashes: Hashes64, offsets: Ints) -> tuple[Hashes64, Ints]:
    """Every set sorted and without repetition: the form that `jaccard` reads. 8 bytes a distinct shingle."""
    out = hashes.copy()
    new_offsets = np.zeros_like(offsets)
    _sort_sets(out, offsets, new_offsets)
    return out[: new_offsets[-1]].copy(), new_offsets


def jaccard(sets: Hashes64, offsets: Ints, pairs: Ints) -> NDArray[np.float64]:
    """|A & B| / |A | B| of every row (i, j) of `pairs`, for sets as `distinct` gives them; two empty sets have 0."""
    out = np.empty(len(pairs), np.float64)
    _jaccard_pairs(sets, offsets, pairs, out)
    return out


def _frozen(array: Bytes) -> Bytes:
    """A read-only view: Arrow's buffers are read-only, and Numba compiles for each of the two again."""
    view = array.view()
    view.flags.writeable = False
    return view


@_jit
def _minima(hashes: Hashes32, offsets: Ints, a: Hashes64, b: Hashes64, out: Hashes32) -> None:
    count = len(a)
    least = np.empty(count, np.uint64)
    for row in range(len(offsets) - 1):
        least[:] = _LOW_32
        for i in range(offsets[row], offsets[row + 1]):
            h = np.uint64(hashes[i])
            for k in range(count):
                value = a[k] * h + b[k]
                value = (value & _PRIME) + (value >> _61)  # 2^61 = 1 modulo the prime; at most 7 too many
                value = (value - _PRIME if value >= _PRIME else value) & _LOW_32
                least[k] = min(least[k], value)
        for k in range(count):
            out[row, k] = least[k]


@_jit
def _rotate_32(value: np.uint32, by: int) -> np.uint32:
    return np.uint32(np.uint32(value << np.uint32(by)) | np.uint32(value >> np.uint32(32 - by)))


@_jit
def _sha1_spans(text: Bytes, starts: Ints, ends: Ints, out: Hashes32) -> None:
    """First four bytes of each SHA-1 (RFC 3174), read little-endian; `_LANES` messages side by side, block by block."""
    words, state = np.zeros(80 * _LANES, np.uint32), np.empty(5 * _LANES, np.uint32)
    chain, turned = np.empty(85 * _LANES, np.uint32), np.empty(85 * _LANES, np.uint32)
    blocks = np.zeros(_LANES, np.int64)
    for first in range(0, len(starts), _LANES):
        count = min(_LANES, len(starts) - first)
        state[:_LANES], state[_LANES : 2 * _LANES], state[2 * _LANES : 3 * _LANES] = 0x67452301, 0xEFCDAB89, 0x98BADCFE
        state[3 * _LANES : 4 * _LANES], state[4 * _LANES :] = 0x10325476, 0xC3D2E1F0
        for lane in range(count):
            blocks[lane] = (ends[first + lane] - starts[first + lane] + 8) // 64 + 1  # 0x80 and the length follow
        for block in range(blocks[:count].max()):
            for lane in range(count):
                if block < blocks[lane]:
                    size = ends[first + lane] - starts[first + lane]
                    _sha1_load(text, starts[first + lane], size, block, block == blocks[lane] - 1, words, lane)
            _sha1_rounds(words, state, chain, turned)
            _sha1_add(state, chain, turned, blocks, block)
        for lane in range(count):
            h = state[lane]
            swapped = (h >> _24) | (h >> _8 & np.uint32(0xFF00)) | (h << _8 & np.uint32(0xFF0000)) | (h << _24)
            out[first + lane] = np.uint32(swapped)


@_jit
def _sha1_load(text: Bytes, start: int, size: int, block: int, is_last: bool, words: Hashes32, lane: int) -> None:
    """One block of one message, padded, into its lane of the first 16 words."""
    for w in range(16):
        word, place = np.uint32(0), block * 64 + w * 4
        inside = place + 4 <= size
        for k in range(place, place + 4):
            byte = text[start + k] if inside or k < size else (0x80 if k == size else 0)
            word = np.uint32(np.uint32(word << _8) | np.uint32(byte))
        words[w * _LANES + lane] = word
    if is_last:
        words[14 * _LANES + lane], words[15 * _LANES + lane] = np.uint32((size * 8) >> 32), np.uint32(size * 8)


@_jit
def _sha1_rounds(words: Hashes32, state: Hashes32, chain: Hashes32, turned: Hashes32) -> None:
    """The 80 rounds as one recurrence, so that nothing moves: row t of `chain` is e of round t, d of t - 1, and so on.

    `turned` holds each row rotated by 30, as the rounds use it from c on. Inner loops run over lanes and become vectors.
    """
    n = _LANES
    for i in range(16 * n, 80 * n):
        words[i] = _rotate_32(words[i - 3 * n] ^ words[i - 8 * n] ^ words[i - 14 * n] ^ words[i - 16 * n], 1)
    for row in range(5):
        for lane in range(n):
            value = state[(4 - row) * n + lane]
            chain[row * n + lane] = value
            turned[row * n + lane] = value if row < 3 else _rotate_32(value, 30)  # e, d and c come turned
    for t in range(80):
        for i in range(t * n, t * n + n):
            b, c, d = chain[i + 3 * n], turned[i + 2 * n], turned[i + n]
            if t < 20:
                f = np.uint32((d ^ (b & (c ^ d))) + np.uint32(0x5A827999))
            elif t < 40:
                f = np.uint32((b ^ c ^ d) + np.uint32(0x6ED9EBA1))
            elif t < 60:
                f = np.uint32(((b & c) | (d & (b | c))) + np.uint32(0x8F1BBCDC))
            else:
                f = np.uint32((b ^ c ^ d) + np.uint32(0xCA62C1D6))
            value = np.uint32(_rotate_32(chain[i + 4 * n], 5) + f + turned[i] + words[i])
            chain[i + 5 * n], turned[i + 5 * n] = value, _rotate_32(value, 30)


@_jit
def _sha1_add(state: Hashes32, chain: Hashes32, turned: Hashes32, blocks: Ints, block: int) -> None:
    """Add the last five rows to the states of the messages that have this block."""
    for lane in range(_LANES):
        if block < blocks[lane]:
            state[lane] += chain[84 * _LANES + lane]
            state[_LANES + lane] += chain[83 * _LANES + lane]
            for row in range(2, 5):
                state[row * _LANES + lane] += turned[(84 - row) * _LANES + lane]


_X1, _X2, _X3, _X4, _X5 = (
    np.uint64(prime)
    for prime in (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
)


@_jit
def _rotate_64(value: np.uint64, by: int) -> np.uint64:
    return np.uint64(value << np.uint64(by)) | np.uint64(value >> np.uint64(64 - by))


@_jit
def _little_endian(text: Bytes, at: int, size: int) -> np.uint64:
    value = np.uint64(0)
    for k in range(size):
        value |= np.uint64(text[at + k]) << np.uint64(8 * k)
    return value


@_jit
def _xxh64_lane(lane: np.uint64, value: np.uint64) -> np.uint64:
    return _rotate_64(lane + value * _X2, 31) * _X1


@_jit
def _xxh64_spans(text: Bytes, starts: Ints, ends: Ints, seed: np.uint64, out: Hashes64) -> None:
    for i in range(len(starts)):
        out[i] = _xxh64(text, starts[i], ends[i], seed)


@_jit
def _xxh64(text: Bytes, at: int, end: int, seed: np.uint64) -> np.uint64:
    """XXH64, after its specification (xxHash, doc/xxhash_spec.md)."""
    size = end - at
    if size >= 32:
        one, two, three, four = seed + _X1 + _X2, seed + _X2, seed, seed - _X1
        while end - at >= 32:
            one = _xxh64_lane(one, _little_endian(text, at, 8))
            two = _xxh64_lane(two, _little_endian(text, at + 8, 8))
            three = _xxh64_lane(three, _little_endian(text, at + 16, 8))
            four = _xxh64_lane(four, _little_endian(text, at + 24, 8))
            at += 32
        value = _rotate_64(one, 1) + _rotate_64(two, 7) + _rotate_64(three, 12) + _rotate_64(four, 18)
        for lane in (one, two, three, four):
            value = (value ^ _xxh64_lane(np.uint64(0), lane)) * _X1 + _X4
    else:
        value = seed + _X5
    value += np.uint64(size)
    while end - at >= 8:
        value = _rotate_64(value ^ _xxh64_lane(np.uint64(0), _little_endian(text, at, 8)), 27) * _X1 + _X4
        at += 8
    if end - at >= 4:
        value = _rotate_64(value ^ (_little_endian(text, at, 4) * _X1), 23) * _X2 + _X3
        at += 4
    while at < end:
        value = _rotate_64(value ^ (np.uint64(text[at]) * _X5), 11) * _X1
        at += 1
    value = (value ^ (value >> np.uint64(33))) * _X2
    value = (value ^ (value >> np.uint64(29))) * _X3
    return value ^ (value >> np.uint64(32))


@_jit
def _sort_sets(hashes: Hashes64, offsets: Ints, new_offsets: Ints) -> None:
    """Sort each set and move its distinct values to the front of `hashes`."""
    o = np.int64(0)
    for row in range(len(offsets) - 1):
        first, last = offsets[row], offsets[row + 1]
        hashes[first:last].sort()
        for i in range(first, last):
            if i == first or hashes[i] != hashes[o - 1]:
                hashes[o] = hashes[i]
                o += 1
        new_offsets[row + 1] = o


@_jit
def _jaccard_pairs(sets: Hashes64, offsets: Ints, pairs: Ints, out: NDArray[np.float64]) -> None:
    for p in range(len(pairs)):
        i, j = pairs[p, 0], pairs[p, 1]
        out[p] = set_jaccard(sets, offsets[i], offsets[i + 1], offsets[j], offsets[j + 1])


@_jit
def set_jaccard(sets: Hashes64, i: int, i_end: int, j: int, j_end: int) -> float:
    """Jaccard similarity of two sorted stretches of `sets`, by merging; callable from compiled code."""
    shared, total = 0, (i_end - i) + (j_end - j)
    while i < i_end and j < j_end:
        left, right = sets[i], sets[j]
        shared += left == right
        i += left <= right
        j += right <= left
    return shared / (total - shared) if total > 0 else 0.0
