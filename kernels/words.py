"""Words as byte spans of UTF-8 text: an own state machine where words are spaced, segmenters where they are not.

Korean and Vietnamese words are what stands between white space (eojeol and syllables). Chinese, Thai and Japanese go
through rjieba, nlpo3 and MeCab, whose Python lists and strings are the limit there (about 16, 11 and 8 MB/s a core;
the state machine does hundreds).
"""

import functools
import hashlib
import importlib.metadata
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit, types
from numpy.typing import NDArray

from polylm.kernels.unicode_classes import FORMAT, JOINER, SPACE, WORD, Bytes, decode, flags_of, tables

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]

# Read-only on purpose: Arrow's buffers are, and a second signature would compile everything twice.
U8 = types.Array(types.uint8, 1, "C", readonly=True)
U16 = types.Array(types.uint16, 1, "C", readonly=True)
I32 = types.Array(types.int32, 1, "C", readonly=True)
I64 = types.Array(types.int64, 1, "C", readonly=True)
OUT32 = types.Array(types.int32, 1, "C")
OUT64 = types.Array(types.int64, 1, "C")

THAI_WORDS = Path(__file__).with_name("data") / "words_th.txt"

# Marks that stay inside a word when a letter or digit follows: ' , . @ _ and the typographic apostrophe; but in English,
# where spaCy splits at them, hyphens, slashes, brackets, gershayim and most others, too. FineWeb2's thresholds rest on
# spaCy's words: with the long list the verdict is that on its words for 205 (de), 211 (nl) and 215 (pt) of 220 real
# documents, with the short one for 179, 200 and 205; for 216 in English with the short one, 215 with the long one.
_JOINERS = "27 2c 2e 40 5f 2019"
_JOINERS_BUT_ENGLISH = " 22 24-26 28-2b 2d 2f 3a-3d 5b-5e 60 7b-7e 2013 5f3 5f4"

MAX_PIECE = 10_000  # characters shown to a segmenter at once: MeCab's lattice and nlpo3's graph grow with it


@dataclass(frozen=True)
class Spans:
    """The words of consecutive documents.

    Word i is `data[starts[i]:stops[i]]`; those of document d are `firsts[d] <= i < firsts[d + 1]`.
    """

    data: Bytes
    starts: Int32s
    stops: Int32s
    firsts: Int64s


def segment(texts: pa.Array, language: str) -> Spans:
    """The words of every text, by the segmenter of `language`; a language not known here is taken as spaced.

    Words never hold white space at their ends and come in the order of the text; offsets count from the first byte of
    the first text. Memory is 8 bytes a word, 8 bytes a text byte for the moment in spaced languages (mostly untouched
    pages), and the Python strings elsewhere, so pass slices of some megabytes.
    """
    data, offsets = text_buffers(texts)
    if language in _SEGMENTERS:
        return _SEGMENTERS[language](texts, data, offsets)
    starts, stops, firsts = _span_arrays(len(data), len(texts))
    kernel = _segment_by_space if language in _BY_SPACE else _segment_spaced
    joiners = _JOINERS if language == "en" else _JOINERS + _JOINERS_BUT_ENGLISH
    count = kernel(data, offsets, *tables(joiners), starts, stops, firsts)
    return Spans(data, starts[:count].copy(), stops[:count].copy(), firsts)


def versions(language: str) -> dict[str, str]:
    """The libraries (and word list) whose version changes the words of `language`."""
    named = {name: importlib.metadata.version(name) for name in _LIBRARIES.get(language, ())}
    if language == "th":
        named["words_th"] = hashlib.sha256(THAI_WORDS.read_bytes()).hexdigest()[:16]
    return {"unicode": unicodedata.unidata_version, **named}


def text_buffers(texts: pa.Array) -> tuple[Bytes, Int64s]:
    """The UTF-8 bytes of a string array and where each text starts in them, slices included; nothing is copied.

    Text d is `data[offsets[d]:offsets[d + 1]]`. The array has no nulls and holds under 2 GiB.
    """
    assert texts.null_count == 0, "texts hold nulls"
    assert texts.type in (pa.string(), pa.large_string()), f"texts are {texts.type}, not string or large_string"
    if not len(texts):
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    width = np.int32 if texts.type == pa.string() else np.int64
    _, places, values = texts.buffers()
    offsets = np.frombuffer(places, width)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    everything = np.empty(0, np.uint8) if values is None else np.frombuffer(values, np.uint8)
    data = everything[offsets[0] : offsets[-1]]
    assert len(data) < 2**31, f"texts hold {len(data)} bytes, over 2 GiB: pass slices"
    return data, offsets - offsets[0]


