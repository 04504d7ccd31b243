"""Tokens and shingles for the search for duplicates, by compiled kernels over Arrow's UTF-8 buffers.

`tokenize` makes what a deduplicator would call the same text: lower case, digits as 0, no punctuation, and words, or
single characters where a script has no spaces. It depends on the Unicode version of Python and on that inside Arrow: a
stage that calls it names both in its key.
"""

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from polylm.kernels.utf8 import TABLE_SIZE, UNSPACED_RANGES, Bytes, Ints, decode, jit, utf8_buffers, within

_GAP, _LETTER, _ALONE, _MARK, _DROP, _MAPPED = range(6)
# Diacritics for any script: in texts, nearly always on Latin, Greek or Cyrillic letters that have no composed form.
_DIACRITICS = (
    (0x0300, 0x036F),
    (0x0483, 0x0489),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0xFE20, 0xFE2F),
)
_POINTS = ((0x0591, 0x05C7), (0x0610, 0x061A), (0x064B, 0x065F), (0x0670, 0x0670), (0x06D6, 0x06ED), (0x08CA, 0x08FF))
_VARIANTS = ((0x180B, 0x180F), (0xFE00, 0xFE0F))
_TATWEEL = 0x0640
_BARE_SCRIPTS = ("LATIN ", "GREEK ", "CYRILLIC ")


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of N texts. Inside a text they are joined by one space, so n tokens in a row are one slice of bytes."""

    text: Bytes  # the normalised texts, end to end
    text_offsets: Ints  # [N + 1] bytes of each text
    starts: Ints  # first byte of each token
    offsets: Ints  # [N + 1] tokens of each text


@dataclass(frozen=True, slots=True)
class Spans:
    """Slices of bytes that belong to N texts."""

    starts: Ints
    ends: Ints
    offsets: Ints  # [N + 1] spans of each text


def tokenize(texts: pa.Array) -> Tokens:
    """Normalise texts for the search for duplicates, each script in its own way, and cut them into tokens.

    NFKC; case folded; every digit is 0; punctuation, symbols and white space part words. Marks are dropped from Latin,
    Greek and Cyrillic letters, Arabic loses its vowel signs and tatweel, Hebrew its points; elsewhere marks are part of the
    spelling and stay (datatrove drops them all, which breaks Thai, Hindi, Khmer and Japanese). A token is a word, or, in
    scripts without spaces, one character with its marks. A null text has no tokens. The price of folding digits: pages
    that differ in numbers only are equal.

    Memory: 1 copy where NFKC is needed, up to 2 for the text, 8 bytes a token; cut large arrays with `row_batches`.
    """
    data, offsets = utf8_buffers(_nfkc(texts))
    size, rows = int(offsets[-1] - offsets[0]), len(offsets) - 1
    # A byte can become a byte and a space; no lower case is longer than that (2 bytes to 3, U+023A).
    text, starts = np.empty(2 * size + rows, np.uint8), np.empty((size + rows) // 2 + 1, np.int64)
    text_offsets, token_offsets = _fold_rows(data, offsets, *_fold_tables(), text, starts)
    return Tokens(text[: text_offsets[-1]], text_offsets, starts[: token_offsets[-1]], token_offsets)


def shingles(tokens: Tokens, length: int) -> Spans:
    """The spans of every `length` tokens in a row; a shorter text is one shingle, a text without tokens has none.

    Memory: 16 bytes a shingle.
    """
    if length < 1:
        raise ValueError(f"a shingle has {length} tokens, expected at least 1")
    per_text = np.diff(tokens.offsets)
    offsets = np.zeros(len(per_text) + 1, np.int64)
    np.cumsum(np.where(per_text > 0, np.maximum(per_text - length + 1, 1), 0), out=offsets[1:])
    starts, ends = np.empty(offsets[-1], np.int64), np.empty(offsets[-1], np.int64)
    _fill_shingles(tokens.starts, tokens.offsets, tokens.text_offsets, length, offsets, starts, ends)
    return Spans(starts, ends, offsets)


def _fold_class(code: int, category: str) -> int:
    """How `tokenize` treats one character of the first two planes, before its mapping."""
    if code == _TATWEEL or category == "Cf":
        return _DROP
    if category[0] == "M":
        return _DROP if within(code, _DIACRITICS + _POINTS + _VARIANTS) else _MARK
    if category[0] == "L" or category in ("Nl", "No"):
        return _ALONE if within(code, UNSPACED_RANGES) else _LETTER
    return _LETTER if category == "Nd" else _GAP


def _folded(char: str, category: str) -> str:
    """The letter that stands for `char`: no case, no diacritic in the scripts that can do without."""
    if category == "Nd":
        return "0"
    lower = char.casefold()
    if unicodedata.name(lower[0], "").startswith(_BARE_SCRIPTS):
        return "".join(c for c in unicodedata.normalize("NFKD", lower) if unicodedata.category(c)[0] != "M")
    return lower


@lru_cache(maxsize=1)
def _fold_tables() -> tuple[Bytes, NDArray[np.int32], Bytes, Bytes]:
    """Class, place and length in the pool of the first two planes, and the pool; 0.1 s, once a process."""
    classes, at = np.zeros(TABLE_SIZE, np.uint8), np.zeros(TABLE_SIZE, np.int32)
    lengths, pool = np.zeros(TABLE_SIZE, np.uint8), bytearray()
    for code in range(TABLE_SIZE):
        char = chr(code)
        category = unicodedata.category(char)
        classes[code] = _fold_class(code, category)
        if classes[code] == _LETTER and (folded := _folded(char, category)) != char:
            encoded = folded.encode()
            classes[code], at[code], lengths[code] = _MAPPED, len(pool), len(encoded)
            pool += encoded
    return classes, at, lengths, np.frombuffer(bytes(pool), np.uint8)


def _nfkc(texts: pa.Array) -> pa.Array:
    """NFKC where `tokenize` would see a difference; it costs as much as all the rest, and most texts need none."""
    data, offsets = utf8_buffers(texts)
    affected = pa.array(_rows_with(data, offsets, _nfkc_table()))
    changed = pc.utf8_normalize(texts.filter(affected), form="NFKC")
    return pc.replace_with_mask(texts, affected, changed) if len(changed) else texts


@lru_cache(maxsize=1)
def _nfkc_table() -> NDArray[np.bool_]:
    """Characters that NFKC may change to something that is more than another gap; 0.1 s, once a process."""
    classes = _fold_tables()[0]
    table = np.zeros(TABLE_SIZE, np.bool_)
    for code in range(0x80, TABLE_SIZE):
        char = chr(code)
        # Marks may move or join the letter before, and so may the vowels and finals of Hangul.
        moves = unicodedata.category(char)[0] == "M" or 0x1160 <= code <= 0x11FF
        composed = unicodedata.normalize("NFKC", char)
        table[code] = moves or (composed != char and any(classes[ord(c)] != _GAP for c in char + composed))
    return table


@jit
def _rows_with(data: Bytes, offsets: Ints, table: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The rows that have a character of `table`, or one past its end."""
    found = np.zeros(len(offsets) - 1, np.bool_)
    for row in range(len(found)):
        i, end = offsets[row], offsets[row + 1]
        while i < end and not found[row]:
            code, width = decode(data, i, end)
            found[row] = code >= len(table) or table[code]
            i += width
    return found


