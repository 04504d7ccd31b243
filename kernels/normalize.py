"""Text in two kinds of normal form, by compiled kernels over Arrow's UTF-8 buffers.

`clean` is what a reader would call the same text: standard white space, nothing invisible, no lines that are only an
address, no over-long words (PolyLM, section 3.1: the line-wise rules). `tokenize` is what a deduplicator would call the
same text: lower case, digits as 0, no punctuation, and words, or single characters where a script has no spaces.

Both depend on the Unicode version of Python (`UNICODE_VERSION`), and `tokenize` on that inside Arrow too: a stage that
calls them names both in its key.
"""

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

UNICODE_VERSION = unicodedata.unidata_version

Bytes: TypeAlias = NDArray[np.uint8]
Ints: TypeAlias = NDArray[np.int64]
_F = TypeVar("_F", bound=Callable[..., Any])

# Tables go to the end of plane 1; what lies above needs four rules and no table.
_TABLE_SIZE = 0x20000

# Scripts written without spaces between words, with their punctuation and full-width forms. Tibetan has its own mark
# between syllables; the long-word rule would cut whole sentences of it.
_UNSPACED_RANGES = (
    (0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19FF), (0x1A20, 0x1AAF),
    (0x1B00, 0x1B7F), (0x2E80, 0x2FFF), (0x3000, 0x312F), (0x3190, 0x4DBF), (0x4E00, 0x9FFF), (0xA000, 0xA4CF),
    (0xA980, 0xA9FF), (0xAA60, 0xAADF), (0xF900, 0xFAFF), (0xFE30, 0xFE4F), (0xFF00, 0xFF9F), (0xFFE0, 0xFFEF),
    (0x16FE0, 0x18DFF), (0x1AFF0, 0x1B2FF),
)  # fmt: skip
# Scripts whose letters change shape beside a joiner or non-joiner: Arabic and its kin, Mongolian, the Indic family.
_JOINING_RANGES = (
    (0x0600, 0x07FF), (0x0840, 0x0DFF), (0x0F00, 0x109F), (0x1700, 0x18AF), (0x1A00, 0x1CFF), (0xA800, 0xABFF),
    (0xFB50, 0xFDFF), (0xFE70, 0xFEFC), (0x10A00, 0x11FFF), (0x1E900, 0x1E95F),
)  # fmt: skip
_EMOJI_RANGES = ((0x2190, 0x2BFF), (0x3030, 0x303D), (0x3297, 0x3299), (0xFE0F, 0xFE0F), (0x1F000, 0x1FAFF))
_LINE_ENDS = (0x0A, 0x0B, 0x0C, 0x0D, 0x85, 0x2028, 0x2029)
# Format characters that can be seen: signs that span the digits after them, and those that stack hieroglyphs.
_VISIBLE_FORMATS = (
    (0x0600, 0x0605), (0x06DD, 0x06DD), (0x070F, 0x070F), (0x0890, 0x0891), (0x08E2, 0x08E2), (0x110BD, 0x110BD),
    (0x110CD, 0x110CD), (0x13430, 0x1343F),
)  # fmt: skip
_FILLERS = (0x3164, 0xFFA0)  # Hangul letters by name, blank by nature

_SPACE, _LINE, _INVISIBLE, _JOINER, _UNSPACED, _JOINING, _EMOJI, _TAG = (np.uint8(1 << bit) for bit in range(8))
_ZWJ = 0x200D
_JOINERS = (0x200C, _ZWJ, 0x180E)
_BLACK_FLAG = 0x1F3F4  # the only base of tag sequences: the flags of England, Scotland and Wales
_BROKEN = 0xFFFD


def _jit(function: _F) -> _F:
    compiled: _F = numba.njit(cache=True, nogil=True)(function)
    return compiled