def _span_arrays(words: int, documents: int) -> tuple[Int32s, Int32s, Int64s]:
    return np.empty(words, np.int32), np.empty(words, np.int32), np.zeros(documents + 1, np.int64)


@njit(inline="always")
def _end_of_word(data: Any, at: int, end: int, blocks: Any, flags: Any) -> int:
    while at < end:
        point, width = np.int64(data[at]), 1
        if point >= 128:
            point, width = decode(data, at)
        kind = flags_of(point, blocks, flags)
        if kind & (JOINER | FORMAT):
            if at + width >= end:
                return at
            point, _ = decode(data, at + width)
            kind = flags_of(point, blocks, flags)
        if not kind & WORD:
            return at
        at += width
    return at


@njit(inline="always")
def _end_of_run(data: Any, at: int, end: int, point: int) -> int:
    while at < end:
        following, width = decode(data, at)
        if following != point:
            return at
        at += width
    return at


@njit([types.int64(U8, I64, U16, U8, OUT32, OUT32, OUT64)], cache=True, nogil=True)
def _segment_spaced(data: Any, offsets: Any, blocks: Any, flags: Any, starts: Any, stops: Any, firsts: Any) -> int:
    """Letters, marks and digits make a word, with joiners between them; each run of another character is a word too.

    Runs, because one word a mark inflates the count by 2 to 16 % against spaCy, which datatrove's thresholds rest on.
    """
    count = 0
    for document in range(len(offsets) - 1):
        at, end = offsets[document], offsets[document + 1]
        while at < end:
            point, width = decode(data, at)
            kind = flags_of(point, blocks, flags)
            start = at
            at += width
            if kind & (SPACE | FORMAT):
                continue
            at = _end_of_word(data, at, end, blocks, flags) if kind & WORD else _end_of_run(data, at, end, point)
            starts[count], stops[count] = start, at
            count += 1
        firsts[document + 1] = count
    return count


@njit([types.int64(U8, I64, U16, U8, OUT32, OUT32, OUT64)], cache=True, nogil=True)
def _segment_by_space(data: Any, offsets: Any, blocks: Any, flags: Any, starts: Any, stops: Any, firsts: Any) -> int:
    """What stands between white space."""
    count = 0
    for document in range(len(offsets) - 1):
        at, end = offsets[document], offsets[document + 1]
        inside = False
        while at < end:
            point, width = decode(data, at)
            space = flags_of(point, blocks, flags) & SPACE != 0
            if inside and space:
                stops[count - 1] = at
            elif not inside and not space:
                starts[count] = at
                count += 1
            inside = not space
            at += width
        if inside:
            stops[count - 1] = end
        firsts[document + 1] = count
    return count


def _segment_tokens(cut: Callable[[str], list[str]], texts: pa.Array, data: Bytes, offsets: Int64s) -> Spans:
    """Spans of tokens that join to the text: their lengths are enough to walk it."""
    tokens: list[list[str]] = []
    for text in texts.to_pylist():
        pieces = [cut(piece) for piece in _pieces(text)]
        # nlpo3 1.4.0 with safe=True gives tokens of the right total length that are not the text.
        assert "".join(chain.from_iterable(pieces)) == text, f"{cut} returned tokens that do not join to {text[:60]!r}"
        tokens += pieces
    count = sum(map(len, tokens))
    lengths = np.fromiter(map(len, chain.from_iterable(tokens)), np.int32, count)
    starts, stops, firsts = _span_arrays(count, len(texts))
    count = _walk_tokens(data, offsets, lengths, *tables(), starts, stops, firsts)
    return Spans(data, starts[:count], stops[:count], firsts)


