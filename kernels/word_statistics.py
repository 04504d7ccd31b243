"""The counts of all rules that need words: their lengths and kinds, stop words, and n-grams that repeat.

Lengths are in code points. Peak memory is about 60 bytes a word of the largest document in the call.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit, types
from numpy.typing import NDArray

from polylm.kernels.scanning import count_chars
from polylm.kernels.span_hash import (
    BASE,
    CHUNK,
    INVERSE,
    INVERSES,
    KEYS,
    ONE,
    POWERS,
    ROW,
    ROWS,
    SIXTY_FOUR,
    SPREAD,
    TABLE,
    U64,
    ZERO,
    power_of,
    seen_before,
    shift_for,
    slot_of,
    span_hash,
)
from polylm.kernels.unicode_classes import LETTER, NOT_PUNCTUATION, decode, flags_of, tables
from polylm.kernels.words import I32, I64, U8, U16, Spans

COLUMNS: dict[str, tuple[pa.DataType, str]] = {
    "words": (pa.uint32(), "Words, punctuation included."),
    "nonsymbol_words": (pa.uint32(), "Of words, those with any character that is not punctuation."),
    "nonsymbol_word_chars": (pa.uint32(), "Characters of nonsymbol_words."),
    "alpha_words": (pa.uint32(), "Of words, those with a letter."),
    "stop_words": (pa.uint32(), "Distinct stop words among words, case-sensitive."),
    "stop_word_occurrences": (pa.uint32(), "Stop words among words, each as often as it stands there."),
    "top_2_gram_chars": (pa.uint32(), "Count times length of the most frequent 2 words in a row (first on ties)."),
    "top_3_gram_chars": (pa.uint32(), "The same for 3 words; words of an n-gram are joined by a space."),
    "top_4_gram_chars": (pa.uint32(), "The same for 4 words."),
    "duplicate_5_gram_chars": (pa.uint32(), "Characters of 5 words in a row, joined without space, seen earlier."),
    "duplicate_6_gram_chars": (pa.uint32(), "The same for 6 words; after a repeated n-gram its n words are skipped."),
    "duplicate_7_gram_chars": (pa.uint32(), "The same for 7 words."),
    "duplicate_8_gram_chars": (pa.uint32(), "The same for 8 words."),
    "duplicate_9_gram_chars": (pa.uint32(), "The same for 9 words."),
    "duplicate_10_gram_chars": (pa.uint32(), "The same for 10 words."),
    "word_grams": (pa.uint32(), "Words in a row that ROOTS looks at: 5, in Urdu 7."),
    "repeated_word_grams": (pa.uint32(), "Of word_grams, those that stand more than once."),
}
WORD_GRAM = 5
WORD_GRAMS = {"ur": 7}
"""Words in a row that ROOTS counts, where they are not WORD_GRAM: parameters_filtering.py of
bigscience-workshop/data-preparation (91702cd), word_repetition_length."""

_AT = {name: place for place, name in enumerate(COLUMNS)}
_WORDS, _NONSYMBOL, _NONSYMBOL_CHARS = _AT["words"], _AT["nonsymbol_words"], _AT["nonsymbol_word_chars"]
_ALPHA, _STOP_WORDS, _STOP_OCCURRENCES = _AT["alpha_words"], _AT["stop_words"], _AT["stop_word_occurrences"]
_GRAMS, _REPEATED = _AT["word_grams"], _AT["repeated_word_grams"]
_TOP, _DUPLICATE = _AT["top_2_gram_chars"], _AT["duplicate_5_gram_chars"]

_SPACE_DIGIT = U64(32 + 1)  # a space as the polynomial counts bytes
_COUNT_BITS, _COUNT_MASK = U64(32), U64(0xFFFFFFFF)

_PREFIXES = types.Array(types.uint64, 2, "C")


def count_words(spans: Spans, stop_words: list[str], gram: int) -> NDArray[np.int64]:
    """One row of COLUMNS for each document; `gram` is the length of `repeated_word_grams`."""
    rows = np.zeros((len(spans.firsts) - 1, len(COLUMNS)), np.int64)
    stops = _stop_word_table(stop_words)
    _count_words(spans.data, spans.starts, spans.stops, spans.firsts, *tables(), POWERS, INVERSES, stops, gram, rows)
    return rows


def _stop_word_table(stop_words: list[str]) -> NDArray[np.uint64]:
    """Pairs of (hash, 1 + index) in an open-addressing table at most half full."""
    distinct = sorted(set(stop_words) - {""})
    slots = 1 << max(1, (2 * len(distinct)).bit_length())
    table = np.zeros(2 * slots, np.uint64)
    for index, word in enumerate(distinct):
        data = np.frombuffer(word.encode(), np.uint8)
        _insert_word(table, span_hash(data, 0, len(data), POWERS), index + 1)
    table.flags.writeable = False
    return table


@njit([types.void(TABLE, types.uint64, types.int64)], cache=True, nogil=True)
def _insert_word(table: Any, key: Any, index: int) -> None:
    mask = len(table) // 2 - 1
    slot = np.int64(key * SPREAD >> U64(32)) & mask
    while table[2 * slot + 1] != ZERO:
        slot = slot + 1 & mask
    table[2 * slot] = key
    table[2 * slot + 1] = U64(index)


@njit([types.int64(KEYS, types.uint64)], cache=True, nogil=True)
def _find_word(table: Any, key: Any) -> Any:
    """The index that _insert_word was given, or 0."""
    mask = len(table) // 2 - 1
    slot = np.int64(key * SPREAD >> U64(32)) & mask
    while table[2 * slot + 1] != ZERO:
        if table[2 * slot] == key:
            return np.int64(table[2 * slot + 1])
        slot = slot + 1 & mask
    return 0


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
    [types.void(U8, I32, I32, types.int64, types.int64, U16, U8, KEYS, KEYS, KEYS, ROW, _PREFIXES, ROW, ROW)],
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
    joined, spaced = ZERO, ZERO
    joined_power, joined_inverse, spaced_power, spaced_inverse = ONE, ONE, ONE, ONE
    total, alpha, nonsymbol, nonsymbol_chars, found, occurrences = 0, 0, 0, 0, 0, 0
    for word in range(first, last):
        start, stop = np.int64(starts[word]), np.int64(stops[word])
        place = word - first
        prefixes[0, place], prefixes[1, place] = joined, joined_inverse
        prefixes[2, place], prefixes[3, place] = spaced, spaced_inverse
        chars[place] = total
        key, length = ZERO, 0
        if stop - start <= CHUNK:
            for k in range(stop - start):
                key += (U64(data[start + k]) + ONE) * powers[k]
                length += data[start + k] & 0xC0 != 0x80
            power, inverse = powers[stop - start], inverses[stop - start]
        else:
            key, length = span_hash(data, start, stop, powers), count_chars(data, start, stop)
            power, inverse = power_of(powers, stop - start), power_of(inverses, stop - start)
        joined += key * joined_power
        spaced += (key + _SPACE_DIGIT * power) * spaced_power
        joined_power, joined_inverse = joined_power * power, joined_inverse * inverse
        spaced_power, spaced_inverse = spaced_power * power * BASE, spaced_inverse * inverse * INVERSE
        total += length
        kind = _kind_of_word(data, start, stop, blocks, flags)
        alpha += kind & LETTER  # LETTER is 1
        if kind & NOT_PUNCTUATION:
            nonsymbol += 1
            nonsymbol_chars += length
        index = _find_word(stop_words, key)
        occurrences += index > 0
        if index and seen[index] != first + 1:
            seen[index] = first + 1
            found += 1
    words = last - first
    prefixes[0, words], prefixes[2, words], chars[words] = joined, spaced, total
    row[_WORDS], row[_ALPHA], row[_STOP_WORDS] = words, alpha, found
    row[_NONSYMBOL], row[_NONSYMBOL_CHARS], row[_STOP_OCCURRENCES] = nonsymbol, nonsymbol_chars, occurrences


@njit([types.int64(TABLE, TABLE, ROW, types.int64, types.int64, TABLE)], cache=True, nogil=True)
def _top_gram_chars(hashes: Any, inverses: Any, chars: Any, words: int, n: int, table: Any) -> Any:
    """Count times length of the most frequent n-gram, of the first seen among equally frequent ones."""
    grams = words - n + 1
    if grams <= 0:
        return 0
    shift = shift_for(grams)
    slots = 1 << np.int64(SIXTY_FOUR - shift)
    table[: 2 * slots] = ZERO  # pairs of (key, first place << 32 | count)
    most, most_first = np.int64(0), np.int64(0)
    for gram in range(grams):
        key = (hashes[gram + n] - hashes[gram]) * inverses[gram]
        key = key if key != ZERO else ONE
        slot = slot_of(key, shift)
        while table[2 * slot] != key and table[2 * slot] != ZERO:
            slot = slot + 1 & slots - 1
        if table[2 * slot] == ZERO:
            table[2 * slot], table[2 * slot + 1] = key, U64(gram) << _COUNT_BITS
        table[2 * slot + 1] += ONE
        entry = table[2 * slot + 1]
        count, first = np.int64(entry & _COUNT_MASK), np.int64(entry >> _COUNT_BITS)
        if count > most or (count == most and first < most_first):
            most, most_first = count, first
    return most * (chars[most_first + n] - chars[most_first] + n - 1)


@njit([types.int64(TABLE, TABLE, ROW, types.int64, types.int64, TABLE)], cache=True, nogil=True)
def _duplicate_gram_chars(hashes: Any, inverses: Any, chars: Any, words: int, n: int, table: Any) -> Any:
    """Characters of n-grams that were seen before; behind one, the next n-gram starts n words on."""
    grams = words - n + 1
    if grams <= 1:
        return 0
    shift = shift_for(grams)
    table[: 1 << np.int64(SIXTY_FOUR - shift)] = ZERO
    total, gram = np.int64(0), np.int64(0)
    while gram < grams:
        if seen_before(table, shift, (hashes[gram + n] - hashes[gram]) * inverses[gram]):
            total += chars[gram + n] - chars[gram]
            gram += n
        else:
            gram += 1
    return total


@njit([types.int64(TABLE, TABLE, types.int64, types.int64, TABLE)], cache=True, nogil=True)
def _repeated_grams(hashes: Any, inverses: Any, words: int, n: int, table: Any) -> Any:
    """How many n-grams stand more than once, each as often as it does."""
    grams = words - n + 1
    if grams <= 1:
        return 0
    shift = shift_for(grams)
    slots = 1 << np.int64(SIXTY_FOUR - shift)
    table[:slots] = ZERO
    total = np.int64(0)
    for gram in range(grams):
        # The last bit says: once so far. Spread first, because n-grams whose first bytes are neighbours differ in it alone.
        key = (hashes[gram + n] - hashes[gram]) * inverses[gram] * SPREAD | ONE
        slot = slot_of(key, shift)
        while table[slot] | ONE != key and table[slot] != ZERO:
            slot = slot + 1 & slots - 1
        if table[slot] == ZERO:
            table[slot] = key
        else:
            total += 1 + np.int64(table[slot] & ONE)
            table[slot] = key ^ ONE
    return total


@njit([types.void(U8, I32, I32, I64, U16, U8, KEYS, KEYS, KEYS, types.int64, ROWS)], cache=True, nogil=True)
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
    gram: int,
    rows: Any,
) -> None:
    """All counts that need words."""
    most = np.int64(0)
    for document in range(len(firsts) - 1):
        most = max(most, firsts[document + 1] - firsts[document])
    prefixes = np.zeros((4, most + 1), np.uint64)
    chars = np.zeros(most + 1, np.int64)
    table = np.zeros(2 << np.int64(SIXTY_FOUR - shift_for(most)), np.uint64)
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
        row[_GRAMS] = max(last - first - gram + 1, 0)
        row[_REPEATED] = _repeated_grams(prefixes[2], prefixes[3], last - first, gram, table)
