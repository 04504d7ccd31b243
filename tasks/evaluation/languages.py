"""The languages of the evaluation: their English names, their texts in the committed data, how BLEU cuts them."""

import gzip
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

DATA = Path(__file__).resolve().parent / "data"
Item = TypeVar("Item")


@dataclass(frozen=True)
class Language:
    """One of the paper's 18 languages."""

    code: str
    name: str  # in English, as the paper's prompts say it
    udhr: tuple[str, ...]  # codes of its translations in the committed data; the first is the one to translate
    bleu: str = "13a"  # sacrebleu's tokenizer
    spaced: bool = True  # words are set apart by spaces


# BLEU's default tokenizer leaves a Chinese, Japanese or Thai sentence as one word. Thai goes by characters, because
# sacrebleu's flores200 tokenizer fetches its model from the network.
_ALL = (
    Language("en", "English", ("eng",)),
    Language("zh", "Chinese", ("cmn_hans", "cmn_hant"), bleu="zh", spaced=False),
    Language("es", "Spanish", ("spa",)),
    Language("fr", "French", ("fra",)),
    Language("de", "German", ("deu_1996",)),
    Language("ru", "Russian", ("rus",)),
    Language("pt", "Portuguese", ("por_BR", "por_PT")),
    Language("it", "Italian", ("ita",)),
    Language("ar", "Arabic", ("arb",)),
    Language("ja", "Japanese", ("jpn",), bleu="ja-mecab", spaced=False),
    Language("ko", "Korean", ("kor",), bleu="ko-mecab"),
    Language("th", "Thai", ("tha",), bleu="char", spaced=False),
    Language("vi", "Vietnamese", ("vie",)),
    Language("id", "Indonesian", ("ind",)),
    Language("pl", "Polish", ("pol",)),
    Language("nl", "Dutch", ("nld",)),
    Language("tr", "Turkish", ("tur",)),
    Language("he", "Hebrew", ("heb",)),
)
LANGUAGES = {language.code: language for language in _ALL}


class EvaluationError(ValueError):
    """The evaluation was asked for something that its data or models do not have."""


def find_language(code: str) -> Language:
    if code not in LANGUAGES:
        raise EvaluationError(f"language {code!r}: evaluation texts exist for {', '.join(LANGUAGES)}")
    return LANGUAGES[code]


@dataclass(frozen=True)
class Paragraph:
    """One paragraph of the Universal Declaration of Human Rights."""

    article: int  # 0 is the preamble
    index: int
    text: str

    @property
    def place(self) -> tuple[int, int]:
        """Of what it is a translation, the same in all languages."""
        return self.article, self.index


def udhr_paragraphs(code: str) -> list[Paragraph]:
    """The paragraphs of one translation, in order; `code` is one of `Language.udhr`.

    In Unicode's composed form (NFC): the file's Vietnamese is decomposed, as hardly any training text is, and a
    byte 5-gram gave it 6.1 bits per byte instead of 2.2.
    """
    rows = [row for row in read_rows("udhr.jsonl.gz") if row["code"] == code]
    return [Paragraph(row["article"], row["i"], unicodedata.normalize("NFC", row["text"].strip())) for row in rows]


def held_out_paragraphs(language: str) -> list[Paragraph]:
    """All held-out paragraphs of a language: of Chinese both scripts, of Portuguese both sides of the ocean."""
    return [paragraph for code in find_language(language).udhr for paragraph in udhr_paragraphs(code)]


def held_out_texts(language: str) -> list[str]:
    return [paragraph.text for paragraph in held_out_paragraphs(language)]


def aligned_paragraphs() -> dict[str, list[str]]:
    """For each language the paragraphs that all translations have, in one order: 48, articles 1 to 30.

    The preamble is left out: its paragraphs have the same numbers but, in Japanese, Thai and Vietnamese, other content.
    """
    tables = {
        code: {(p.article, p.index): p.text for p in udhr_paragraphs(language.udhr[0]) if p.article > 0}
        for code, language in LANGUAGES.items()
    }
    common = sorted(set.intersection(*(set(table) for table in tables.values())))
    return {code: [table[place] for place in common] for code, table in tables.items()}


def read_rows(name: str) -> list[dict[str, Any]]:
    """The rows of a committed gzipped JSON-lines file of evaluation data."""
    with gzip.open(DATA / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def spread(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` items, evenly spaced, so that a short run still sees the whole set."""
    if limit >= len(items):
        return list(items)
    return [items[place * len(items) // limit] for place in range(limit)]
