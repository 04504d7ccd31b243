"""All integer counts of Gopher's and FineWeb's quality and repetition rules, in one pass over bytes and word spans.

Every ratio, verdict and reason of datatrove 0.10.1's GopherRepetitionFilter, FineWebQualityFilter and
GopherQualityFilter follows from these counts by division and comparison. Lengths are in code points.

Equal spans are found by equal hashes: a polynomial over the bytes modulo 2^64 with an odd base P, so that
`(prefix[end] - prefix[start]) * P^-start` is the hash of any stretch in O(1), n-grams of every n included. Chance gives
no collision (about n^2 / 2^64); text built to collide would, and then counts as repetitive.

Peak memory is about 60 bytes a word and 16 a non-empty line of the largest document in the call.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit, types
from numpy.typing import NDArray

from polylm.kernels.unicode_classes import LETTER, LINE_END, NOT_PUNCTUATION, SPACE, TERMINAL, decode, flags_of, tables
from polylm.kernels.words import I32, I64, U8, U16, Spans, segment, text_buffers

COLUMNS: dict[str, tuple[pa.DataType, str]] = {
    "chars": (pa.uint32(), "Code points of the text."),
    "bytes": (pa.uint32(), "Bytes of the text in UTF-8."),
    "newlines": (pa.uint32(), "Characters \\n."),
    "hashes": (pa.uint32(), "Characters #."),
    "ellipses": (pa.uint32(), "Occurrences of ... that do not overlap, and of …."),
    "split_lines": (pa.uint32(), "Lines by str.splitlines, blank ones too."),
    "bullet_lines": (pa.uint32(), "Of split_lines, those that start with • or - after white space."),
    "ellipsis_lines": (pa.uint32(), "Of split_lines, those that end with ... or … before white space."),
    "nonblank_lines": (pa.uint32(), "Lines between \\n with any character that is not white space."),
    "punctuated_lines": (pa.uint32(), "Of nonblank_lines, those whose last character ends a sentence."),
    "short_lines": (pa.uint32(), "Of nonblank_lines, those of at most 30 characters."),
    "duplicate_nonblank_line_chars": (pa.uint32(), "Characters of nonblank_lines that repeat an earlier one."),
    "lines": (pa.uint32(), "Lines between runs of \\n; a run at either end of the text leaves an empty one there."),
    "duplicate_lines": (pa.uint32(), "Of lines, those that repeat an earlier one."),
    "duplicate_line_chars": (pa.uint32(), "Characters of duplicate_lines."),
    "paragraphs": (pa.uint32(), "Paragraphs between runs of two or more \\n in the stripped text."),
    "duplicate_paragraphs": (pa.uint32(), "Of paragraphs, those that repeat an earlier one."),
    "duplicate_paragraph_chars": (pa.uint32(), "Characters of duplicate_paragraphs."),
    "words": (pa.uint32(), "Words, punctuation included."),
    "nonsymbol_words": (pa.uint32(), "Of words, those with any character that is not punctuation."),
    "nonsymbol_word_chars": (pa.uint32(), "Characters of nonsymbol_words."),
    "alpha_words": (pa.uint32(), "Of words, those with a letter."),
    "stop_words": (pa.uint32(), "Distinct stop words among words, case-sensitive."),
    "top_2_gram_chars": (pa.uint32(), "Count times length of the most frequent 2 words in a row (first on ties)."),
    "top_3_gram_chars": (pa.uint32(), "The same for 3 words; words of an n-gram are joined by a space."),
    "top_4_gram_chars": (pa.uint32(), "The same for 4 words."),
    "duplicate_5_gram_chars": (pa.uint32(), "Characters of 5 words in a row, joined without space, seen earlier."),
    "duplicate_6_gram_chars": (pa.uint32(), "The same for 6 words; after a repeated n-gram its n words are skipped."),
    "duplicate_7_gram_chars": (pa.uint32(), "The same for 7 words."),
    "duplicate_8_gram_chars": (pa.uint32(), "The same for 8 words."),
    "duplicate_9_gram_chars": (pa.uint32(), "The same for 9 words."),
    "duplicate_10_gram_chars": (pa.uint32(), "The same for 10 words."),
}

_AT = {name: place for place, name in enumerate(COLUMNS)}
# Compiled code reads these as constants; the order of COLUMNS is the order of the kernel's output.
_CHARS, _BYTES, _NEWLINES = _AT["chars"], _AT["bytes"], _AT["newlines"]
_HASHES, _ELLIPSES = _AT["hashes"], _AT["ellipses"]
_SPLIT_LINES, _BULLET_LINES, _ELLIPSIS_LINES = _AT["split_lines"], _AT["bullet_lines"], _AT["ellipsis_lines"]
_NONBLANK, _PUNCTUATED, _SHORT = _AT["nonblank_lines"], _AT["punctuated_lines"], _AT["short_lines"]
_DUPLICATE_NONBLANK_CHARS = _AT["duplicate_nonblank_line_chars"]
_LINES, _DUPLICATE_LINES = _AT["lines"], _AT["duplicate_lines"]
_DUPLICATE_LINE_CHARS, _PARAGRAPHS = _AT["duplicate_line_chars"], _AT["paragraphs"]
_WORDS, _NONSYMBOL, _NONSYMBOL_CHARS = _AT["words"], _AT["nonsymbol_words"], _AT["nonsymbol_word_chars"]
_ALPHA, _STOP_WORDS = _AT["alpha_words"], _AT["stop_words"]
_TOP, _DUPLICATE = _AT["top_2_gram_chars"], _AT["duplicate_5_gram_chars"]

_SHORT_LINE_CHARS = 30  # FineWeb's short_line_length, the same in FineWeb2

_CACHED = 1 << 14  # elements up to which tables are at most a quarter full instead of half

_U64 = np.uint64
_BASE = 0x9E3779B97F4A7C15  # P: odd, so that it has an inverse; 5 modulo 8, so that its powers do not repeat early
_INVERSE = pow(_BASE, -1, 1 << 64)
_CHUNK = 64  # bytes hashed with one table of powers
_POWERS = np.array([pow(_BASE, k, 1 << 64) for k in range(_CHUNK + 1)], dtype=np.uint64)
_INVERSES = np.array([pow(_INVERSE, k, 1 << 64) for k in range(_CHUNK + 1)], dtype=np.uint64)
_POWERS.flags.writeable = _INVERSES.flags.writeable = False
_P, _Q = _U64(_BASE), _U64(_INVERSE)
_SPREAD = _U64(0xD6E8FEB86659FD93)  # odd; its product's top bits, which choose the slot, depend on every bit of a key
_ZERO, _ONE, _64 = _U64(0), _U64(1), _U64(64)
_SPACE_DIGIT = _U64(32 + 1)  # a space as the polynomial counts bytes
_COUNT_BITS, _COUNT_MASK = _U64(32), _U64(0xFFFFFFFF)

# Bytes that start neither a line end (ASCII's, U+0085, U+2028, U+2029) nor #, . or U+2026.
_PLAIN = np.ones(256, np.uint8)
_PLAIN[[*range(10, 14), *range(28, 31), 35, 46, 0xC2, 0xE2]] = 0
_PLAIN.flags.writeable = False

_KEYS = types.Array(types.uint64, 1, "C", readonly=True)
_TABLE = types.Array(types.uint64, 1, "C")
_ROW = types.Array(types.int64, 1, "C")
_ROWS = types.Array(types.int64, 2, "C")
_PREFIXES = types.Array(types.uint64, 2, "C")


def measure(texts: pa.Array, spans: Spans, stop_words: list[str]) -> dict[str, NDArray[np.uint32]]:
    """One array for each of COLUMNS, from texts (no nulls; sliced or not) and their words.

    `spans` may point into other bytes than those of the texts (recorded or normalised words): lines and characters are
    counted in the texts, words in the spans' own data.
    """
    assert len(spans.firsts) == len(texts) + 1, f"words of {len(spans.firsts) - 1} documents for {len(texts)} texts"
    data, offsets = text_buffers(texts)
    rows = np.zeros((len(texts), len(COLUMNS)), np.int64)
    stops = _stop_word_table(stop_words)
    _count_lines(data, offsets, *tables(), _PLAIN, _POWERS, rows)
    _count_words(spans.data, spans.starts, spans.stops, spans.firsts, *tables(), _POWERS, _INVERSES, stops, rows)
    return {name: rows[:, place].astype(np.uint32) for place, name in enumerate(COLUMNS)}


def measure_language(
    texts: pa.Array, language: str, stop_words: list[str], *, batch_bytes: int = 8_000_000
) -> dict[str, NDArray[np.uint32]]:
    """`segment`, then `measure`, in slices of about `batch_bytes`, so that memory does not grow with the array."""
    if not len(texts):
        return {name: np.empty(0, np.uint32) for name in COLUMNS}
    _, offsets = text_buffers(texts)
    bounds, at = [], 0
    while at < len(texts):
        bounds.append(at)
        at = max(at + 1, int(np.searchsorted(offsets, offsets[at] + batch_bytes, side="right")) - 1)
    slices = [texts.slice(a, b - a) for a, b in zip(bounds, [*bounds[1:], len(texts)], strict=True)]
    parts = [measure(part, segment(part, language), stop_words) for part in slices]
    return {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}


def _stop_word_table(stop_words: list[str]) -> NDArray[np.uint64]:
    """Pairs of (hash, 1 + index) in an open-addressing table at most half full."""
    distinct = sorted(set(stop_words) - {""})
    slots = 1 << max(1, (2 * len(distinct)).bit_length())
    table = np.zeros(2 * slots, np.uint64)
    for index, word in enumerate(distinct):
        data = np.frombuffer(word.encode(), np.uint8)
        _insert_word(table, _span_hash(data, 0, len(data), _POWERS), index + 1)
    table.flags.writeable = False
    return table


@njit([types.uint64(U8, types.int64, types.int64, _KEYS)], cache=True, nogil=True)
def _span_hash(data: Any, start: int, stop: int, powers: Any) -> Any:
    """Sum of (byte + 1) * P^k over the span, k from 0."""
    total, scale = _ZERO, _ONE
    while stop - start > _CHUNK:
        chunk = _ZERO
        for k in range(_CHUNK):
            chunk += (_U64(data[start + k]) + _ONE) * powers[k]
        total += chunk * scale
        scale *= powers[_CHUNK]
        start += _CHUNK
    chunk = _ZERO
    for k in range(stop - start):
        chunk += (_U64(data[start + k]) + _ONE) * powers[k]
    return total + chunk * scale


@njit([types.int64(U8, types.int64, types.int64)], cache=True, nogil=True)
def count_chars(data: Any, start: int, stop: int) -> int:
    count = 0
    for at in range(start, stop):
        count += data[at] & 0xC0 != 0x80
    return count


@njit([types.uint64(types.int64)], cache=True, nogil=True)
def _shift_for(elements: int) -> Any:
    """64 - log2 of the slots for `elements`, a power of two; emptier is faster only where it fits a cache."""
    shift, slots = _U64(63), 2
    wanted = elements * (4 if elements <= _CACHED else 2)
    while slots < wanted:
        slots *= 2
        shift -= _ONE
    return shift


@njit(inline="always")
def _slot_of(key: Any, shift: Any) -> Any:
    return np.int64(key * _SPREAD >> shift)


@njit([types.boolean(_TABLE, types.uint64, types.uint64)], cache=True, nogil=True)
def _seen_before(table: Any, shift: Any, key: Any) -> bool:
    """Whether the key was asked for before; remembers it. Slots hold keys, 0 is empty."""
    key = key if key != _ZERO else _ONE
    mask = (1 << np.int64(_64 - shift)) - 1
    slot = _slot_of(key, shift)
    while table[slot] != _ZERO:
        if table[slot] == key:
            return True
        slot = slot + 1 & mask
    table[slot] = key
    return False


@njit([types.void(_TABLE, types.uint64, types.int64)], cache=True, nogil=True)
def _insert_word(table: Any, key: Any, index: int) -> None:
    mask = len(table) // 2 - 1
    slot = np.int64(key * _SPREAD >> _U64(32)) & mask
    while table[2 * slot + 1] != _ZERO:
        slot = slot + 1 & mask
    table[2 * slot] = key
    table[2 * slot + 1] = _U64(index)


@njit([types.int64(_KEYS, types.uint64)], cache=True, nogil=True)
def _find_word(table: Any, key: Any) -> Any:
    """The index that _insert_word was given, or 0."""
    mask = len(table) // 2 - 1
    slot = np.int64(key * _SPREAD >> _U64(32)) & mask
    while table[2 * slot + 1] != _ZERO:
        if table[2 * slot] == key:
            return np.int64(table[2 * slot + 1])
        slot = slot + 1 & mask
    return 0


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
def _last_char(data: Any, start: int, end: int) -> int:
    """Where the last character of a span that is not empty starts."""
    at = end - 1
    while at > start and data[at] & 0xC0 == 0x80:
        at -= 1
    return at


@njit([types.int64(U8, types.int64, types.int64, U16, U8)], cache=True, nogil=True)
def trim_space(data: Any, start: int, end: int, blocks: Any, flags: Any) -> int:
    """Where the last character that is not white space ends, or `start`."""
    while end > start:
        last = _last_char(data, start, end)
        point, _ = decode(data, last)
        if not flags_of(point, blocks, flags) & SPACE:
            break
        end = last
    return end


@njit([types.void(U8, types.int64, types.int64, U16, U8, _ROW)], cache=True, nogil=True)
def _end_split_line(data: Any, start: int, end: int, blocks: Any, flags: Any, row: Any) -> None:
    """Count one of splitlines' lines, by what is left of it without white space at its ends."""
    row[_SPLIT_LINES] += 1
    if start == end:  # most of what a text of newlines has
        return
    start = skip_space(data, start, end, blocks, flags)
    last = trim_space(data, start, end, blocks, flags) - 3
    if start == end:
        return
    three = last >= start
    bullet = three and data[start] == 0xE2 and data[start + 1] == 0x80 and data[start + 2] == 0xA2
    if bullet or data[start] == ord("-"):
        row[_BULLET_LINES] += 1
    dots = three and data[last] == 46 and data[last + 1] == 46 and data[last + 2] == 46
    if dots or (three and data[last] == 0xE2 and data[last + 1] == 0x80 and data[last + 2] == 0xA6):
        row[_ELLIPSIS_LINES] += 1