@dataclass(frozen=True, slots=True)
class CleanResult:
    """Cleaned texts and what was cut from each; the counts are uint32 and 0 for a null text.

    Characters in = characters out + invisible_chars + space_chars + the characters of the cut lines and words.
    """

    texts: pa.Array  # null where the text was null or nothing is left
    url_lines: NDArray[np.uint32]
    long_words: NDArray[np.uint32]
    invisible_chars: NDArray[np.uint32]
    space_chars: NDArray[np.uint32]  # white space removed; a space that only changed its kind is not counted


def clean(texts: pa.Array, *, max_word_chars: int, drop_url_lines: bool) -> CleanResult:
    """Standardise white space and drop invisible characters, lines that are only addresses and over-long words.

    - Every Unicode space becomes one space, every line end one newline; lines are stripped, and of blank lines in a row
      one stays. The price is the indentation of code.
    - Control, format and non-characters go. Joiners stay beside letters of scripts that need them and inside emoji.
    - A line whose words are all addresses goes, unless a word continues in a script without spaces.
    - A word is a stretch without white space and without characters of scripts that have no spaces, so that Chinese,
      Japanese, Thai, Lao, Khmer, Burmese and Tibetan sentences are never cut, but what is glued to them is.

    `texts` is a string or large_string array, sliced or not, and the result has its type. Cleaning twice changes
    nothing. Memory: one copy of the texts, twice the longest text, and 24 bytes a row.
    """
    if max_word_chars < 1:
        raise ValueError(f"max_word_chars is {max_word_chars}, expected at least 1")
    data, offsets = _utf8(texts)
    out = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
    out_offsets, counts = _clean_rows(data, offsets, _clean_table(), max_word_chars, drop_url_lines, out)
    emptied = out_offsets[1:] == out_offsets[:-1]
    return CleanResult(_string_array(out, out_offsets, emptied, texts.type), *counts)


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
    data, offsets = _utf8(_nfkc(texts))
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


def row_batches(texts: pa.Array, max_bytes: int = 16 << 20) -> Iterator[pa.Array]:
    """Slices of `texts`, in order, of at most `max_bytes` each or of one row."""
    _, offsets = _utf8(texts)
    start = 0
    while start < len(texts):
        end = int(np.searchsorted(offsets, offsets[start] + max_bytes, side="right")) - 1
        end = max(end, start + 1)
        yield texts.slice(start, end - start)
        start = end


def _utf8(texts: pa.Array) -> tuple[Bytes, Ints]:
    """The bytes and int64 offsets of a string array; a null row is empty, whatever its offsets say."""
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        raise ValueError(f"texts are {texts.type}, expected string or large_string")
    if texts.null_count:
        texts = texts.fill_null("")
    _, offset_buffer, data_buffer = texts.buffers()
    width = np.dtype(np.int64 if pa.types.is_large_string(texts.type) else np.int32)
    if offset_buffer is None or not len(texts):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    offsets = np.frombuffer(offset_buffer, width)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    data = np.frombuffer(data_buffer if data_buffer is not None else b"", np.uint8)
    return data, offsets


