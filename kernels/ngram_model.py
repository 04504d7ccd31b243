"""Log probabilities of sentences under an n-gram model of KenLM, read from its own file (`build_binary`, probing tables).

The same numbers as the Python module `kenlm`, to the last bit: it adds float32 one after the other, and so does this. What is
saved is the way there: words are known by number, so nothing is joined to a string, split and hashed again.
Format: KenLM's lm/binary_format, lm/vocab, lm/search_hashed and util/probing_hash_table, version 5, on little-endian machines.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]
Ints: TypeAlias = NDArray[np.int64]
Words: TypeAlias = NDArray[np.uint32]
_F = TypeVar("_F", bound=Callable[..., Any])

_MAGIC = b"mmap lm http://kheafield.com/code format version 5\n\0\0"
_PROBING = 0  # of KenLM's model types
_UNKNOWN = 0  # the word that no n-gram has
_MAX_ORDER = 6  # KenLM's own limit as it is built
_NO_EXTENSION = np.uint32(0x80000000)  # backoff -0.0: no longer n-gram begins so
_SIGN = np.uint32(0x80000000)


def _jit(function: _F) -> _F:
    compiled: _F = numba.njit(cache=True, nogil=True)(function)
    return compiled


@dataclass(frozen=True, slots=True)
class NgramModel:
    """A file of KenLM's, mapped as 32-bit words; each table is (its first word, its buckets)."""

    memory: Words
    vocabulary: tuple[int, int]
    unigrams: int
    tables: Ints  # [order - 1, 2] of 2-grams and longer
    begin: int  # the word <s>
    end: int