@njit([types.void(U8, types.int64, types.int64, U16, U8, U8, _ROW)], cache=True, nogil=True)
def _scan_characters(data: Any, start: int, end: int, blocks: Any, flags: Any, plain: Any, row: Any) -> None:
    """Newlines, hashes, ellipses and the lines of splitlines."""
    at, line = start, start
    while at < end:
        if plain[data[at]]:
            at += 1
            continue
        point, width = decode(data, at)
        if flags_of(point, blocks, flags) & LINE_END:
            _end_split_line(data, line, at, blocks, flags, row)
            if point == 13 and at + 1 < end and data[at + 1] == 10:
                at += 1
            row[_NEWLINES] += data[at] == 10
            at += width
            line = at
        elif point == 46:
            run = at
            while at < end and data[at] == 46:
                at += 1
            row[_ELLIPSES] += (at - run) // 3
        else:
            row[_HASHES] += point == 35
            row[_ELLIPSES] += point == 0x2026
            at += width
    if line < end:
        _end_split_line(data, line, end, blocks, flags, row)


@njit([types.int64(U8, types.int64, types.int64)], cache=True, nogil=True)
def find_newline(data: Any, at: int, end: int) -> int:
    while at < end and data[at] != 10:
        at += 1
    return at


@njit([_TABLE(_TABLE, types.int64)], cache=True, nogil=True)
def _cleared(table: Any, slots: int) -> Any:
    """The table, or a larger one, with its first slots empty."""
    if len(table) < slots:
        return np.zeros(slots, np.uint64)
    table[:slots] = _ZERO
    return table