def _pieces(text: str) -> Iterator[str]:
    """Consecutive pieces of at most MAX_PIECE characters, cut behind the last line or space that fits, else hard."""
    at = 0
    while len(text) - at > MAX_PIECE:
        cut = max(text.rfind("\n", at, at + MAX_PIECE), text.rfind(" ", at + MAX_PIECE // 2, at + MAX_PIECE))
        cut = cut + 1 if cut >= 0 else at + MAX_PIECE
        yield text[at:cut]
        at = cut
    if at < len(text):
        yield text[at:]


@njit([types.int64(U8, I64, I32, U16, U8, OUT32, OUT32, OUT64)], cache=True, nogil=True)
def _walk_tokens(
    data: Any, offsets: Any, lengths: Any, blocks: Any, flags: Any, starts: Any, stops: Any, firsts: Any
) -> int:
    """Byte spans from token lengths in code points; white space at a token's ends is left out, and tokens of it."""
    count, token = 0, 0
    for document in range(len(offsets) - 1):
        at, end = offsets[document], offsets[document + 1]
        while at < end:
            start, stop = np.int64(-1), np.int64(-1)
            for _ in range(lengths[token]):
                point, width = decode(data, at)
                if not flags_of(point, blocks, flags) & SPACE:
                    if start < 0:
                        start = at
                    stop = at + width
                at += width
            token += 1
            if start >= 0:
                starts[count], stops[count] = start, stop
                count += 1
        firsts[document + 1] = count
    return count


def _segment_japanese(texts: pa.Array, data: Bytes, offsets: Int64s) -> Spans:
    """Spans of MeCab's words, whose output is walked beside the text: it drops the white space of ASCII only."""
    parse = _mecab().parse
    # A NUL would end the C string that MeCab reads, and the rest of the piece would be lost.
    lines = [[parse(piece.replace("\0", " ")).encode() for piece in _pieces(text)] for text in texts.to_pylist()]
    written = [b"".join(parts) for parts in lines]
    places = np.zeros(len(written) + 1, np.int64)
    np.cumsum([len(parts) for parts in written], out=places[1:])
    output = np.frombuffer(b"".join(written), np.uint8)
    starts, stops, firsts = _span_arrays(len(output) // 2 + 1, len(texts))
    count = _walk_wakati(data, offsets, output, places, *tables(), starts, stops, firsts)
    assert count >= 0, "MeCab returned other characters than the text's"
    return Spans(data, starts[:count].copy(), stops[:count].copy(), firsts)


@njit([types.int64(U8, I64, U8, I64, U16, U8, OUT32, OUT32, OUT64)], cache=True, nogil=True)
def _walk_wakati(
    data: Any, offsets: Any, output: Any, places: Any, blocks: Any, flags: Any, starts: Any, stops: Any, firsts: Any
) -> int:
    """Byte spans of the words that a space or newline ends in `output`; -1 where output and text part ways."""
    count = 0
    for document in range(len(offsets) - 1):
        at, end = offsets[document], offsets[document + 1]
        start, stop = np.int64(-1), np.int64(-1)
        for place in range(places[document], places[document + 1]):
            byte = output[place]
            if byte == 32 or byte == 10:
                if start >= 0:
                    starts[count], stops[count] = start, stop
                    count += 1
                start = np.int64(-1)
                continue
            while at < end and data[at] != byte and (data[at] == 32 or 9 <= data[at] <= 13 or data[at] == 0):
                at += 1
            if at >= end or data[at] != byte:
                return -1
            if byte & 0xC0 != 0x80:  # a continuation byte belongs to the character before it
                point, width = decode(data, at)
                if not flags_of(point, blocks, flags) & SPACE:
                    start = at if start < 0 else start
                    stop = at + width
            at += 1
        firsts[document + 1] = count
    return count


def _mecab() -> Any:
    # Only where Japanese is segmented: dictionaries cost 50 MB and other languages' workers do without. Made anew for
    # every call, which costs 0.3 ms: it maps its dictionary, and is the only one of the three that gives it back.
    import ipadic
    import MeCab

    return MeCab.Tagger(f"{ipadic.MECAB_ARGS} -Owakati")


def _segment_chinese(texts: pa.Array, data: Bytes, offsets: Int64s) -> Spans:
    import rjieba  # loads its dictionary

    return _segment_tokens(rjieba.cut, texts, data, offsets)


def _segment_thai(texts: pa.Array, data: Bytes, offsets: Int64s) -> Spans:
    return _segment_tokens(_thai_cut(), texts, data, offsets)


@functools.cache
def _thai_cut() -> Callable[[str], list[str]]:
    import nlpo3  # loads the word list

    nlpo3.load_dict(str(THAI_WORDS), "words_th")
    return lambda text: nlpo3.segment(text, "words_th", safe=False, parallel=False)


_SEGMENTERS: dict[str, Callable[[pa.Array, Bytes, Int64s], Spans]] = {
    "ja": _segment_japanese,
    "th": _segment_thai,
    "zh": _segment_chinese,
}
_BY_SPACE = ("ko", "vi")
_LIBRARIES = {"ja": ("mecab-python3", "ipadic"), "th": ("nlpo3",), "zh": ("rjieba",)}