def _string_array(data: Bytes, offsets: Ints, is_null: NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    """A string array over the first `offsets[-1]` bytes of `data`."""
    large = pa.types.is_large_string(kind)
    validity = pa.py_buffer(np.packbits(~is_null, bitorder="little"))
    width = offsets if large else offsets.astype(np.int32)
    # Copied, so that what was cut does not stay in memory.
    buffers = [validity, pa.py_buffer(width), pa.py_buffer(data[: offsets[-1]].copy())]
    return pa.Array.from_buffers(kind, len(is_null), buffers, null_count=int(is_null.sum()))


def _within(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)


def _clean_flags(code: int, category: str) -> int:
    """What `clean` must know of one character of the first two planes."""
    if code in _LINE_ENDS:
        return int(_LINE)
    if category == "Zs" or code == 0x09 or 0x1C <= code <= 0x1F:
        return int(_SPACE)
    if code in _JOINERS:
        return int(_JOINER)
    noncharacter = 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
    if category in ("Cc", "Cs") or noncharacter or code in _FILLERS:
        return int(_INVISIBLE)
    if category == "Cf" and not _within(code, _VISIBLE_FORMATS):
        return int(_INVISIBLE)
    flags = _UNSPACED * _within(code, _UNSPACED_RANGES) + _EMOJI * _within(code, _EMOJI_RANGES)
    return int(flags + _JOINING * (category[0] in "LM" and _within(code, _JOINING_RANGES)))


@lru_cache(maxsize=1)
def _clean_table() -> Bytes:
    """The flags of the first two planes; 0.3 s, once a process."""
    return np.array([_clean_flags(code, unicodedata.category(chr(code))) for code in range(_TABLE_SIZE)], np.uint8)


@_jit
def _flags(table: Bytes, code: int) -> np.uint8:
    if code < _TABLE_SIZE:
        return table[code]  # type: ignore[no-any-return]
    if 0xE0020 <= code <= 0xE007F:
        return _TAG
    if code & 0xFFFE == 0xFFFE or 0xE0000 <= code < 0xE0100 or 0xE01F0 <= code <= 0xE0FFF:
        return _INVISIBLE
    return _UNSPACED if code < 0x40000 else np.uint8(0)


@_jit
def _decode(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """The code point at byte `i` and its bytes; a byte that is not UTF-8 is one U+FFFD, and nothing is read past `end`."""
    first = np.int64(data[i])
    if first < 0x80:
        return int(first), 1
    width = 2 if first < 0xE0 else (3 if first < 0xF0 else 4)
    if first < 0xC2 or first > 0xF4 or i + width > end:
        return _BROKEN, 1
    code = first & (0x7F >> width)
    for k in range(1, width):
        byte = np.int64(data[i + k])
        if byte & 0xC0 != 0x80:
            return _BROKEN, 1
        code = code << 6 | (byte & 0x3F)
    return int(code), width


@_jit
def _clean_rows(
    data: Bytes, offsets: Ints, table: Bytes, max_word_chars: int, drop_url_lines: bool, out: Bytes
) -> tuple[Ints, NDArray[np.uint32]]:
    """Clean every row into `out`; counts are [url_lines, long_words, invisible_chars, space_chars] x rows."""
    rows = len(offsets) - 1
    out_offsets, counts = np.zeros(rows + 1, np.int64), np.zeros((4, rows), np.uint32)
    longest = np.int64(0)
    for row in range(rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    visible = np.empty(longest, np.uint8)
    for row in range(rows):
        size, invisible, white = _drop_invisible(data, offsets[row], offsets[row + 1], table, visible)
        at = out_offsets[row]
        end, urls, long_words = _keep_lines(visible, size, table, max_word_chars, drop_url_lines, out, at)
        for i in range(at, end):
            white -= out[i] == 0x20 or out[i] == 0x0A
        out_offsets[row + 1] = end
        counts[0, row], counts[1, row], counts[2, row], counts[3, row] = urls, long_words, invisible, white
    return out_offsets, counts


@_jit
def _drop_invisible(data: Bytes, start: int, end: int, table: Bytes, out: Bytes) -> tuple[int, int, int]:
    """Copy what can be seen, with spaces as 0x20 and line ends as 0x0A: bytes written, invisible and white characters."""
    o = invisible = white = 0
    before, code_before = np.uint8(0), 0  # the last character kept
    after, after_at = np.uint8(0), -1  # the next one that is seen; found once, so that runs cost nothing more
    i = start
    while i < end:
        code, width = _decode(data, i, end)
        flags = _flags(table, code)
        if flags & (_SPACE | _LINE):
            white += 1
            if not (code == 0x0D and i + 1 < end and data[i + 1] == 0x0A):
                out[o] = 0x0A if flags & _LINE else 0x20
                o += 1
            before, code_before = flags, code
        else:
            keep = not flags & _INVISIBLE
            if flags & _JOINER:
                if after_at <= i:
                    after, after_at = _next_seen(data, i, end, table)
                keep = not before & _JOINER and (
                    (before | after) & _JOINING != 0 or (code == _ZWJ and before & after & _EMOJI != 0)
                )
            elif flags & _TAG:
                keep = before & _TAG != 0 or code_before == _BLACK_FLAG
            if keep:
                for k in range(width):
                    out[o + k] = data[i + k]
                o += width
                before, code_before = flags, code
            else:
                invisible += 1
        i += width
    return o, invisible, white


@_jit
def _next_seen(data: Bytes, i: int, end: int, table: Bytes) -> tuple[np.uint8, int]:
    """Flags and place of the first character from `i` on that is neither invisible nor a joiner."""
    while i < end:
        code, width = _decode(data, i, end)
        flags = _flags(table, code)
        if not flags & (_INVISIBLE | _JOINER):
            return flags, i
        i += width
    return np.uint8(0), end


@_jit
def _keep_lines(
    text: Bytes, size: int, table: Bytes, max_word_chars: int, drop_url_lines: bool, out: Bytes, at: int
) -> tuple[int, int, int]:
    """Write the lines that stay to `out` from `at` on: end, lines of addresses, over-long words."""
    o, newlines, url_lines, long_words = at, 0, 0, 0
    start = 0
    while start < size:
        stop = start
        while stop < size and text[stop] != 0x0A:
            stop += 1
        first = o + min(newlines, 2) if o > at else o
        end, urls, others, long_urls, long_others = _keep_words(text, start, stop, table, max_word_chars, out, first)
        long_words += long_others
        # Judged after the cut, so that cleaning twice finds nothing new.
        if drop_url_lines and others == 0 and (urls > 0 or (long_urls > 0 and long_others == 0)):
            url_lines += 1
        else:
            long_words += long_urls
            if end > first:
                out[o:first] = 0x0A
                o, newlines = end, 1
            elif long_urls + long_others == 0:
                newlines += 1
        start = stop + 1
    return o, url_lines, long_words


@_jit
def _keep_words(
    text: Bytes, i: int, stop: int, table: Bytes, max_word_chars: int, out: Bytes, first: int
) -> tuple[int, int, int, int, int]:
    """Write one line without over-long words: end, addresses and other pieces kept, addresses and others cut."""
    o, urls, others, long_urls, long_others = first, 0, 0, 0, 0
    start, space = i, False
    while i < stop:
        if text[i] == 0x20:
            space = o > first
            i += 1
            continue
        begin, chars = i, 0
        i, chars = _stretch(text, i, stop, table)
        whole = (begin == start or text[begin - 1] == 0x20) and (i == stop or text[i] == 0x20)
        is_url = chars > 0 and whole and _is_url(text, begin, i)
        if chars > max_word_chars:
            long_urls += is_url
            long_others += not is_url
            continue
        if chars == 0:
            i += _decode(text, i, stop)[1]
        urls += is_url
        others += not is_url
        if space:
            out[o] = 0x20
            o += 1
            space = False
        for k in range(begin, i):
            out[o] = text[k]
            o += 1
    return o, urls, others, long_urls, long_others


@_jit
def _stretch(text: Bytes, i: int, stop: int, table: Bytes) -> tuple[int, int]:
    """End and characters of the stretch from `i` on that has neither spaces nor characters of unspaced scripts."""
    chars = 0
    while i < stop and text[i] != 0x20:
        code, width = _decode(text, i, stop)
        if code >= 0x80 and _flags(table, code) & _UNSPACED:
            break
        i += width
        chars += 1
    return i, chars


_HTTP, _FTP, _WWW = (np.frombuffer(prefix, np.uint8) for prefix in (b"http", b"ftp://", b"www."))
_AFTER_HTTP = np.frombuffer(b"://", np.uint8)


@_jit
def _is_url(text: Bytes, i: int, stop: int) -> bool:
    """Whether a word is an address: http, https, ftp or www., perhaps in brackets or quotes."""
    if text[i] == 0x3C or text[i] == 0x28 or text[i] == 0x5B or text[i] == 0x22 or text[i] == 0x27:
        i += 1
    if _starts(text, i, stop, _HTTP):
        i += len(_HTTP)
        i += i < stop and text[i] | 0x20 == 0x73
        return _starts(text, i, stop, _AFTER_HTTP) and i + len(_AFTER_HTTP) < stop
    if _starts(text, i, stop, _FTP):
        return i + len(_FTP) < stop
    return _starts(text, i, stop, _WWW) and i + len(_WWW) < stop and text[i + len(_WWW)] != 0x2E


@_jit
def _starts(text: Bytes, i: int, stop: int, prefix: Bytes) -> bool:
    """Whether the lower-case ASCII `prefix` stands at `i`, in any case."""
    if stop - i < len(prefix):
        return False
    for k in range(len(prefix)):
        byte = text[i + k]
        if byte != prefix[k] and not (0x41 <= byte <= 0x5A and byte + 0x20 == prefix[k]):
            return False
    return True


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


def _fold_class(code: int, category: str) -> int:
    """How `tokenize` treats one character of the first two planes, before its mapping."""
    if code == _TATWEEL or category == "Cf":
        return _DROP
    if category[0] == "M":
        return _DROP if _within(code, _DIACRITICS + _POINTS + _VARIANTS) else _MARK
    if category[0] == "L" or category in ("Nl", "No"):
        return _ALONE if _within(code, _UNSPACED_RANGES) else _LETTER
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
    classes, at = np.zeros(_TABLE_SIZE, np.uint8), np.zeros(_TABLE_SIZE, np.int32)
    lengths, pool = np.zeros(_TABLE_SIZE, np.uint8), bytearray()
    for code in range(_TABLE_SIZE):
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
    data, offsets = _utf8(texts)
    affected = pa.array(_rows_with(data, offsets, _nfkc_table()))
    changed = pc.utf8_normalize(texts.filter(affected), form="NFKC")
    return pc.replace_with_mask(texts, affected, changed) if len(changed) else texts


@lru_cache(maxsize=1)
def _nfkc_table() -> NDArray[np.bool_]:
    """Characters that NFKC may change to something that is more than another gap; 0.1 s, once a process."""
    classes = _fold_tables()[0]
    table = np.zeros(_TABLE_SIZE, np.bool_)
    for code in range(0x80, _TABLE_SIZE):
        char = chr(code)
        # Marks may move or join the letter before, and so may the vowels and finals of Hangul.
        moves = unicodedata.category(char)[0] == "M" or 0x1160 <= code <= 0x11FF
        composed = unicodedata.normalize("NFKC", char)
        table[code] = moves or (composed != char and any(classes[ord(c)] != _GAP for c in char + composed))
    return table


@_jit
def _rows_with(data: Bytes, offsets: Ints, table: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The rows that have a character of `table`, or one past its end."""
    found = np.zeros(len(offsets) - 1, np.bool_)
    for row in range(len(found)):
        i, end = offsets[row], offsets[row + 1]
        while i < end and not found[row]:
            code, width = _decode(data, i, end)
            found[row] = code >= len(table) or table[code]
            i += width
    return found


@_jit
def _fold_class_of(classes: Bytes, code: int) -> int:
    if code < _TABLE_SIZE:
        return classes[code]  # type: ignore[no-any-return]
    if code < 0x40000:
        return _ALONE
    return _DROP if 0xE0000 <= code <= 0xE0FFF else _GAP


@_jit
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
            code, width = _decode(data, i, end)
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


@_jit
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