@njit([_TABLE(U8, types.int64, types.int64, U16, U8, _KEYS, _TABLE, _ROW)], cache=True, nogil=True)
def _scan_lines(data: Any, start: int, end: int, blocks: Any, flags: Any, powers: Any, table: Any, row: Any) -> Any:
    """Lines between newlines: how they end, how long they are, which repeat an earlier one."""
    # By newlines alone a text of newlines would ask for 16 bytes for each of them; a filled line has another byte, too.
    most = min(row[_NEWLINES] + 1, end - start - row[_NEWLINES])
    shift = _shift_for(most)
    table = _cleared(table, 1 << np.int64(_64 - shift))
    edges = np.int64(1) if end == start else np.int64(data[start] == 10) + np.int64(data[end - 1] == 10)
    row[_LINES] = edges
    row[_DUPLICATE_LINES] = edges == 2  # the two empty lines at the ends of the text are equal
    at = start
    while at < end:
        stop = find_newline(data, at, end)
        if stop > at:
            chars = count_chars(data, at, stop)
            row[_CHARS] += chars
            row[_LINES] += 1
            blank = skip_space(data, at, stop, blocks, flags) == stop
            if not blank:
                point, _ = decode(data, _last_char(data, at, stop))
                row[_NONBLANK] += 1
                row[_PUNCTUATED] += flags_of(point, blocks, flags) & TERMINAL != 0
                row[_SHORT] += chars <= _SHORT_LINE_CHARS
            if most > 1 and _seen_before(table, shift, _span_hash(data, at, stop, powers)):
                row[_DUPLICATE_LINES] += 1
                row[_DUPLICATE_LINE_CHARS] += chars
                row[_DUPLICATE_NONBLANK_CHARS] += 0 if blank else chars
        at = stop + 1
    return table


