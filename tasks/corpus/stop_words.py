"""Stop words of languages that nobody published any for, from the corpus's own clean text."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from polylm.kernels import utf8
from polylm.kernels.words import segment
from polylm.tasks.corpus.language import BATCH_BYTES, places_by_language
from polylm.tasks.corpus.rule_sets import rule_set
from polylm.tasks.corpus.text import StatisticsParams
from polylm.tasks.documents.schema import REFERENCE
from polylm.tasks.stage import Corpus, Field, Params, Rows, files

STOP_WORDS = {"language": pa.string(), "word": pa.string(), "share": pa.float64()}


class StopWordParams(Params):
    languages: tuple[str, ...] = Field(
        (), description="Languages to fit; the flow adds wanted ones without a list.", source="ours"
    )
    reference_kinds: tuple[str, ...] = Field(
        (REFERENCE, "doc", "book"),
        description="Kinds of documents that read well: all of sources whose role it is, and these.",
        source="ours, as for the quality models",
    )
    min_share: float = Field(
        0.008,
        gt=0,
        lt=1,
        description="Least share of all words.",
        source="FineWeb2 (arXiv 2506.20920), reported as 0.8 %",
    )
    min_words: int = Field(
        8, ge=1, description="The commonest that are taken anyway.", source="FineWeb2's shortest lists"
    )
    min_reference_bytes: int = Field(20_000, ge=1, description="With less there are none.", unit="bytes", source="ours")
    max_reference_bytes: int = Field(
        8_000_000,
        ge=1,
        description="Of a language, in the order of parts; the rest is not read.",
        unit="bytes",
        source="ours",
    )

    def for_wanted(self, wanted: tuple[str, ...], statistics: StatisticsParams) -> "StopWordParams":
        """The same for all wanted languages that nobody published stop words of, too."""
        missing = [language for language in wanted if language not in statistics.stop_words]
        return self.model_copy(update={"languages": tuple(dict.fromkeys([*self.languages, *missing]))})


@files(
    reads=["text", "language", "kind"],
    writes=STOP_WORDS,
    cheap=True,
    version=1,
    libraries=["rjieba", "nlpo3", "mecab-python3", "ipadic", "unicodedata"],
)
def fit_stop_words(corpus: Corpus, params: StopWordParams) -> pa.Table:
    """Take the commonest words of each language's clean text as its stop words, for languages without a published list.

    Words of letters only, counted as the rules will; English ones are left out of other languages, as FineWeb2 does.
    Where no language is asked for, nothing is read. Memory: one part, and the distinct words of `max_reference_bytes`.
    """
    words: dict[str, Counter[str]] = {language: Counter() for language in params.languages}
    sizes = dict.fromkeys(params.languages, 0)
    for rows in corpus if params.languages else ():
        for language in params.languages:
            for texts in _reference_texts(rows, language, params.reference_kinds):
                if sizes[language] < params.max_reference_bytes:
                    sizes[language] += texts.nbytes
                    words[language].update(_words(texts, language))
        if min(sizes.values()) >= params.max_reference_bytes:
            break
    found = [
        (language, word, round(share, 6))
        for language, counts in words.items()
        if sizes[language] >= params.min_reference_bytes
        for word, share in _commonest(counts, params)
    ]
    return pa.table(
        {name: [row[at] for row in found] for at, name in enumerate(STOP_WORDS)}, pa.schema(list(STOP_WORDS.items()))
    )


def _reference_texts(rows: Rows, language: str, kinds: tuple[str, ...]) -> Iterator[pa.Array]:
    wanted = np.zeros(len(rows["text"]), np.bool_)
    wanted[places_by_language(rows["language"]).get(language, [])] = True
    wanted &= np.isin(np.asarray(rows["kind"].fill_null("")), kinds) & np.asarray(rows["text"].is_valid())
    yield from utf8.row_batches(rows["text"].filter(pa.array(wanted)), BATCH_BYTES)


def _words(texts: pa.Array, language: str) -> list[str]:
    spans = segment(texts, language)
    return [bytes(spans.data[a:b]).decode() for a, b in zip(spans.starts.tolist(), spans.stops.tolist(), strict=True)]


def _commonest(counts: Counter[str], params: StopWordParams) -> list[tuple[str, float]]:
    """Words of letters and marks with their shares, the commonest first."""
    total, english = sum(counts.values()), set(rule_set("fineweb", "en").stop_words)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    shares = [(word, count / total) for word, count in ordered if _is_word(word) and word not in english]
    return [pair for place, pair in enumerate(shares) if place < params.min_words or pair[1] >= params.min_share]


def _is_word(word: str) -> bool:
    """Letters, with the marks that many scripts write vowels as."""
    return any(map(str.isalpha, word)) and not any(c.isdecimal() or c.isspace() or c in ".,'@_-/" for c in word)
