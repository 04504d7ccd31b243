"""From texts to their likeliest languages: fastText, and what it does not know of scripts, points and close pairs."""

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from polylm.kernels.scripts import POINTS, SCRIPTS, Letters, count_letters
from polylm.kernels.unicode_classes import code_points
from polylm.tasks.corpus.close_languages import MANY_KANA, Evidence, fitted, is_close, log_odds
from polylm.tasks.corpus.labels import parse_label

UNDETERMINED = "und"  # ISO 639-2
NO_LIMIT = 1 << 62
ROWS = 4_096  # of which letters are counted at once
MORE = 8  # labels that are looked at where the first two will not do

Likeliest = tuple[str | None, float | None, str | None, float | None]
Guess = tuple[str, float]  # a language and how likely it is
Predict = Callable[[str, int, float, str], Sequence[tuple[float, str]]]


class Found(NamedTuple):
    """What a text was found to be in."""

    language: str
    confidence: float
    runner_up: str | None
    runner_up_confidence: float | None
    script: str | None  # of most letters, by ISO 15924, Jpan for Han with kana; None where there are no letters
    script_share: float  # of the letters


def identify(predict: Predict, texts: pa.Array, chars: int, sure: float, whole: int) -> list[Found]:
    """The languages of texts (no nulls) by their first `chars` characters; by `whole` where that is not `sure`.

    Memory: the texts as Python's strings, 2 kB a row for `ROWS` rows, and 40 bytes a character of the longest one seen.
    """
    starts = range(0, len(texts), ROWS)
    return [one for start in starts for one in _identify(predict, texts.slice(start, ROWS), chars, sure, whole)]


def fasttext_line(text: str) -> str:
    """A text as one line of fastText's: a newline or its token `</s>` would end it there, unseen."""
    return text.replace("\n", " ").replace("</s>", " ") + "\n"


@lru_cache(maxsize=2)
def load_model(path: str | Path) -> Any:
    import fasttext  # costs a second, and only workers of this stage need it

    return fasttext.load_model(str(path))


def two_likeliest(predict: Predict, text: str | None, chars: int) -> Likeliest:
    """The labels and confidences of the two likeliest languages of the first `chars` characters; all None for no text."""
    if text is None:
        return None, None, None, None
    return _read(predict, pa.array([text[:chars]], pa.string()))[0][:4]


def _identify(predict: Predict, texts: pa.Array, chars: int, sure: float, whole: int) -> list[Found]:
    found = _read(predict, pc.utf8_slice_codeunits(texts, 0, chars))
    doubted = pa.array([row for row, one in enumerate(found) if one.confidence < sure], pa.int64())
    if len(doubted):
        again = doubted.filter(pc.greater(pc.utf8_length(texts.take(doubted)), chars))
        longer = pc.utf8_slice_codeunits(texts.take(again), 0, whole)
        for row, one in zip(again.to_pylist(), _read(predict, longer), strict=True):
            found[row] = one
    return found


def _read(predict: Predict, texts: pa.Array) -> list[Found]:
    letters = count_letters(texts, NO_LIMIT)
    lines = _lines(texts, letters)
    totals = letters.scripts.sum(axis=1).tolist()
    found = []
    for line, own, total, script in zip(lines, letters.scripts, totals, _scripts(letters.scripts), strict=True):
        if total:
            (language, score), *rest = _guesses(predict, line, own, total, _OWN.get(script[0], script[0]))
            second, other = rest[0] if rest else (None, None)
            found.append(Found(language, score, second, other, *script))
        else:
            found.append(_NOTHING)
    return found


def _scripts(letters: NDArray[np.uint32]) -> list[tuple[str, float]]:
    """The script of most letters of every row, and how many of them; kana and the Han beside it are Japanese."""
    kana, han = letters[:, _KANA].sum(axis=1), letters[:, _HAN]
    japanese = np.where(kana >= np.maximum(1, MANY_KANA * (kana + han)), kana + han, 0)
    others = letters.copy()
    others[np.ix_(japanese > 0, _columns(_JAPANESE))] = 0
    every = np.column_stack([others, japanese])
    main = every.argmax(axis=1)
    shares = every[np.arange(len(main)), main] / np.maximum(1, every.sum(axis=1))
    return [(_NAMES[place], share) for place, share in zip(main.tolist(), shares.tolist(), strict=True)]