@njit([_TABLE(U8, types.int64, types.int64, U16, U8, _KEYS, _TABLE, _ROW)], cache=True, nogil=True)
def _scan_paragraphs(
    data: Any, start: int, end: int, blocks: Any, flags: Any, powers: Any, table: Any, row: Any
) -> Any:
    """Stretches between two or more newlines of the text without white space at its ends."""
    start = skip_space(data, start, end, blocks, flags)
    end = trim_space(data, start, end, blocks, flags)
    shift = _shift_for(row[_LINES])
    table = _cleared(table, 1 << np.int64(_64 - shift))
    at = start
    while True:
        stop = find_newline(data, at, end)
        while stop < end and data[stop + 1] != 10:  # the last character is no newline
            stop = find_newline(data, stop + 1, end)
        row[_PARAGRAPHS] += 1
        if stop == end and row[_PARAGRAPHS] == 1:
            return table
        if _seen_before(table, shift, _span_hash(data, at, stop, powers)):
            row[_PARAGRAPHS + 1] += 1
            row[_PARAGRAPHS + 2] += count_chars(data, at, stop)
        if stop == end:
            return table
        at = stop
        while data[at] == 10:
            at += 1


@njit([types.void(U8, I64, U16, U8, U8, _KEYS, _ROWS)], cache=True, nogil=True)
def _count_lines(data: Any, offsets: Any, blocks: Any, flags: Any, plain: Any, powers: Any, rows: Any) -> None:
    """All counts that need no words."""
    table = np.zeros(1024, np.uint64)
    for document in range(len(offsets) - 1):
        start, end, row = offsets[document], offsets[document + 1], rows[document]
        _scan_characters(data, start, end, blocks, flags, plain, row)
        table = _scan_lines(data, start, end, blocks, flags, powers, table, row)
        table = _scan_paragraphs(data, start, end, blocks, flags, powers, table, row)
        row[_CHARS] += row[_NEWLINES]
        row[_BYTES] = end - start


