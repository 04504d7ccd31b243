"""Evidence that tells close languages apart where a model alone does not: kana, spellings, letters, four-grams.

Every rule gives the log odds of one language over another, to be added to the model's own log odds (Bayes' rule). Numbers
are in `data/close_languages.json`, fitted by `benchmarks/language_fit.py` on web-like text and documentation of the 18
languages, never on UDHR or FLORES. For a rival without text of its own there (Malay, Galician, Cantonese, ...) one side
is fitted: how far the model leans towards the rival on text that is known not to be it.
"""

import functools
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What rules look at: the text that the model saw, and how many of its letters are Han and kana."""

    text: str
    han: int = 0
    kana: int = 0


Rule = Callable[[Evidence], float]


@functools.cache
def fitted() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_TABLES.read_text("utf-8"))
    return found


def log_odds(first: str, second: str, evidence: Evidence) -> float:
    """How much more likely the evidence makes `first` than `second`; 0 for languages that no rule tells apart."""
    if rule := _RULES.get((first, second)):
        return rule(evidence)
    if rule := _RULES.get((second, first)):
        return -rule(evidence)
    return 0.0


def is_close(first: str, second: str) -> bool:
    return (first, second) in _RULES or (second, first) in _RULES


def kana_class(evidence: Evidence) -> tuple[int, int]:
    """Which cell of the table of kana: none, some or a Japanese share of them; and how many Han and kana letters."""
    letters = evidence.han + evidence.kana
    share = 0 if not evidence.kana else 1 if evidence.kana < MANY_KANA * letters else 2
    return share, min(len(KANA_BUCKETS) - 1, max(0, letters.bit_length() - 2))


def grams(text: str) -> list[str]:
    """Every four characters in a row, one space standing for all that is no letter; of the first `GRAM_CHARS`."""
    plain = _NOT_LETTERS.sub(" ", f" {text[:GRAM_CHARS].lower()} ")
    return [plain[at : at + 4] for at in range(len(plain) - 3)]


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


MANY_KANA = 0.1  # of Han and kana letters: Japanese prose has four times as many, Chinese at most a quoted word
KANA_BUCKETS = ("to 3", "4-7", "8-15", "16-31", "32-63", "64-127", "from 128")
GRAM_CHARS = 300  # enough to decide, and the price does not grow with the text

CANTONESE = "嘅咗喺冇佢唔啲嗰嚟哋嘢嗮咁乜嘥睇攞揾俾噉嘞㗎喎咩啱"


def _kana(evidence: Evidence) -> float:
    share, letters = kana_class(evidence)
    return float(fitted()["kana"][share][letters])


def _malay(evidence: Evidence) -> float:
    table = fitted()["malay"]["words"]
    return _lean("id", "ms") + float(sum(table.get(word, 0) for word in set(words(evidence.text))))


def _cantonese(evidence: Evidence) -> float:
    """Its own characters are one in ten of Cantonese prose, and in no other text but as quotations."""
    share = len(_CANTONESE.findall(evidence.text)) / max(1, evidence.han)
    return _STRONG if share >= fitted()["cantonese_share"] else -_STRONG if evidence.han >= 10 else _lean("zh", "yue")


def _spanish(evidence: Evidence) -> float:
    table = fitted()["spanish_portuguese"]
    total = sum(table["grams"].get(gram, 0) for gram in grams(evidence.text))
    return float(min(_STRONG, max(-_STRONG, table["weight"] * total)))


def _persian(evidence: Evidence) -> float:
    """One letter in ten of Persian, Mazanderani or Urdu is one that Arabic lacks; a name may bring one into Arabic."""
    own = len(_PERSIAN.findall(evidence.text))
    letters = len(_ARABIC.findall(evidence.text)) or 1
    return _STRONG if own >= 0.02 * letters else -letters * _NONE_IN_20


def _lean(own: str, rival: str) -> float:
    """How far the model leans towards the rival on nearly all text in `own`, as log odds; negative."""
    return -float(fitted()["leans"].get(f"{own} {rival}", 0.0))


def _leaning(rival: str, own: str) -> Rule:
    return lambda evidence: _lean(own, rival)


_STRONG = math.log(1_000)
_NONE_IN_20 = -math.log(0.95)
_TABLES = Path(__file__).with_name("data") / "close_languages.json"
_NOT_LETTERS = re.compile(r"[\W\d_]+")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_CANTONESE = re.compile(f"[{CANTONESE}]")
_PERSIAN = re.compile("[پچژگکیےٹڈڑں]")
_ARABIC = re.compile("[ء-ي]")

LEANINGS: tuple[Pair, ...] = (
    ("id", "ms"), ("pt", "gl"), ("es", "gl"), ("es", "ca"), ("es", "ast"), ("it", "ca"), ("fr", "ca"), ("zh", "wuu"),
    ("zh", "yue"), ("ar", "arz"), ("he", "yi"), ("nl", "af"), ("de", "als"), ("ru", "uk"), ("tr", "az"), ("pl", "cs"),
)  # fmt: skip
"""(language, rival): the leans that are fitted."""
_RULES: dict[Pair, Rule] = {
    **{(rival, own): _leaning(rival, own) for own, rival in LEANINGS},
    ("ja", "zh"): _kana,
    ("ja", "yue"): _kana,
    ("ja", "wuu"): _kana,
    ("ms", "id"): _malay,
    ("yue", "zh"): _cantonese,
    ("es", "pt"): _spanish,
    ("fa", "ar"): _persian,
    ("mzn", "ar"): _persian,
    ("ps", "ar"): _persian,
    ("ur", "ar"): _persian,
}
