"""Toxic texts as numbers, by adopted lists of words and adopted fastText models; no gate reads them unless one is written.

Off unless a recipe names `toxicity.lists`: no list that we may hand on is right for every corpus, and words alone condemn
the talk of those whom they insult (Dodge et al. 2021, on C4's list). A list is a file of one word or phrase a line; a model
is one of fastText's that knows the label, as dolma's for hate speech are.
"""

import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_validator
from pydantic import Field as Plain

from polylm.kernels import minhash
from polylm.kernels.words import Spans, segment
from polylm.tasks.corpus.identify import load_model
from polylm.tasks.corpus.language import batches_by_language
from polylm.tasks.documents.urls import list_lines
from polylm.tasks.run import File
from polylm.tasks.stage import Columns, Field, Params, Rows, StageError, measure

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
_SPLIT_BY_SPACE = ("ko", "vi")  # whose words hold the punctuation beside them: here they are cut as in other languages
_DOTLESS = ("tr", "az")  # whose capital of ı is I, and of i is İ
_FOLDS = {"\u00df": "ss", "\u03c2": "\u03c3", "\u017f": "s", "\u2019": "'", "\uff07": "'"}
_SHOWN_ENTRIES = 20
_AS_SPACES = np.arange(256, dtype=np.uint8)
_AS_SPACES[[9, 10, 13]] = 32  # tab and line ends: within a phrase as good as a space


