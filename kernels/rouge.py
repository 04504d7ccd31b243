"""ROUGE-L between short texts of any script: exact, and fast enough to compare each new task with a whole pool.

ROUGE-L (Lin 2004) with equal weights is F = 2 LCS(a, b) / (|a| + |b|), where LCS is the length of the longest common
subsequence of tokens. The Indel distance is |a| + |b| - 2 LCS, so with one code point for each distinct token RapidFuzz's
bit-parallel Indel on strings gives the same number at about a thousandth of the price of the Python table of `rouge_score`.

`rouge_score` itself keeps only [a-z0-9]: it finds no token at all in Thai, Arabic or Japanese and calls identical texts
unlike. Here a text without tokens is an error, never a similarity of 0.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import regex
from rapidfuzz import process
from rapidfuzz.distance import Indel

CHARACTER_LANGUAGES = frozenset({"zh", "ja", "th", "ko", "lo", "km", "my", "yue", "wuu", "bo"})
"""Languages compared by grapheme cluster: those written without spaces, and Korean, whose words carry their particles
and whose grapheme clusters are its syllables (the same split as multilingual ROUGE in XL-Sum)."""

_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:['’״׳][\p{L}\p{M}\p{N}]+)*")
_GRAPHEME = regex.compile(r"(?=[\p{L}\p{N}])\X")
_SURROGATES = range(0xD800, 0xE000)


class Match(NamedTuple):
    """The nearest text of a pool: its place in order of addition, and its ROUGE-L F in [0, 1]."""

    place: int
    similarity: float


def rouge_tokens(text: str, language: str) -> list[str]:
    """Cut a text into the tokens that ROUGE-L counts: words, or characters in `CHARACTER_LANGUAGES`.

    Letters and digits only, after NFKC and case folding, so that neither punctuation nor full-width forms hide a copy.
    The list is empty for a text without letters or digits.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    pattern = _GRAPHEME if language in CHARACTER_LANGUAGES else _WORD
    tokens: list[str] = pattern.findall(folded)
    return tokens


def rouge_l(left: Sequence[str], right: Sequence[str]) -> float:
    """ROUGE-L F of two token lists, in [0, 1]; a ValueError if one of them is empty."""
    codes = _Codes()
    return _f_measure(codes.text(left), codes.text(right))


class RougePool:
    """Token lists to which new ones are compared, in order of addition.

    Memory: one string of `len(tokens)` code points a text. Price: about 0.1 us a pair of short texts.
    """

    def __init__(self, texts: Iterable[Sequence[str]] = ()) -> None:
        self._codes = _Codes()
        self._texts: list[str] = []
        for tokens in texts:
            self.add(tokens)

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, tokens: Sequence[str]) -> None:
        """Put one more token list into the pool; a ValueError if it is empty."""
        self._texts.append(self._codes.text(tokens))

    def nearest(self, tokens: Sequence[str], *, at_least: float = 0.0) -> Match | None:
        """The most similar text whose F is `at_least` so much, the first of equals; None if there is none."""
        text = self._codes.text(tokens)
        # A hair below the limit, because RapidFuzz cuts off in floating point; the limit itself is judged on exact counts.
        found = process.extractOne(
            text,
            self._texts,
            scorer=Indel.normalized_similarity,
            processor=None,
            score_cutoff=max(0.0, at_least - 1e-6),
        )
        if found is None:
            return None
        similarity = _f_measure(text, found[0])
        return Match(found[2], similarity) if similarity >= at_least else None


class _Codes:
    """A code point for each distinct token, in order of appearance."""

    def __init__(self) -> None:
        self._codes: dict[str, str] = {}

    def text(self, tokens: Sequence[str]) -> str:
        if not tokens:
            raise ValueError("ROUGE-L of a text without tokens is undefined; expected at least one letter or digit")
        return "".join([self._code(token) for token in tokens])

    def _code(self, token: str) -> str:
        code = self._codes.get(token)
        if code is None:
            place = len(self._codes)
            # Surrogates are no characters; about 1.1 million distinct tokens fit round them.
            code = chr(place if place < _SURROGATES.start else place + len(_SURROGATES))
            self._codes[token] = code
        return code


def _f_measure(left: str, right: str) -> float:
    """2 LCS / (|a| + |b|) from whole numbers, so that a limit such as 0.7 is met exactly at 7 of 10."""
    total = len(left) + len(right)
    return (total - Indel.distance(left, right)) / total