def open_model(path: Path) -> NgramModel:
    """Map a model; nothing is read but its header. ValueError if it is no probing model of KenLM's version 5."""
    data = np.memmap(path, np.uint8, "r")
    start = -(-len(_MAGIC) // 8) * 8
    if bytes(data[: len(_MAGIC)]) != _MAGIC:
        raise ValueError(f"{path} is no binary model of KenLM's version 5: build_binary of kenlm 0.3.0 makes them")
    order = int(data[start + 32])
    multiplier, kind = (
        data[start + 36 : start + 40].view(np.float32)[0],
        int(data[start + 40 : start + 44].view("<i4")[0]),
    )
    if kind != _PROBING or not 2 <= order <= _MAX_ORDER:
        raise ValueError(f"{path} is of KenLM's type {kind} and order {order}: expected probing tables, order 2 to 6")
    header = start + 32 + 20
    counts = np.frombuffer(data[header : header + 8 * order].tobytes(), np.uint64).astype(np.int64)
    memory = data[: len(data) // 4 * 4].view(np.uint32)
    at = -(-(header + 8 * order) // 8) * 8 + 8
    vocabulary = at // 4, _buckets(counts[0], multiplier)
    unigrams = at // 4 + 3 * vocabulary[1]
    tables, place = np.zeros((order - 1, 2), np.int64), unigrams + 2 * (int(counts[0]) + 1)
    for n in range(1, order):
        tables[n - 1] = place, _buckets(counts[n], multiplier)
        place += (4 if n < order - 1 else 3) * int(tables[n - 1, 1])
    if place > len(memory):
        raise ValueError(f"{path} ends early: {len(memory) * 4:,} bytes, {place * 4:,} are needed")
    begin, end = lookup(memory, vocabulary, [b"<s>", b"</s>"]).tolist()
    return NgramModel(memory, vocabulary, unigrams, tables, begin, end)


def words_of(model: NgramModel, names: list[bytes]) -> Words:
    """The number of each word in the model; 0 for those that it does not know."""
    return lookup(model.memory, model.vocabulary, names)


def lookup(memory: Words, vocabulary: tuple[int, int], names: list[bytes]) -> Words:
    """Numbers of words by their names in a table of vocabulary."""
    offsets = np.cumsum([0, *map(len, names)], dtype=np.int64)
    return _find_words(memory, *vocabulary, np.frombuffer(b"".join(names) or b"\0", np.uint8), offsets)


def log10_probabilities(model: NgramModel, words: Words, offsets: Ints) -> NDArray[np.float32]:
    """log10 p(sentence </s> | <s>) of each sentence: row i is words[offsets[i]:offsets[i + 1]]. Memory: 4 bytes a row."""
    return _score_rows(model.memory, model.unigrams, model.tables, words, offsets, model.begin, model.end)


def _buckets(entries: Any, multiplier: Any) -> int:
    return max(int(entries) + 1, int(np.float32(multiplier) * np.float32(entries)))


@_jit
def _find_words(memory: Words, start: int, buckets: int, names: Bytes, offsets: Ints) -> Words:
    found = np.zeros(len(offsets) - 1, np.uint32)
    for row in range(len(found)):
        at = _find(memory, start, buckets, 3, _murmur64(names, offsets[row], offsets[row + 1]))
        if at >= 0:
            found[row] = memory[at + 2]
    return found


@_jit
def _murmur64(data: Bytes, i: int, end: int) -> np.uint64:
    """MurmurHash64A with seed 0 of bytes i to end: KenLM's number of a word's name."""
    m, r = np.uint64(0xC6A4A7935BD1E995), np.uint64(47)
    h = np.uint64(end - i) * m
    while end - i >= 8:
        k = np.uint64(0)
        for byte in range(8):
            k |= np.uint64(data[i + byte]) << np.uint64(8 * byte)
        k *= m
        k ^= k >> r
        k *= m
        h ^= k
        h *= m
        i += 8
    if i < end:
        for byte in range(end - i):
            h ^= np.uint64(data[i + byte]) << np.uint64(8 * byte)
        h *= m
    h ^= h >> r
    h *= m
    return h ^ (h >> r)


@_jit
def _find(memory: Words, start: int, buckets: int, width: int, key: np.uint64) -> Any:
    """The place of an entry, which begins with its 64-bit key, or -1; an empty one has key 0."""
    bucket: Any = np.int64(key % np.uint64(buckets))
    while True:
        at = start + bucket * width
        there = np.uint64(memory[at]) | np.uint64(memory[at + 1]) << np.uint64(32)
        if there == key:
            return at
        if there == 0:
            return -1
        bucket += 1
        if bucket == buckets:
            bucket = 0


@_jit
def _combined(node: np.uint64, word: np.uint32) -> np.uint64:
    return (node * np.uint64(8978948897894561157)) ^ (np.uint64(1 + np.int64(word)) * np.uint64(17894857484156487943))


@_jit
def _score_rows(
    memory: Words, unigrams: int, tables: Ints, words: Words, offsets: Ints, begin: int, end: int
) -> NDArray[np.float32]:
    """Each row's sum of its words' log probabilities; context and backoffs go backward from the last word."""
    floats = memory.view(np.float32)
    order = len(tables) + 1
    sums = np.zeros(len(offsets) - 1, np.float32)
    context, next_context = np.zeros(order, np.uint32), np.zeros(order, np.uint32)
    backoffs, next_backoffs = np.zeros(order, np.float32), np.zeros(order, np.float32)
    for row in range(len(sums)):
        context[0], backoffs[0], length = begin, floats[unigrams + 2 * begin + 1], 1
        total = np.float32(0)
        for place in range(offsets[row], offsets[row + 1] + 1):
            word = words[place] if place < offsets[row + 1] else np.uint32(end)
            at = unigrams + 2 * np.int64(word)
            # The sign of a stored probability says that no longer n-gram ends so.
            prob, alone = -abs(floats[at]), memory[at] & _SIGN != 0
            next_backoffs[0] = floats[at + 1]
            kept: Any = np.int64(memory[at + 1] != _NO_EXTENSION)
            matched, node = 1, np.uint64(word)
            for back in range(length):
                if alone:
                    break
                node = _combined(node, context[back])
                longest = back == order - 2
                found = _find(memory, tables[back, 0], tables[back, 1], 3 if longest else 4, node)
                if found < 0:
                    break
                matched = back + 2
                if longest:
                    prob = floats[found + 2]
                    break
                prob, alone = -abs(floats[found + 2]), memory[found + 2] & _SIGN != 0
                next_backoffs[back + 1] = floats[found + 3]
                if memory[found + 3] != _NO_EXTENSION:
                    kept = matched
            for back in range(matched - 1, length):
                prob += backoffs[back]
            total += prob
            next_context[0] = word
            for back in range(1, kept):
                next_context[back] = context[back - 1]
            context, next_context = next_context, context
            backoffs, next_backoffs = next_backoffs, backoffs
            length = min(kept, order - 1)
        sums[row] = total
    return sums
