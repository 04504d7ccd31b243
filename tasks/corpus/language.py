"""Which language a document is in, how sure the model is, and who may stay."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polylm.kernels import normalize
from polylm.tasks.rules import Rules, at_least, lookup, one_of
from polylm.tasks.stage import Columns, Corpus, Field, NoParams, Params, Rows, files, gate, measure

LANGUAGES = ("en", "zh", "es", "fr", "de", "ru", "pt", "it", "ar", "ja", "ko", "th", "vi", "id", "pl", "nl", "tr", "he")
UNDETERMINED = "und"
Counts: TypeAlias = NDArray[np.int64]
Likeliest: TypeAlias = tuple[str | None, float | None, str | None, float | None]
BATCH_BYTES = 1 << 20  # of text that a kernel sees at once
SCORE_STEPS = 10_000  # scores are rounded to 4 decimals, so this histogram loses nothing


class LanguageParams(Params):
    chars: int = Field(
        1_000, ge=1, description="Characters that the model sees.", source="5 times faster than whole texts"
    )


class WantedParams(Params):
    languages: tuple[str, ...] = Field(
        LANGUAGES, min_length=1, description="Labels that may stay.", source="PolyLM, table 2"
    )


class FloorParams(Params):
    lowest: float = Field(0.3, ge=0, le=1, description="No floor is below.", source="FineWeb2 (arXiv 2506.20920)")
    highest: float = Field(0.9, ge=0, le=1, description="No floor is above.", source="FineWeb2 (arXiv 2506.20920)")


@measure(
    reads=["text"],
    writes={
        "language": pa.dictionary(pa.int16(), pa.string()),
        "confidence": pa.float32(),
        "runner_up": pa.dictionary(pa.int16(), pa.string()),
        "runner_up_confidence": pa.float32(),
    },
    version=1,
    libraries=["fasttext-modern"],
)
def identify_language(rows: Rows, params: LanguageParams, model: Path) -> Columns:
    """Label every document with the two likeliest languages of a fastText model (lid.176 by default).

    A text that the model has no answer for is `und` (undetermined, ISO 639-2), with confidence 0: only a document without text
    has no label. Memory: 1 MiB of text as Python's strings.
    """
    predict = load_model(str(model)).f.predict
    found = [
        two_likeliest(predict, text, params.chars)
        for texts in normalize.row_batches(rows["text"], BATCH_BYTES)
        for text in texts.to_pylist()
    ]
    labels, scores, seconds, second_scores = zip(*found, strict=True) if found else ((),) * 4
    return {
        "language": _labels(labels),
        "confidence": pa.array(scores, pa.float32()),
        "runner_up": _labels(seconds),
        "runner_up_confidence": pa.array(second_scores, pa.float32()),
    }


@gate(reads=["language"])
def want_languages(rows: Rows, params: WantedParams) -> Rules:
    """Reject documents in languages that the recipe does not want; how sure the label is does not matter yet."""
    return {"unwanted_language": one_of(rows["language"], params.languages)}


@files(
    reads=["language", "confidence"],
    writes={"language": pa.string(), "documents": pa.int64(), "median": pa.float64(), "floor": pa.float64()},
    cheap=True,
)
def fit_language_floors(corpus: Corpus, params: FloorParams) -> pa.Table:
    """Fit each language's lowest confidence as FineWeb2 does: clip(median - standard deviation, 0.3, 0.9).

    From integer histograms, so that the order of parts cannot change a digit. Memory: 80 kB a language.
    """
    counts: dict[str, Counts] = {}
    for rows in corpus:
        for label, histogram in _histograms(rows).items():
            counts[label] = counts.get(label, 0) + histogram
    fitted = [(label, *_floor(counts[label], params)) for label in sorted(counts)]
    names = ["language", "documents", "median", "floor"]
    return pa.table({name: [row[i] for row in fitted] for i, name in enumerate(names)})


@gate(reads=["language", "confidence"])
def keep_sure(rows: Rows, params: NoParams, floors: pa.Table) -> Rules:
    """Reject documents whose language is less sure than their language's floor."""
    table = dict(zip(floors["language"].to_pylist(), floors["floor"].to_pylist(), strict=True))
    return {"unsure_language": at_least(rows["confidence"], lookup(rows["language"], table))}


def places_by_language(labels: pa.Array) -> dict[str, NDArray[np.int64]]:
    """The rows of each language, in order; those without one are in none."""
    encoded = labels if isinstance(labels, pa.DictionaryArray) else labels.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    found = ((name, np.flatnonzero(codes == code)) for code, name in enumerate(encoded.dictionary.to_pylist()))
    return {name: places for name, places in found if len(places)}


def batches_by_language(texts: pa.Array, labels: pa.Array) -> Iterator[tuple[str, NDArray[np.int64], pa.Array]]:
    """(language, rows, their texts) for every row that has a language, at most `BATCH_BYTES` of text or one row at a time.

    What a kernel needs for its tokens is 10 to 40 times the text, so a stage that takes a part whole would need gigabytes.
    """
    for language, places in places_by_language(labels).items():
        begin = 0
        for batch in normalize.row_batches(texts.take(pa.array(places)), BATCH_BYTES):
            yield language, places[begin : begin + len(batch)], batch
            begin += len(batch)


@lru_cache(maxsize=2)
def load_model(path: str) -> Any:
    import fasttext  # costs a second, and only workers of this stage need it

    return fasttext.load_model(path)


def two_likeliest(predict: Any, text: str | None, chars: int) -> Likeliest:
    """The labels and confidences of the two likeliest languages of the first `chars` characters; all None for no text."""
    if text is None:
        return None, None, None, None
    found = predict(fasttext_line(text[:chars]), 2, 0.0, "strict")
    pairs = [(label.removeprefix("__label__"), min(float(score), 1.0)) for score, label in found]
    first, second = ([*pairs, (None, None), (None, None)])[:2] if pairs else ((UNDETERMINED, 0.0), (None, None))
    return *first, *second


def fasttext_line(text: str) -> str:
    """A text as one line of fastText's: a newline or its token `</s>` would end it there, unseen."""
    return text.replace("\n", " ").replace("</s>", " ") + "\n"


def _labels(values: Sequence[str | None]) -> pa.DictionaryArray:
    return pa.array(values, pa.string()).dictionary_encode().cast(pa.dictionary(pa.int16(), pa.string()))


def _histograms(rows: Rows) -> dict[str, Counts]:
    """Counts of confidence in steps of 1/10,000, by language."""
    labels = rows["language"].dictionary.to_pylist()
    codes = rows["language"].indices.fill_null(len(labels)).to_numpy(zero_copy_only=False).astype(np.int64)
    steps = np.rint(rows["confidence"].fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64) * SCORE_STEPS)
    table = np.zeros((len(labels) + 1, SCORE_STEPS + 1), np.int64)
    np.add.at(table, (codes, steps.astype(np.int64)), 1)
    return {label: table[code] for code, label in enumerate(labels) if table[code].any()}


def _floor(histogram: Counts, params: FloorParams) -> Sequence[float | int]:
    scores = np.arange(SCORE_STEPS + 1) / SCORE_STEPS
    count = int(histogram.sum())
    ends = np.cumsum(histogram)
    low, high = np.searchsorted(ends, [(count + 1) // 2, count // 2 + 1])
    median = float(scores[low] + scores[high]) / 2
    mean = float(histogram @ scores) / count
    deviation = float(np.sqrt(histogram @ (scores - mean) ** 2 / count))
    return count, round(median, 4), round(min(max(median - deviation, params.lowest), params.highest), 4)