def _lines(texts: pa.Array, letters: Letters) -> list[str]:
    """The texts as the model is to see them: one line, composed (NFC), without points, and not all in capitals."""
    lines = texts.to_pylist()
    for row in np.flatnonzero(letters.accents):
        lines[row] = unicodedata.normalize("NFC", lines[row])
    for row in np.flatnonzero(letters.points):
        lines[row] = _POINTS.sub("", lines[row])
    cased = letters.scripts[:, _CASED].sum(axis=1)
    for row in np.flatnonzero(2 * letters.upper > cased):
        lines[row] = lines[row].lower()
    return [fasttext_line(line) for line in lines]


def _guesses(predict: Predict, line: str, letters: NDArray[np.uint32], total: int, script: str) -> list[Guess]:
    """The likeliest languages, likeliest first; `und` alone where none is written in the text's letters."""
    found = predict(line, 2, 0.0, "strict")
    labels = [parse_label(label) for _, label in found]
    distinct = len(labels) == 2 and labels[0].language != labels[1].language
    # That the script of most letters is the label's is the cheap answer, and nearly always the answer.
    if distinct and (script in labels[0].scripts or _fits(labels[0].scripts, letters, total)):
        guesses = [(label.language, min(score, 1.0)) for label, (score, _) in zip(labels, found, strict=True)]
    else:
        guesses = _written(predict(line, MORE, 0.0, "strict"), letters, total)
    if len(guesses) > 1 and guesses[1][1] >= _SLIGHT and is_close(guesses[0][0], guesses[1][0]):
        guesses[:2] = _weighed(guesses[0], guesses[1], _evidence(line, letters))
    return guesses or [(UNDETERMINED, 0.0)]


def _written(found: Sequence[tuple[float, str]], letters: NDArray[np.uint32], total: int) -> list[Guess]:
    """The languages that may be written in such letters; labels of one language together."""
    scores: dict[str, float] = {}
    for score, name in found:
        label = parse_label(name)
        if _fits(label.scripts, letters, total):
            scores[label.language] = min(1.0, scores.get(label.language, 0.0) + score)
    return sorted(scores.items(), key=lambda guess: -guess[1])


def _fits(scripts: frozenset[str], letters: NDArray[np.uint32], total: int) -> bool:
    return not scripts or int(letters[_columns(scripts)].sum()) >= fitted()["script_share"] * total


def _weighed(first: Guess, second: Guess, evidence: Evidence) -> list[Guess]:
    """Two close languages after the evidence: their sum stays, the model's odds are multiplied by the evidence's."""
    (a, score_a), (b, score_b) = first, second
    odds = math.log(score_a / max(score_b, 1e-6)) + log_odds(a, b, evidence)
    share = 1 / (1 + math.exp(-min(50.0, max(-50.0, odds))))
    both = min(1.0, score_a + score_b)
    return sorted([(a, both * share), (b, both * (1 - share))], key=lambda guess: -guess[1])


def _evidence(line: str, letters: NDArray[np.uint32]) -> Evidence:
    han, kana = int(letters[_HAN]), sum(letters[_KANA].tolist())
    return Evidence(line, han, kana)


@cache
def _columns(scripts: frozenset[str]) -> NDArray[np.int64]:
    return np.array([SCRIPTS.index(name) for name in sorted(scripts) if name in SCRIPTS], np.int64)


_NOTHING = Found(UNDETERMINED, 0.0, None, None, None, 0.0)
_NAMES = (*SCRIPTS, "Jpan")
_OWN = {"Jpan": "Hira"}  # the script that labels have
_SLIGHT = 0.005  # a runner-up below is not worth a second look
_POINTS = re.compile("[" + "".join(map(chr, code_points(POINTS))) + "]+")
_CASED = _columns(frozenset({"Latn", "Cyrl", "Grek", "Armn"}))
_HAN = SCRIPTS.index("Hani")
_JAPANESE = frozenset({"Hani", "Hira", "Kana"})
_KANA = _columns(frozenset({"Hira", "Kana"}))
