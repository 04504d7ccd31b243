"""Texts as SentencePiece's unigram model cuts them, from its own tables but over whole batches, with no string for a piece.

Equal to `SentencePieceProcessor.encode_as_pieces` (0.2), for models of type unigram that were trained with its defaults:
the same normal form, by the character map in the model, and the same Viterbi path, in float32 as there. A run of
characters that the model does not know is one piece, known by its bytes.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]
Ints: TypeAlias = NDArray[np.int64]
Words: TypeAlias = NDArray[np.uint32]

_UNKNOWN_PENALTY = np.float32(10)  # of a character without a piece, under the least likely piece
UNKNOWN = -1
TABLES = ("trie", "scores", "char_units", "char_pool")


@dataclass(frozen=True, slots=True)
class Pieces:
    """A vocabulary as arrays: a trie of bytes, and SentencePiece's map of characters as it stands in its file."""

    trie: NDArray[np.int32]  # a double array: of each node where its children begin, its parent, its piece or -1, and 0
    scores: NDArray[np.float32]  # of each piece its log probability
    char_units: Words  # a double array (darts-clone)
    char_pool: Bytes  # what the map's values point to, each ended by 0

    def tables(self) -> dict[str, NDArray[Any]]:
        """The arrays by name: what is stored of a vocabulary, and makes it again."""
        return {name: getattr(self, name) for name in TABLES}


@dataclass(frozen=True, slots=True)
class Cut:
    """The pieces of N texts."""

    text: Bytes  # SentencePiece's normal forms, end to end; a space is U+2581
    ids: NDArray[np.int32]  # UNKNOWN for what is no piece
    ends: Ints  # of each piece in `text`
    offsets: Ints  # [N + 1] pieces of each text

    def bytes_of(self, place: int) -> bytes:
        """One piece as it stands in the text."""
        return bytes(self.text[self.ends[place - 1] if place else 0 : self.ends[place]].tobytes())


def read_model(data: bytes) -> tuple[list[bytes], Pieces]:
    """The names of all pieces, by number, and the tables of a `.model` file of SentencePiece's.

    ValueError if the model is not of the kind that `cut` is equal for.
    """
    names, scores, normal, normalizer = [], [], [], b""
    for field, value in _fields(data):
        if field == 1:
            piece = dict(_fields(value))
            names.append(piece.get(1, b""))
            scores.append(np.frombuffer(piece.get(2, b"\0" * 4), np.float32)[0])
            normal.append(piece.get(3, 1) == 1)
        elif field == 2 and dict(_fields(value)).get(3, 1) != 1:
            raise ValueError("a SentencePiece model of another type than unigram")
        elif field == 3:
            normalizer = value
    rules = dict(_fields(normalizer))
    if any(rules.get(switch, 1) != 1 for switch in (3, 4, 5)):
        raise ValueError("a SentencePiece model with other white space than by default")
    char_map = rules.get(2, b"\0" * 4)
    size = int(np.frombuffer(char_map[:4], np.uint32)[0])
    units, pool = (
        np.frombuffer(char_map[4 : 4 + size], np.uint32).copy(),
        np.frombuffer(char_map[4 + size :], np.uint8).copy(),
    )
    trie = _trie([name if known else b"" for name, known in zip(names, normal, strict=True)])
    known = np.where(normal, np.array(scores, np.float32), np.inf)
    return names, Pieces(trie, known.astype(np.float32), units, pool)


def cut(pieces: Pieces, data: Bytes, offsets: Ints) -> Cut:
    """Cut texts, UTF-8 end to end, to pieces. Memory: 13 bytes a byte of text, and 12 a byte of the longest."""
    text, text_offsets = _normalize_rows(data, offsets, pieces.char_units, pieces.char_pool)
    unknown = pieces.scores.min() - _UNKNOWN_PENALTY
    return Cut(text, *_cut_rows(text, text_offsets, pieces.trie, pieces.scores, unknown))


def _fields(message: bytes) -> Any:
    """(number, value) of a protobuf message: bytes of strings, messages and fixed numbers, and ints."""
    i = 0
    while i < len(message):
        tag, i = _varint(message, i)
        kind, value = tag & 7, cast(Any, None)
        if kind == 0:
            value, i = _varint(message, i)
        else:
            size, i = _varint(message, i) if kind == 2 else ((4, i) if kind == 5 else (8, i))
            value, i = message[i : i + size], i + size
        yield tag >> 3, value


