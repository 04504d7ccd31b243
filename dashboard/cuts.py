"""What `clean` cut of a text, and which of its lines a rule counts: asked of the very functions, a line at a time."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from polylm.kernels import clean_text, text_statistics
from polylm.tasks.documents.clean import CleanParams

LINE_COUNTS = {  # by rule, the count of `text_statistics` that an offending line raises
    "dup_line_frac": "duplicate_lines",
    "dup_line_char_frac": "duplicate_line_chars",
    "dup_para_frac": "duplicate_paragraphs",
    "dup_para_char_frac": "duplicate_paragraph_chars",
    "char_dup_ratio": "duplicate_nonblank_line_chars",
    "short_line_ratio": "short_lines",
    "gopher_too_many_hashes": "hashes",
    "gopher_too_many_ellipsis": "ellipses",
    "gopher_too_many_bullets": "bullet_lines",
    "gopher_too_many_end_ellipsis": "ellipsis_lines",
    **{f"duplicated_{n}_n_grams": f"duplicate_{n}_gram_chars" for n in range(5, 11)},
}
MOST_MEASURED = 4_000_000  # bytes: every line is measured with all before it, which goes as the square of the lines
_LINE_ENDS = re.compile("(\r\n|[\n\x0b\x0c\r\x85\u2028\u2029])")
_SPACES = re.compile(r"(\s+)")


@dataclass(frozen=True)
class Piece:
    """A stretch of a text as it was read; `cut`: "" where it stayed, else why `clean` took it."""

    text: str
    cut: str = ""
    marks: tuple[str, ...] = ()  # of a line: the rules that count it
    note: str = ""  # what else is to be said of it: repaired, or a stand-in


def pieces(raw: str, params: CleanParams) -> list[Piece]:
    """A text as it was read, in pieces that stayed and pieces that were cut; white space that went is left out."""
    ends = _LINE_ENDS.split(raw)
    lines, breaks = ends[::2], [*("\n" for _ in ends[1::2]), ""]
    cleaned = _clean(lines, params)
    found: list[Piece] = []
    for place, (line, after) in enumerate(zip(lines, breaks, strict=True)):
        found += _of_line(line, cleaned, place, params)
        if after:
            found.append(Piece(after))
    return _joined(found)


def left_of(text: str, params: CleanParams) -> str:
    """What the rules for lines and words leave of a text."""
    return _clean([text], params).texts[0].as_py() or ""


def counted_lines(text: str, language: str, stop_words: Sequence[str], rules: Sequence[str]) -> dict[int, list[str]]:
    """Which lines of a cleaned text raise what a rule counts, by number of the line; nothing for texts too long for it.

    Every line is measured with all that stand before it: what its count is more than theirs is the line's own.
    """
    wanted = {rule: LINE_COUNTS[rule] for rule in rules if rule in LINE_COUNTS}
    lines = text.split("\n")
    if not wanted or len(text.encode()) * len(lines) > 2 * MOST_MEASURED:
        return {}
    begun = pa.array(["\n".join(lines[: number + 1]) for number in range(len(lines))], pa.string())
    counts = text_statistics.measure_language(begun, language, list(stop_words))
    found: dict[int, list[str]] = {}
    for rule, name in wanted.items():
        for number in np.flatnonzero(np.diff(counts[name].astype(np.int64), prepend=0) > 0).tolist():
            if lines[number].strip():
                found.setdefault(number, []).append(rule)
    return found


def marked(shown: Sequence[Piece], text: str, counted: Mapping[int, Sequence[str]]) -> list[Piece]:
    """The pieces with the lines marked that rules count; as they were where they do not spell the cleaned text."""
    if not counted or not agrees(shown, text):
        return list(shown)
    filled = iter([number for number, line in enumerate(text.split("\n")) if line.strip()])
    found: list[Piece] = []
    for line in lines_of(shown):
        stays = any(piece.text.strip() for piece in line if not piece.cut)
        rules = tuple(counted.get(next(filled), ())) if stays else ()
        found += [piece if piece.cut or not piece.text.strip() else replace(piece, marks=rules) for piece in line]
    return found


def agrees(shown: Sequence[Piece], text: str | None) -> bool:
    """Whether what stayed is the cleaned text, but for white space."""
    return "".join(piece.text for piece in shown if not piece.cut).split() == (text or "").split()


def lines_of(shown: Sequence[Piece]) -> Iterator[list[Piece]]:
    """The pieces of each line, its end with it."""
    line: list[Piece] = []
    for piece in shown:
        for text in re.findall(r"[^\n]*\n|[^\n]+", piece.text):
            line.append(replace(piece, text=text))
            if text.endswith("\n"):
                yield line
                line = []
    if line:
        yield line


def _of_line(line: str, cleaned: clean_text.CleanResult, place: int, params: CleanParams) -> Iterator[Piece]:
    """One line: whole where nothing went, one piece where all of it did, else word by word."""
    left = cleaned.texts[place].as_py() or ""
    if cleaned.url_lines[place]:
        yield Piece(line, "a line of addresses only")
    elif cleaned.long_words[place]:
        words = _SPACES.split(line)
        by_word = _clean(words, params)
        for number, word in enumerate(words):
            if word.isspace() or not by_word.long_words[number]:
                yield from _characters(word, by_word.texts[number].as_py() or (" " if word.isspace() else ""))
            else:
                yield from _around(word, by_word.texts[number].as_py() or "")
    else:
        yield from _characters(line, left)


def _around(word: str, left: str) -> Iterator[Piece]:
    """An over-long word, with what stays on both sides of it in scripts without spaces."""
    begin = next((at for at, (a, b) in enumerate(zip(word, left, strict=False)) if a != b), len(left))
    end = len(word) - (len(left) - begin)
    for text, cut in ((word[:begin], ""), (word[begin:end], "an over-long word"), (word[end:], "")):
        if text:
            yield Piece(text, cut)


def _characters(line: str, left: str) -> Iterator[Piece]:
    """A line of which only invisible characters and white space went: what is left is in it, in order."""
    if line == left:
        yield Piece(line)
        return
    at = 0
    for character in line:
        if at < len(left) and (character == left[at] or (character.isspace() and left[at] == " ")):
            yield Piece(left[at])
            at += 1
        elif not character.isspace():
            yield Piece(character, "invisible characters")


def _clean(texts: Sequence[str], params: CleanParams) -> clean_text.CleanResult:
    return clean_text.clean(
        pa.array(texts, pa.string()), max_word_chars=params.max_word_chars, drop_url_lines=params.drop_url_lines
    )


def _joined(found: Sequence[Piece]) -> list[Piece]:
    """Neighbours of one kind in one; of blank lines in a row, two stay."""
    grouped: list[tuple[str, list[str]]] = []
    for piece in found:
        if grouped and grouped[-1][0] == piece.cut:
            grouped[-1][1].append(piece.text)
        else:
            grouped.append((piece.cut, [piece.text]))
    return [Piece(re.sub(r"\n{3,}", "\n\n", "".join(texts)), cut) for cut, texts in grouped]