@njit([types.uint64(_KEYS, types.int64)], cache=True, nogil=True)
def _power(powers: Any, exponent: int) -> Any:
    scale = _ONE
    while exponent > _CHUNK:
        scale *= powers[_CHUNK]
        exponent -= _CHUNK
    return scale * powers[exponent]


@njit([types.int64(U8, types.int64, types.int64, U16, U8)], cache=True, nogil=True)
def _kind_of_word(data: Any, at: int, stop: int, blocks: Any, flags: Any) -> int:
    """LETTER and NOT_PUNCTUATION where any character has them: mostly the first one settles both."""
    kind = 0
    while at < stop and kind & (LETTER | NOT_PUNCTUATION) != LETTER | NOT_PUNCTUATION:
        point, width = decode(data, at)
        kind |= flags_of(point, blocks, flags)
        at += width
    return kind


@njit(
    [types.void(U8, I32, I32, types.int64, types.int64, U16, U8, _KEYS, _KEYS, _KEYS, _ROW, _PREFIXES, _ROW, _ROW)],
    cache=True,
    nogil=True,
)
def _read_words(
    data: Any,
    starts: Any,
    stops: Any,
    first: int,
    last: int,
    blocks: Any,
    flags: Any,
    powers: Any,
    inverses: Any,
    stop_words: Any,
    seen: Any,
    prefixes: Any,
    chars: Any,
    row: Any,
) -> None:
    """Prefix hashes and lengths before each word, and the counts of single words.

    prefixes, 4 x (words + 1): hash of all words before, joined; P^-(bytes before); the same two with a space behind
    each word.
    """
    joined, spaced = _ZERO, _ZERO
    joined_power, joined_inverse, spaced_power, spaced_inverse = _ONE, _ONE, _ONE, _ONE
    total, alpha, nonsymbol, nonsymbol_chars, found = 0, 0, 0, 0, 0
    for word in range(first, last):
        start, stop = np.int64(starts[word]), np.int64(stops[word])
        place = word - first
        prefixes[0, place], prefixes[1, place] = joined, joined_inverse
        prefixes[2, place], prefixes[3, place] = spaced, spaced_inverse
        chars[place] = total
        key, length = _ZERO, 0
        if stop - start <= _CHUNK:
            for k in range(stop - start):
                key += (_U64(data[start + k]) + _ONE) * powers[k]
                length += data[start + k] & 0xC0 != 0x80
            power, inverse = powers[stop - start], inverses[stop - start]
        else:
            key, length = _span_hash(data, start, stop, powers), count_chars(data, start, stop)
            power, inverse = _power(powers, stop - start), _power(inverses, stop - start)
        joined += key * joined_power
        spaced += (key + _SPACE_DIGIT * power) * spaced_power
        joined_power, joined_inverse = joined_power * power, joined_inverse * inverse
        spaced_power, spaced_inverse = spaced_power * power * _P, spaced_inverse * inverse * _Q
        total += length
        kind = _kind_of_word(data, start, stop, blocks, flags)
        alpha += kind & LETTER  # LETTER is 1
        if kind & NOT_PUNCTUATION:
            nonsymbol += 1
            nonsymbol_chars += length
        index = _find_word(stop_words, key)
        if index and seen[index] != first + 1:
            seen[index] = first + 1
            found += 1
    words = last - first
    prefixes[0, words], prefixes[2, words], chars[words] = joined, spaced, total
    row[_WORDS], row[_ALPHA], row[_STOP_WORDS] = words, alpha, found
    row[_NONSYMBOL], row[_NONSYMBOL_CHARS] = nonsymbol, nonsymbol_chars


