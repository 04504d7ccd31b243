"""Which language a document is in, how sure the model is, and who may stay."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

import numpy as np
import pyarrow as pa
import pydantic
from numpy.typing import NDArray

from polylm.kernels import utf8
from polylm.tasks.corpus.identify import UNDETERMINED as UNDETERMINED
from polylm.tasks.corpus.identify import Found, identify
from polylm.tasks.corpus.identify import fasttext_line as fasttext_line
from polylm.tasks.corpus.identify import load_model as load_model
from polylm.tasks.corpus.identify import two_likeliest as two_likeliest
from polylm.tasks.corpus.labels import checked_codes
from polylm.tasks.rules import Rules, at_least, lookup, one_of
from polylm.tasks.stage import Columns, Corpus, Field, NoParams, Params, Rows, files, gate, measure

LANGUAGES = ("en", "zh", "es", "fr", "de", "ru", "pt", "it", "ar", "ja", "ko", "th", "vi", "id", "pl", "nl", "tr", "he")
Counts: TypeAlias = NDArray[np.int64]
BATCH_BYTES = 1 << 20  # of text that a kernel sees at once
SCORE_STEPS = 10_000  # scores are rounded to 4 decimals, so this histogram loses nothing
_LABEL = pa.dictionary(pa.int16(), pa.string())
_WRITES = {
    "language": _LABEL,
    "confidence": pa.float32(),
    "runner_up": _LABEL,
    "runner_up_confidence": pa.float32(),
    "script": _LABEL,
    "script_share": pa.float32(),
}


class LanguageParams(Params):
    chars: int = Field(
        1_000, ge=1, description="Characters that the model sees first.", source="5 times faster than whole texts"
    )
    sure: float = Field(
        0.5, ge=0, le=1, description="Below it the model sees the whole text; 0: never.", source="CCNet's floor"
    )
    whole_chars: int = Field(
        1_000_000, ge=1, description="Characters that stand for the whole text.", source="fastText takes 40 bytes each"
    )


class WantedParams(Params):
    languages: tuple[str, ...] = Field(
        LANGUAGES, min_length=1, description="Labels that may stay.", source="PolyLM, table 2"
    )

    @pydantic.field_validator("languages")
    @classmethod
    def _are_codes(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        checked_codes(languages)
        return languages


class FloorParams(Params):
    lowest: float = Field(0.3, ge=0, le=1, description="No floor is below.", source="FineWeb2 (arXiv 2506.20920)")
    highest: float = Field(0.9, ge=0, le=1, description="No floor is above.", source="FineWeb2 (arXiv 2506.20920)")
    kind: Literal["adaptive", "fixed"] = Field(
        "adaptive", description="From each language's own confidences, or one for all.", source="FineWeb2; CCNet"
    )
    fixed: float = Field(0.5, ge=0, le=1, description="The fixed floor.", source="CCNet (arXiv 1911.00359)")
    own: dict[str, Annotated[float, pydantic.Field(ge=0, le=1)]] = Field(
        {}, description="Floors by language that go before either kind and both bounds."
    )

    @pydantic.model_validator(mode="after")
    def _are_bounds(self) -> Self:
        if self.lowest > self.highest:
            raise ValueError(f"lowest is {self.lowest}, highest {self.highest}; expected lowest <= highest")
        checked_codes(self.own)
        return self


@measure(
    reads=["text"],
    writes=_WRITES,
    version=2,
    libraries=["fasttext-modern", "unicodedata"],
)
def identify_language(rows: Rows, params: LanguageParams, model: Path) -> Columns:
    """Label every document with its script and the two likeliest languages of a fastText model (lid.176 by default).

    The margin is the difference of the two confidences. The script is that of most letters, `script_share` how many of them.
    A text that the model has no answer for, or none that is written in the text's letters, is `und` (undetermined, ISO 639-2),
    with confidence 0: only a document without text has no label. Memory: 1 MiB of text as Python's strings.
    """
    predict, texts = load_model(str(model)).f.predict, rows["text"]
    batches = utf8.row_batches(texts.drop_null(), BATCH_BYTES)
    found = [
        one for batch in batches for one in identify(predict, batch, params.chars, params.sure, params.whole_chars)
    ]
    places = _places(texts)
    columns = zip(*found, strict=True) if found else [[] for _ in Found._fields]
    return {name: _column(name, list(values)).take(places) for name, values in zip(Found._fields, columns, strict=True)}


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

    Or take CCNet's, one for all languages; a floor of a language's own in the recipe goes before both. From integer histograms, so that the order of parts cannot change a digit. Memory: 80 kB a language.
    """
    counts: dict[str, Counts] = {}
    for rows in corpus:
        for label, histogram in _histograms(rows).items():
            counts[label] = counts.get(label, 0) + histogram
    fitted = [(label, *_floor(label, counts[label], params)) for label in sorted(counts)]
    names = ["language", "documents", "median", "floor"]
    return pa.table({name: [row[i] for row in fitted] for i, name in enumerate(names)})