@jit
def _fold_class_of(classes: Bytes, code: int) -> int:
    if code < TABLE_SIZE:
        return classes[code]  # type: ignore[no-any-return]
    if code < 0x40000:
        return _ALONE
    return _DROP if 0xE0000 <= code <= 0xE0FFF else _GAP


@jit
def _fold_rows(
    data: Bytes,
    offsets: Ints,
    classes: Bytes,
    map_at: NDArray[np.int32],
    map_bytes: Bytes,
    pool: Bytes,
    text: Bytes,
    starts: Ints,
) -> tuple[Ints, Ints]:
    """Write normalised texts and the first bytes of their tokens: offsets of the texts and of the tokens."""
    rows = len(offsets) - 1
    text_offsets, token_offsets = np.zeros(rows + 1, np.int64), np.zeros(rows + 1, np.int64)
    o = tokens = np.int64(0)
    for row in range(rows):
        i, end = offsets[row], offsets[row + 1]
        open_class = _GAP  # of the token being written: none, a word, or a character of its own
        while i < end:
            code, width = decode(data, i, end)
            kind = _fold_class_of(classes, code)
            if kind == _GAP:
                open_class = _GAP
            elif kind != _DROP:
                wanted = _ALONE if kind == _ALONE else (_LETTER if kind != _MARK or open_class == _GAP else open_class)
                if kind == _ALONE or wanted != open_class:
                    if o > text_offsets[row]:
                        text[o] = 0x20
                        o += 1
                    starts[tokens] = o
                    tokens += 1
                    open_class = wanted
                source, first, size = data, i, width
                if kind == _MAPPED:
                    source, first, size = pool, int(map_at[code]), int(map_bytes[code])
                for k in range(size):
                    text[o + k] = source[first + k]
                o += size
            i += width
        text_offsets[row + 1], token_offsets[row + 1] = o, tokens
    return text_offsets, token_offsets


@jit
def _fill_shingles(
    token_starts: Ints, token_offsets: Ints, text_offsets: Ints, length: int, offsets: Ints, starts: Ints, ends: Ints
) -> None:
    """Spans of `length` tokens; a token ends one byte, its space, before the next."""
    for row in range(len(offsets) - 1):
        first, last = token_offsets[row], token_offsets[row + 1]
        for k in range(offsets[row + 1] - offsets[row]):
            after = first + k + length
            out = offsets[row] + k
            starts[out] = token_starts[first + k]
            ends[out] = token_starts[after] - 1 if after < last else text_offsets[row + 1]