@njit([types.int64(_TABLE, _TABLE, _ROW, types.int64, types.int64, _TABLE)], cache=True, nogil=True)
def _top_gram_chars(hashes: Any, inverses: Any, chars: Any, words: int, n: int, table: Any) -> Any:
    """Count times length of the most frequent n-gram, of the first seen among equally frequent ones."""
    grams = words - n + 1
    if grams <= 0:
        return 0
    shift = _shift_for(grams)
    slots = 1 << np.int64(_64 - shift)
    table[: 2 * slots] = _ZERO  # pairs of (key, first place << 32 | count)
    most, most_first = np.int64(0), np.int64(0)
    for gram in range(grams):
        key = (hashes[gram + n] - hashes[gram]) * inverses[gram]
        key = key if key != _ZERO else _ONE
        slot = _slot_of(key, shift)
        while table[2 * slot] != key and table[2 * slot] != _ZERO:
            slot = slot + 1 & slots - 1
        if table[2 * slot] == _ZERO:
            table[2 * slot], table[2 * slot + 1] = key, _U64(gram) << _COUNT_BITS
        table[2 * slot + 1] += _ONE
        entry = table[2 * slot + 1]
        count, first = np.int64(entry & _COUNT_MASK), np.int64(entry >> _COUNT_BITS)
        if count > most or (count == most and first < most_first):
            most, most_first = count, first
    return most * (chars[most_first + n] - chars[most_first] + n - 1)