def _varint(message: bytes, i: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[i]
        value |= (byte & 0x7F) << shift
        i, shift = i + 1, shift + 7
        if byte < 0x80:
            return value, i


def _trie(names: list[bytes]) -> Any:
    order = sorted((name, piece) for piece, name in enumerate(names) if name)
    offsets = np.cumsum([0, *(len(name) for name, _ in order)], dtype=np.int64)
    data = np.frombuffer(b"".join(name for name, _ in order), np.uint8)
    return _build_trie(data, offsets, np.array([piece for _, piece in order], np.int32))


@njit(cache=True, nogil=True)
def _build_trie(names: Bytes, offsets: Ints, pieces: NDArray[np.int32]) -> NDArray[np.int32]:
    """A double array from names in order. A task is a range of names that share `depth` bytes, and their node."""
    trie = np.full((offsets[-1] + 1024, 4), -1, np.int32)
    tasks = np.zeros((offsets[-1] + 1, 4), np.int64)  # node, first and last name, depth
    tasks[0, 2] = len(offsets) - 1
    todo, free, trie[0, 1] = 1, np.array([256, 256]), 0  # `free`: of one child, which fills gaps, and of more
    used = 0
    labels, firsts = np.zeros(257, np.int64), np.zeros(257, np.int64)
    while todo:
        todo -= 1
        node, first, last, depth = tasks[todo]
        if first < last and offsets[first] + depth == offsets[first + 1]:
            trie[node, 2] = pieces[first]
            first += 1
        count = 0
        for name in range(first, last):
            byte = np.int64(names[offsets[name] + depth])
            if count == 0 or labels[count - 1] != byte:
                labels[count], firsts[count] = byte, name
                count += 1
        if count == 0:
            continue
        firsts[count] = last
        trie, base = _place(trie, labels[:count], free[min(count, 2) - 1 :])
        trie[node, 0] = base
        for child in range(count):
            trie[base + labels[child], 1] = node
            tasks[todo] = base + labels[child], firsts[child], firsts[child + 1], depth + 1
            todo += 1
            used = max(used, base + labels[child])
    return trie[: used + 257].copy()  # a node's children lie at most 255 behind a place that is used


@njit(cache=True, nogil=True)
def _place(trie: NDArray[np.int32], labels: Ints, free: Ints) -> tuple[NDArray[np.int32], int]:
    """The first base, from free[0] on, at which all children find room. What is passed over is not looked at again."""
    while True:
        if free[0] + 512 > len(trie):
            trie = np.concatenate((trie, np.full((len(trie), 4), -1, np.int32)))
        base = free[0] - labels[0]
        fits = True
        for label in labels:
            fits = fits and trie[base + label, 1] < 0
        free[0] += 1
        if fits:
            return trie, base


@njit(inline="always")
def _char_width(lead: Any) -> Any:
    return 1 if lead < 0x80 else (2 if lead < 0xE0 else (3 if lead < 0xF0 else 4))


@njit(inline="always")
def _longest_rule(data: Any, i: Any, stop: Any, units: Any) -> tuple[Any, Any]:
    """(value, bytes) of the longest sequence from `i` on that the map of characters knows; 0 bytes of none."""
    value, length = np.int64(0), np.int64(0)
    unit = np.int64(units[0])
    node = (unit >> 10) << ((unit & 512) >> 6)
    for k in range(i, stop):
        byte = np.int64(data[k])
        node ^= byte
        unit = np.int64(units[node])
        if unit & 0x800000FF != byte:
            break
        node ^= (unit >> 10) << ((unit & 512) >> 6)
        if unit >> 8 & 1:
            value, length = np.int64(units[node]) & 0x7FFFFFFF, k + 1 - i
    return value, length


@njit(cache=True, nogil=True)
def _normalize_rows(data: Bytes, offsets: Ints, units: Words, pool: Bytes) -> tuple[Bytes, Ints]:
    """SentencePiece's normal form: mapped, white space as one U+2581 each, one before the text and none behind it."""
    rows = len(offsets) - 1
    out = np.empty(2 * (offsets[-1] - offsets[0]) + 64, np.uint8)
    ends = np.zeros(rows + 1, np.int64)
    o = np.int64(0)
    for row in range(rows):
        i, stop, white, empty = offsets[row], offsets[row + 1], True, True
        while i < stop:
            value, used = _longest_rule(data, i, stop, units)
            source, at, width = data, i, _char_width(data[i])
            if used:
                source, at, width = pool, value, _size_of(pool, value)
            i += used if used else width
            if empty and width == 1 and source[at] == 0x20:
                continue
            if o + 3 * (width + 2) > len(out):
                out = np.concatenate((out, np.empty(len(out) + 3 * width, np.uint8)))
            if empty:
                o = _space(out, o)
                empty = False
            first, last = at, at + width
            while white and first < last and source[first] == 0x20:
                first += 1
            for k in range(first, last):
                o = _write(source[k], out, o)
            if first < last:
                white = source[last - 1] == 0x20
        o = _without_spaces(out, ends[row], o)
        ends[row + 1] = o
    return out[:o], ends


@njit(inline="always")
def _without_spaces(out: Any, start: Any, o: Any) -> Any:
    while o - start >= 3 and out[o - 1] == 0x81 and out[o - 2] == 0x96 and out[o - 3] == 0xE2:
        o -= 3
    return o


@njit(inline="always")
def _write(byte: Any, out: Any, o: Any) -> Any:
    if byte == 0x20:
        return _space(out, o)
    out[o] = byte
    return o + 1


@njit(inline="always")
def _size_of(pool: Any, value: Any) -> Any:
    size = 0
    while pool[value + size]:
        size += 1
    return size


@njit(inline="always")
def _space(out: Any, o: Any) -> Any:
    out[o], out[o + 1], out[o + 2] = 0xE2, 0x96, 0x81
    return o + 3


@njit(cache=True, nogil=True)
def _cut_rows(
    text: Bytes, offsets: Ints, trie: NDArray[np.int32], scores: NDArray[np.float32], unknown: np.float32
) -> tuple[NDArray[np.int32], Ints, Ints]:
    """The likeliest pieces of each row, by Viterbi: ids, ends in the text, and offsets of the rows."""
    rows, longest = len(offsets) - 1, np.int64(0)
    for row in range(rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    best = np.zeros(longest + 1, np.float32)
    starts, ids = np.zeros(longest + 1, np.int32), np.zeros(longest + 1, np.int32)
    out_ids, out_ends = np.empty(len(text), np.int32), np.empty(len(text), np.int64)
    out_offsets = np.zeros(rows + 1, np.int64)
    count = np.int64(0)
    for row in range(rows):
        base, size = offsets[row], offsets[row + 1] - offsets[row]
        starts[: size + 1] = -1
        best[0] = 0
        _find_path(text, base, size, trie, scores, unknown, best, starts, ids)
        first, at = count, size
        while at > 0:
            if ids[at] != UNKNOWN or count == first or out_ids[count - 1] != UNKNOWN:  # backward: a run keeps its end
                out_ids[count], out_ends[count] = ids[at], base + at
                count += 1
            at = np.int64(starts[at])
        out_ids[first:count] = out_ids[first:count][::-1].copy()
        out_ends[first:count] = out_ends[first:count][::-1].copy()
        out_offsets[row + 1] = count
    return out_ids[:count], out_ends[:count], out_offsets


@njit(cache=True, nogil=True)
def _find_path(
    text: Bytes, base: int, size: int, trie: NDArray[np.int32], scores: NDArray[np.float32], unknown: np.float32,
    best: NDArray[np.float32], starts: NDArray[np.int32], ids: NDArray[np.int32],
) -> None:  # fmt: skip
    """For each place of a row the best score of a path to it, where its last piece starts, and which it is."""
    begin = np.int64(0)
    while begin < size:
        here = best[begin]
        width = min(_char_width(text[base + begin]), size - begin)
        has_char, node, at = False, np.int64(0), begin
        while at < size:
            child = np.int64(trie[node, 0]) + np.int64(text[base + at])
            if trie[child, 1] != node:
                break
            node = child
            at += 1
            piece = trie[node, 2]
            if piece >= 0:
                score = np.float32(here + scores[piece])
                if starts[at] < 0 or score > best[at]:
                    best[at], starts[at], ids[at] = score, begin, piece
                has_char |= at - begin == width
        if not has_char:
            score32, at = np.float32(here + unknown), begin + width
            if starts[at] < 0 or score32 > best[at]:
                best[at], starts[at], ids[at] = score32, begin, UNKNOWN
        begin += width