class ToxicityList(BaseModel):
    """What tells toxic texts in one language."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    language: str = Plain(pattern="^[a-z]+$", description="Whose texts it is for, as they are labelled.")
    kind: Literal["words", "model"] = Plain("words", description="Words and phrases, one a line; or a fastText model.")
    label: str = Plain("__label__toxic", description="Of a model: the label whose probability is the score.")
    file: File = Plain(description="The adopted file, by name and digest.")


class ToxicityParams(Params):
    lists: tuple[ToxicityList, ...] = Field((), description="At most one list of words and one model a language.")

    @field_validator("lists")
    @classmethod
    def _are_one_each(cls, lists: tuple[ToxicityList, ...]) -> tuple[ToxicityList, ...]:
        named = [(one.language, one.kind) for one in lists]
        if twice := [pair for place, pair in enumerate(named) if pair in named[:place]]:
            raise ValueError(f"there are two of the kind {twice[0][1]} for {twice[0][0]}: make them one file")
        return lists


@measure(
    reads=["text", "language"],
    writes={"toxic_words": pa.uint32(), "toxic_found": pa.string(), "toxicity": pa.float32()},
    version=3,
    libraries=["rjieba", "nlpo3", "mecab-python3", "ipadic", "unicodedata", "fasttext-modern", "pyarrow"],
)
def measure_toxicity(rows: Rows, params: ToxicityParams, *lists: Path) -> Columns:
    """Count the words and phrases of every text that are on its language's list, and ask its language's model.

    `toxic_found` is a JSON object of the entries found and how often, the most frequent first, of no more than 20; null for none.
    An entry counts wherever it stands between bounds of words, in any case; one within another counts too; a word with
    something glued to it (Korean particles, German compounds) is another word. Null where the language has no list, or no
    model. Memory: 1 MiB of text, and 40 times that for its words.
    """
    if len(lists) != len(params.lists):
        raise StageError(f"measure_toxicity: {len(params.lists)} lists in its params, {len(lists)} adopted files")
    files = {(one.language, one.kind): (one, str(path)) for one, path in zip(params.lists, lists, strict=True)}
    count = len(rows["text"])
    words, scores = np.full(count, np.nan), np.full(count, np.nan)
    shown: dict[int, str] = {}
    for language, places, texts in batches_by_language(rows["text"], rows["language"]):
        if (language, "words") in files:
            found = load_words(files[language, "words"][1], language).find(texts)
            words[places] = [entries.total() for entries in found]
            shown |= {int(place): _shown(entries) for place, entries in zip(places, found, strict=True) if entries}
        if (language, "model") in files:
            one, path = files[language, "model"]
            scores[places] = _probabilities(path, one.label, texts)
    missing = np.isnan(words)
    return {
        "toxic_words": pa.array(np.where(missing, 0, words).astype(np.uint32), mask=missing),
        "toxic_found": pa.array([shown.get(row) for row in range(count)], pa.string()),
        "toxicity": pa.array(np.round(scores, 4).astype(np.float32), mask=np.isnan(scores)),
    }


@dataclass(frozen=True)
class WordList:
    """Entries by the hash of their bytes; only stretches of words that are as long as some entry are compared."""

    language: str
    hashes: NDArray[np.uint64]  # in order
    is_length: Bools  # whether an entry has so many bytes

    def find(self, texts: pa.Array) -> list[Counter[str]]:
        """The entries that stand in each text, as they are compared, and how often."""
        spans = _words(texts, self.language)
        owners = np.repeat(np.arange(len(texts)), np.diff(spans.firsts))
        found: list[Counter[str]] = [Counter() for _ in range(len(texts))]
        for words in range(len(spans.starts)):
            first, last = slice(0, len(owners) - words), slice(words, None)
            starts, stops = spans.starts[first], spans.stops[last]
            fits = (owners[first] == owners[last]) & (stops - starts < len(self.is_length))
            if not fits.any():  # nor does any longer stretch
                break
            starts, stops, of = starts[fits], stops[fits], owners[first][fits]
            like = np.flatnonzero(self.is_length[stops - starts])
            listed = like[self._has(_hashes(spans.data, starts[like], stops[like]))]
            for place in listed.tolist():
                found[of[place]][bytes(spans.data[starts[place] : stops[place]]).decode()] += 1
        return found

    def _has(self, hashes: NDArray[np.uint64]) -> Bools:
        places = np.searchsorted(self.hashes, hashes)  # np.isin would sort the text's
        return np.asarray(self.hashes[np.minimum(places, len(self.hashes) - 1)] == hashes)


@lru_cache(maxsize=32)  # once a process
def load_words(path: str, language: str) -> WordList:
    """The entries of a list; ValueError names the line that is no word or phrase."""
    file = Path(path)
    lines = list(list_lines(file))
    if not lines:
        raise ValueError(f"{file.name}: expected a word or phrase a line, found none")
    entries = pa.array([" ".join(said.split()) for _, said in lines], pa.string())
    spans = _words(entries, language)
    stops = np.cumsum(pc.binary_length(_folded(entries, language)).to_numpy())
    starts = np.concatenate([[0], stops[:-1]])
    for place, (number, said) in enumerate(lines):
        own = slice(spans.firsts[place], spans.firsts[place + 1])
        is_words = [*spans.starts[own][:1], *spans.stops[own][-1:]] == [starts[place], stops[place]]
        if not (is_words and _says_something(said)):
            raise ValueError(f"{file.name}, line {number}: expected a word or phrase, found {said[:60]!r}")
    lengths = stops - starts
    is_length = np.isin(np.arange(lengths.max() + 1), lengths)
    return WordList(language, np.unique(_hashes(spans.data, starts, stops)), is_length)


def _shown(entries: Counter[str]) -> str:
    return orjson.dumps(dict(entries.most_common(_SHOWN_ENTRIES))).decode()


def _says_something(line: str) -> bool:
    """A letter, digit or sign such as an emoji is in it, and no tab: the lines of a table would match nothing."""
    return "\t" not in line and any(unicodedata.category(character)[0] in "LNS" for character in line)


def _words(texts: pa.Array, language: str) -> Spans:
    """Words in any case and either way of writing an accent; within them white space of any kind is a space."""
    spans = segment(_folded(texts, language), "" if language in _SPLIT_BY_SPACE else language)
    return replace(spans, data=_AS_SPACES[spans.data])


def _folded(texts: pa.Array, language: str) -> pa.Array:
    """Texts without cases, in Turkish by its own letters; ß is ss, ς is σ, and an apostrophe is one in any form."""
    # Not NFKC, which takes Thai vowels apart before they are segmented.
    texts = pc.utf8_normalize(texts, "NFC")
    if language in _DOTLESS:
        texts = pc.replace_substring(pc.replace_substring(texts, "I", "\u0131"), "\u0130", "i")
    texts = pc.utf8_lower(texts)
    for letter, folded in _FOLDS.items():
        texts = pc.replace_substring(texts, letter, folded)
    # The apostrophe that is a letter, at the end of a word too: there it stays, as what is no letter would not be of the word.
    return pc.replace_substring_regex(texts, r"(\pL)\x{02bc}(\pL)", r"\1'\2")


def _hashes(data: NDArray[np.uint8], starts: NDArray[Any], stops: NDArray[Any]) -> NDArray[np.uint64]:
    return minhash.xxh64(data, starts.astype(np.int64), stops.astype(np.int64))


def _probabilities(model: str, label: str, texts: pa.Array) -> Floats:
    """The label's probability for each text as one line; NaN for a text without words."""
    fasttext = load_model(model)
    if label not in (known := fasttext.get_labels()):
        raise ValueError(f"{Path(model).name} has no label {label}; it has {', '.join(known[:10])}")
    lines = [" ".join(text.split()) for text in texts.to_pylist()]
    found = ({name: score for score, name in fasttext.f.predict(f"{line}\n", -1, 0.0, "strict")} for line in lines)
    scores = [min(1.0, scores.get(label, 0.0)) if scores else np.nan for scores in found]
    return np.array(scores, np.float64)