@njit([types.int64(_TABLE, _TABLE, _ROW, types.int64, types.int64, _TABLE)], cache=True, nogil=True)
def _duplicate_gram_chars(hashes: Any, inverses: Any, chars: Any, words: int, n: int, table: Any) -> Any:
    """Characters of n-grams that were seen before; behind one, the next n-gram starts n words on."""
    grams = words - n + 1
    if grams <= 1:
        return 0
    shift = _shift_for(grams)
    table[: 1 << np.int64(_64 - shift)] = _ZERO
    total, gram = np.int64(0), np.int64(0)
    while gram < grams:
        if _seen_before(table, shift, (hashes[gram + n] - hashes[gram]) * inverses[gram]):
            total += chars[gram + n] - chars[gram]
            gram += n
        else:
            gram += 1
    return total


@njit([types.void(U8, I32, I32, I64, U16, U8, _KEYS, _KEYS, _KEYS, _ROWS)], cache=True, nogil=True)
def _count_words(
    data: Any,
    starts: Any,
    stops: Any,
    firsts: Any,
    blocks: Any,
    flags: Any,
    powers: Any,
    inverses: Any,
    stop_words: Any,
    rows: Any,
) -> None:
    """All counts that need words."""
    most = np.int64(0)
    for document in range(len(firsts) - 1):
        most = max(most, firsts[document + 1] - firsts[document])
    prefixes = np.zeros((4, most + 1), np.uint64)
    chars = np.zeros(most + 1, np.int64)
    table = np.zeros(2 << np.int64(_64 - _shift_for(most)), np.uint64)
    seen = np.zeros(len(stop_words), np.int64)
    for document in range(len(firsts) - 1):
        first, last, row = firsts[document], firsts[document + 1], rows[document]
        _read_words(
            data, starts, stops, first, last, blocks, flags, powers, inverses, stop_words, seen, prefixes, chars, row
        )
        for n in range(2, 5):
            row[_TOP + n - 2] = _top_gram_chars(prefixes[2], prefixes[3], chars, last - first, n, table)
        for n in range(5, 11):
            row[_DUPLICATE + n - 5] = _duplicate_gram_chars(prefixes[0], prefixes[1], chars, last - first, n, table)
