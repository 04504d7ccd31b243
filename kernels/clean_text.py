"""`clean`: what a reader would call the same text, by a compiled kernel over Arrow's UTF-8 buffers.

Standard white space, nothing invisible, no lines that are only an address, no over-long words (PolyLM, section 3.1: the
line-wise rules). It depends on the Unicode version of Python, so a stage that calls it names `unicodedata` in its key.
"""

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polylm.kernels.utf8 import (
    TABLE_SIZE,
    UNSPACED_RANGES,
    Bytes,
    Ints,
    decode,
    jit,
    string_array,
    utf8_buffers,
    within,
)

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
    data, offsets = utf8_buffers(texts)
    out = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
    out_offsets, counts = _clean_rows(data, offsets, _clean_table(), max_word_chars, drop_url_lines, out)
    emptied = out_offsets[1:] == out_offsets[:-1]
    return CleanResult(string_array(out, out_offsets, emptied, texts.type), *counts)


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
    if category == "Cf" and not within(code, _VISIBLE_FORMATS):
        return int(_INVISIBLE)
    flags = _UNSPACED * within(code, UNSPACED_RANGES) + _EMOJI * within(code, _EMOJI_RANGES)
    return int(flags + _JOINING * (category[0] in "LM" and within(code, _JOINING_RANGES)))


@lru_cache(maxsize=1)
def _clean_table() -> Bytes:
    """The flags of the first two planes; 0.3 s, once a process."""
    return np.array([_clean_flags(code, unicodedata.category(chr(code))) for code in range(TABLE_SIZE)], np.uint8)


@jit
def _flags(table: Bytes, code: int) -> np.uint8:
    if code < TABLE_SIZE:
        return table[code]  # type: ignore[no-any-return]
    if 0xE0020 <= code <= 0xE007F:
        return _TAG
    if code & 0xFFFE == 0xFFFE or 0xE0000 <= code < 0xE0100 or 0xE01F0 <= code <= 0xE0FFF:
        return _INVISIBLE
    return _UNSPACED if code < 0x40000 else np.uint8(0)


@jit
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


@jit
def _drop_invisible(data: Bytes, start: int, end: int, table: Bytes, out: Bytes) -> tuple[int, int, int]:
    """Copy what can be seen, with spaces as 0x20 and line ends as 0x0A: bytes written, invisible and white characters."""
    o = invisible = white = 0
    before, code_before = np.uint8(0), 0  # the last character kept
    after, after_at = np.uint8(0), -1  # the next one that is seen; found once, so that runs cost nothing more
    i = start
    while i < end:
        code, width = decode(data, i, end)
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


@jit
def _next_seen(data: Bytes, i: int, end: int, table: Bytes) -> tuple[np.uint8, int]:
    """Flags and place of the first character from `i` on that is neither invisible nor a joiner."""
    while i < end:
        code, width = decode(data, i, end)
        flags = _flags(table, code)
        if not flags & (_INVISIBLE | _JOINER):
            return flags, i
        i += width
    return np.uint8(0), end


@jit
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


@jit
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
            i += decode(text, i, stop)[1]
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


@jit
def _stretch(text: Bytes, i: int, stop: int, table: Bytes) -> tuple[int, int]:
    """End and characters of the stretch from `i` on that has neither spaces nor characters of unspaced scripts."""
    chars = 0
    while i < stop and text[i] != 0x20:
        code, width = decode(text, i, stop)
        if code >= 0x80 and _flags(table, code) & _UNSPACED:
            break
        i += width
        chars += 1
    return i, chars


_HTTP, _FTP, _WWW = (np.frombuffer(prefix, np.uint8) for prefix in (b"http", b"ftp://", b"www."))
_AFTER_HTTP = np.frombuffer(b"://", np.uint8)


@jit
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


@jit
def _starts(text: Bytes, i: int, stop: int, prefix: Bytes) -> bool:
    """Whether the lower-case ASCII `prefix` stands at `i`, in any case."""
    if stop - i < len(prefix):
        return False
    for k in range(len(prefix)):
        byte = text[i + k]
        if byte != prefix[k] and not (0x41 <= byte <= 0x5A and byte + 0x20 == prefix[k]):
            return False
    return True
