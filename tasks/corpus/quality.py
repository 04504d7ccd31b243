"""How well a text reads: its perplexity and its classifier's score as columns, percentiles of both, and who goes.

A perplexity compares only with those of its own model, so scores and percentiles carry the model's name, and the gate refuses
percentiles of another one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import model_validator

from polylm.tasks.corpus.classifier import probabilities
from polylm.tasks.corpus.language import batches_by_language, encode_labels, places_by_language
from polylm.tasks.corpus.perplexity import model_name, perplexities
from polylm.tasks.corpus.reference import NormalTexts
from polylm.tasks.rules import Rules, at_least, at_most, lookup
from polylm.tasks.stage import Columns, Corpus, Field, NoParams, Params, Rows, files, gate, measure

STEP_BITS = 12  # of a float32 that a cutoff does not see: steps of 0.05 % of a perplexity
CUTOFFS = {
    "language": pa.string(),
    "model": pa.string(),
    "documents": pa.int64(),
    "head": pa.float64(),
    "middle": pa.float64(),
    "ceiling": pa.float64(),
    "classifier_floor": pa.float64(),
    "percentiles": pa.list_(pa.float64()),
}


class CutoffParams(Params):
    head: float = Field(0.3, gt=0, lt=1, description="Share of documents in the head.", source="CCNet")
    middle: float = Field(0.6, gt=0, lt=1, description="Share of documents in head and middle.", source="CCNet")
    ceiling: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Share that stays; the worst of the tail go.",
        source="ours: rules and models of PolyLM 3.1 removed 28.3 %",
    )
    classifier_floor: float = Field(0.05, ge=0, lt=1, description="Share that the classifier rejects.", source="ours")

    @model_validator(mode="after")
    def _are_in_order(self) -> Self:
        if self.head > self.middle:
            raise ValueError(
                f"head is {self.head}, middle {self.middle}; expected head <= middle, which has the head in it"
            )
        return self


@measure(
    reads=["text", "language"],
    writes={
        "perplexity": pa.float32(),
        "perplexity_model": pa.dictionary(pa.int16(), pa.string()),
        "classifier": pa.float32(),
    },
    version=2,
    libraries=["kenlm", "fasttext-modern", "pyarrow", "unicodedata"],
)
def score_quality(rows: Rows, params: NoParams, models: dict[str, Path], classifiers: dict[str, Path]) -> Columns:
    """Score every text by its language's 5-gram model (cc_net's perplexity) and classifier (probability of a reference).

    Null where there is no model. A perplexity compares only with those of the same `perplexity_model`. Memory: 1 MiB of text,
    20 times that for its pieces, and a fold's pieces (5 MB); n-grams are mapped, not read, so that workers share them.
    """
    count = len(rows["text"])
    perplexity, scores = np.full(count, np.nan), np.full(count, np.nan)
    names = np.full(count, None, object)
    for language, places, texts in batches_by_language(rows["text"], rows["language"]):
        model = model_name(models[language]) if language in models else None
        has_classifier = language in classifiers and (classifiers[language] / "calibration.json").exists()
        if model is None and not has_classifier:
            continue
        normal = NormalTexts(texts)
        if model is not None:
            perplexity[places] = np.round(perplexities(models[language], normal), 4)
            names[places] = model
        if has_classifier:
            scores[places] = np.round(probabilities(classifiers[language], texts, normal.folds), 4)
    names[np.isnan(perplexity)] = None
    return {
        "perplexity": _nullable(perplexity),
        "perplexity_model": pa.array(names, pa.string())
        .dictionary_encode()
        .cast(pa.dictionary(pa.int16(), pa.string())),
        "classifier": _nullable(scores),
    }


@files(reads=["language", "perplexity", "perplexity_model", "classifier"], writes=CUTOFFS, cheap=True, version=2)
def fit_quality_cutoffs(corpus: Corpus, params: CutoffParams) -> pa.Table:
    """Fit each language's percentiles of perplexity (head, middle, ceiling) and the floor of its classifier.

    `percentiles` has all, the 0th to the 100th, as CCNet's table has. From integer histograms in steps of 0.05 %, so that the order of parts cannot change a digit; a cutoff is the upper end of
    its step, the floor the lower. Memory: 16 bytes a step that occurs, at most 100,000 a language.
    """
    counts: dict[str, Histogram] = {}
    classified: dict[str, Histogram] = {}
    models: dict[str, set[str]] = {}
    for rows in corpus:
        for language, places in places_by_language(rows["language"]).items():
            own = {name: rows[name].take(pa.array(places)) for name in ("perplexity", "perplexity_model", "classifier")}
            counts[language] = _merge(counts.get(language, _NO_COUNTS), own["perplexity"])
            classified[language] = _merge(classified.get(language, _NO_COUNTS), own["classifier"])
            models.setdefault(language, set()).update(own["perplexity_model"].drop_null().unique().to_pylist())
    languages = sorted(counts)
    shares = {"head": params.head, "middle": params.middle, "ceiling": params.ceiling}
    columns = {
        "language": languages,
        "model": [_only(language, models[language]) for language in languages],
        "documents": [int(counts[language][1].sum()) for language in languages],
        **{
            name: [_quantile(counts[language], share, upper=True) for language in languages]
            for name, share in shares.items()
        },
        "classifier_floor": [_quantile(classified[of], params.classifier_floor, upper=False) for of in languages],
        "percentiles": [_percentiles(counts[language]) for language in languages],
    }
    return pa.table(columns, schema=pa.schema(list(CUTOFFS.items())))


@gate(reads=["language", "perplexity", "perplexity_model", "classifier"], version=2)
def filter_quality(rows: Rows, params: NoParams, cutoffs: pa.Table) -> Rules:
    """Reject the texts that read worst in their language; languages without a model are not judged.

    ValueError where a score is of another model than its language's percentiles.
    """
    _check_models(rows, _by_language(cutoffs, "model"))
    return {
        "tail_perplexity": at_most(
            rows["perplexity"], lookup(rows["language"], _by_language(cutoffs, "ceiling"), np.inf)
        ),
        "unlike_reference": at_least(
            rows["classifier"], lookup(rows["language"], _by_language(cutoffs, "classifier_floor"), -np.inf)
        ),
    }


def _check_models(rows: Rows, fitted: Mapping[str, str]) -> None:
    languages, models = encode_labels(rows["language"]), encode_labels(rows["perplexity_model"])
    codes = [labels.indices.fill_null(-1).to_numpy().astype(np.int64) for labels in (languages, models)]
    both = (codes[0] >= 0) & (codes[1] >= 0)
    width = len(models.dictionary)
    for pair in np.flatnonzero(np.bincount(codes[0][both] * width + codes[1][both])):
        language, name = languages.dictionary[pair // width].as_py(), models.dictionary[pair % width].as_py()
        if fitted.get(language, name) != name:
            raise ValueError(
                f"perplexities in {language} are of model {name}, their percentiles of model {fitted[language]}: "
                "fit percentiles from these scores (fit_quality_cutoffs); they do not compare"
            )


def _only(language: str, models: set[str]) -> str | None:
    if len(models) > 1:
        raise ValueError(
            f"perplexities in {language} are of {len(models)} models ({', '.join(sorted(models))}); expected one"
        )
    return next(iter(models), None)


def _percentiles(histogram: "Histogram") -> list[float] | None:
    """The 0th to the 100th."""
    if not len(histogram[0]):
        return None
    return [_quantile(histogram, share / 100, upper=True) or 0.0 for share in range(101)]


Histogram: TypeAlias = tuple[NDArray[np.uint32], NDArray[np.int64]]  # steps in order, and how often each occurs
_NO_COUNTS: Histogram = (np.empty(0, np.uint32), np.empty(0, np.int64))


def _merge(histogram: Histogram, values: pa.Array) -> Histogram:
    """Add values, positive float32: their bits, as integers, are in the same order, and lose the last `STEP_BITS`."""
    own = values.drop_null().to_numpy().astype(np.float32).view(np.uint32) >> np.uint32(STEP_BITS)
    steps, inverse = np.unique(np.concatenate([histogram[0], own]), return_inverse=True)
    counts = np.zeros(len(steps), np.int64)
    np.add.at(counts, inverse, np.concatenate([histogram[1], np.ones(len(own), np.int64)]))
    return steps, counts


def _quantile(histogram: Histogram, share: float, *, upper: bool) -> float | None:
    """The end of the step that holds the value below which `share` of all lie; None of no values."""
    steps, counts = histogram
    if not len(steps):
        return None
    ends = np.cumsum(counts)
    step = steps[np.searchsorted(ends, share * ends[-1])]
    edge = np.array([step << np.uint32(STEP_BITS)], np.uint32) | np.uint32((1 << STEP_BITS) - 1 if upper else 0)
    return float(edge.view(np.float32)[0])


def _by_language(cutoffs: pa.Table, column: str) -> Mapping[str, Any]:
    pairs = zip(cutoffs["language"].to_pylist(), cutoffs[column].to_pylist(), strict=True)
    return {language: value for language, value in pairs if value is not None}


def _nullable(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values.astype(np.float32), mask=np.isnan(values))