@gate(reads=["language", "confidence"])
def keep_sure(rows: Rows, params: NoParams, floors: pa.Table) -> Rules:
    """Reject documents whose language is less sure than their language's floor."""
    table = dict(zip(floors["language"].to_pylist(), floors["floor"].to_pylist(), strict=True))
    return {"unsure_language": at_least(rows["confidence"], lookup(rows["language"], table))}


def encode_labels(labels: pa.Array) -> pa.DictionaryArray:
    """Labels as codes and a dictionary, whichever way they were read."""
    return labels if isinstance(labels, pa.DictionaryArray) else labels.dictionary_encode()


def places_by_language(labels: pa.Array) -> dict[str, NDArray[np.int64]]:
    """The rows of each language, in order; those without one are in none."""
    encoded = encode_labels(labels)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    found = ((name, np.flatnonzero(codes == code)) for code, name in enumerate(encoded.dictionary.to_pylist()))
    return {name: places for name, places in found if len(places)}


def batches_by_language(texts: pa.Array, labels: pa.Array) -> Iterator[tuple[str, NDArray[np.int64], pa.Array]]:
    """(language, rows, their texts) for every row that has a language, at most `BATCH_BYTES` of text or one row at a time.

    What a kernel needs for its tokens is 10 to 40 times the text, so a stage that takes a part whole would need gigabytes.
    """
    for language, places in places_by_language(labels).items():
        begin = 0
        for batch in utf8.row_batches(texts.take(pa.array(places)), BATCH_BYTES):
            yield language, places[begin : begin + len(batch)], batch
            begin += len(batch)


def _places(texts: pa.Array) -> pa.Array:
    """Where each text stands among those that are not null; null for a null one."""
    valid = texts.is_valid().to_numpy(zero_copy_only=False)
    return pa.array(np.cumsum(valid) - 1, mask=~valid)


def _column(name: str, values: Sequence[str | float | None]) -> pa.Array:
    kind = _WRITES[name]
    if kind == _LABEL:
        return pa.array(values, pa.string()).dictionary_encode().cast(_LABEL)
    return pa.array(values, kind)


def _histograms(rows: Rows) -> dict[str, Counts]:
    """Counts of confidence in steps of 1/10,000, by language."""
    labels = rows["language"].dictionary.to_pylist()
    codes = rows["language"].indices.fill_null(len(labels)).to_numpy(zero_copy_only=False).astype(np.int64)
    steps = np.rint(rows["confidence"].fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64) * SCORE_STEPS)
    table = np.zeros((len(labels) + 1, SCORE_STEPS + 1), np.int64)
    np.add.at(table, (codes, steps.astype(np.int64)), 1)
    return {label: table[code] for code, label in enumerate(labels) if table[code].any()}


def _floor(label: str, histogram: Counts, params: FloorParams) -> Sequence[float | int]:
    scores = np.arange(SCORE_STEPS + 1) / SCORE_STEPS
    count = int(histogram.sum())
    ends = np.cumsum(histogram)
    low, high = np.searchsorted(ends, [(count + 1) // 2, count // 2 + 1])
    median = float(scores[low] + scores[high]) / 2
    mean = float(histogram @ scores) / count
    deviation = float(np.sqrt(histogram @ (scores - mean) ** 2 / count))
    adaptive = min(max(median - deviation, params.lowest), params.highest)
    floor = params.own.get(label, adaptive if params.kind == "adaptive" else params.fixed)
    return count, round(median, 4), round(floor, 4)
