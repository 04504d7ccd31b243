"""How clean a text reads: perplexity under a language's own 5-gram model, and the paper's English classifier.

Where a recipe has no reference for a language, the documents of its reference kinds serve, in two folds by the hash of
the text, and a document is only scored by the model of the fold that it is not in.
"""

import hashlib
import multiprocessing
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polylm.kernels import normalize
from polylm.tasks.corpus.language import LANGUAGES
from polylm.tasks.rules import Rules, at_least, at_most, lookup
from polylm.tasks.settings import cache_folder
from polylm.tasks.stage import Columns, Corpus, Field, NoParams, Params, Rows, files, gate, measure

FOLDS = ("0", "1")
ORDER = 5
CUTOFFS = {
    "language": pa.string(),
    "documents": pa.int64(),
    "head": pa.float64(),
    "middle": pa.float64(),
    "ceiling": pa.float64(),
    "classifier_floor": pa.float64(),
}


class QualityModelParams(Params):
    languages: tuple[str, ...] = Field(
        LANGUAGES, description="Languages to train models for.", source="PolyLM, table 2"
    )
    reference_kinds: tuple[str, ...] = Field(
        ("doc", "book"), description="Kinds of documents that read well.", source="ours"
    )
    min_reference_bytes: int = Field(
        500_000, ge=1, description="Of a fold; with less there is no model.", unit="bytes", source="ours"
    )
    memory: str = Field("512M", pattern=r"^\d+[KMG]$", description="What lmplz may sort in.", source="lmplz -S")

    def jobs(self) -> Sequence[str]:
        return self.languages


class ClassifierParams(Params):
    reference_kinds: tuple[str, ...] = Field(
        ("doc", "book"), description="Kinds of the positives.", source="PolyLM 3.1: Wikipedia, books"
    )
    epochs: int = Field(5, ge=1, description="Passes over the examples.", source="fastText's default")
    seed: int = Field(7, ge=0, description="Of the training.")
    min_examples: int = Field(
        20, ge=1, description="Of each class and fold; with fewer there is no classifier.", source="ours"
    )


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


@files(reads=["text", "language", "kind"], writes=None, each="language", version=1, libraries=["kenlm"])
def train_quality_models(corpus: Corpus, params: QualityModelParams, work: Any, job: str) -> dict[str, Any]:
    """Train a language's two 5-gram models by lmplz, one a fold; none where a fold has too little text.

    Text is normalised as for duplicates (NFKC, case folded, digits 0, no punctuation; characters in scripts without spaces),
    a document a sentence as in cc_net. Streams; lmplz sorts in `memory`.
    """
    sizes = [0, 0]
    with tempfile.TemporaryDirectory(dir=work.scratch) as folder:
        paths = [Path(folder) / f"{fold}.txt" for fold in FOLDS]
        with paths[0].open("wb") as zero, paths[1].open("wb") as one:
            for sentence, fold in _reference_sentences(corpus, params.reference_kinds, job):
                (zero, one)[fold].write(sentence + b"\n")
                sizes[fold] += len(sentence)
        enough = min(sizes) >= params.min_reference_bytes
        for fold, path in zip(FOLDS, paths, strict=True) if enough else ():
            _estimate(path, work.out / f"{fold}.binary", params.memory)
    return {"language": job, "reference_bytes": sizes, "has_model": enough}


@files(reads=["text", "language", "kind"], writes=None, version=1, libraries=["fasttext-modern"])
def train_classifier(corpus: Corpus, params: ClassifierParams, work: Any) -> dict[str, Any]:
    """Train the paper's English classifier, 2-grams of words: reference kinds against the rest, one a fold (PolyLM 3.1)."""
    examples: list[list[str]] = [[], []]
    counts = np.zeros((2, 2), np.int64)
    for rows in corpus:
        for text, fold, positive in _english_examples(rows, params.reference_kinds):
            examples[fold].append(f"__label__{int(positive)} {text}")
            counts[fold, int(positive)] += 1
    enough = bool((counts >= params.min_examples).all())
    for fold, lines in enumerate(examples if enough else ()):
        path = work.scratch / f"{fold}.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        _in_fresh_process(_train_fasttext, str(path), str(work.out / f"{FOLDS[fold]}.bin"), params.epochs, params.seed)
    return {"examples": counts.tolist(), "has_model": enough}


@measure(
    reads=["text", "language"],
    writes={"perplexity": pa.float32(), "classifier": pa.float32()},
    version=1,
    libraries=["kenlm", "fasttext-modern"],
)
def score_quality(rows: Rows, params: NoParams, models: dict[str, Path], classifier: Path) -> Columns:
    """Score every text by its language's model: perplexity 10^(-log10 p / (tokens + 1)), the whole text one sentence (cc_net).

    English ones also get the classifier's probability of a reference. Null where there is no model.
    """
    languages = rows["language"].to_pylist()
    folds = _folds(rows["text"])
    tokens = normalize.tokenize(rows["text"])
    perplexity = [
        _perplexity(models.get(language), int(fold), tokens, row)
        for row, (language, fold) in enumerate(zip(languages, folds, strict=True))
    ]
    texts = rows["text"].to_pylist()
    scores = [
        _probability(classifier, int(fold), text) if language == "en" else None
        for text, language, fold in zip(texts, languages, folds, strict=True)
    ]
    return {"perplexity": pa.array(perplexity, pa.float32()), "classifier": pa.array(scores, pa.float32())}


@files(reads=["language", "perplexity", "classifier"], writes=CUTOFFS, cheap=True, version=1)
def fit_quality_cutoffs(corpus: Corpus, params: CutoffParams) -> pa.Table:
    """Fit each language's percentiles of perplexity (head, middle, ceiling) and the floor of the classifier.

    Memory: 8 bytes a scored document of the largest language.
    """
    scores: dict[str, list[Any]] = {}
    classified: list[Any] = []
    for rows in corpus:
        labels = rows["language"].cast(pa.string())
        for language in labels.unique().drop_null().to_pylist():
            own = rows["perplexity"].filter(pa.array(np.asarray(labels.fill_null("")) == language)).drop_null()
            scores.setdefault(language, []).append(own.to_numpy())
        classified.append(rows["classifier"].drop_null().to_numpy())
    floor = _quantile(np.concatenate(classified), params.classifier_floor) if classified else np.nan
    fitted = [(language, np.concatenate(scores[language])) for language in sorted(scores)]
    return pa.table(
        {
            "language": [language for language, _ in fitted],
            "documents": [len(values) for _, values in fitted],
            "head": [_quantile(values, params.head) for _, values in fitted],
            "middle": [_quantile(values, params.middle) for _, values in fitted],
            "ceiling": [_quantile(values, params.ceiling) for _, values in fitted],
            "classifier_floor": [floor if language == "en" else None for language, _ in fitted],
        }
    )


@gate(reads=["language", "perplexity", "classifier"])
def filter_quality(rows: Rows, params: NoParams, cutoffs: pa.Table) -> Rules:
    """Reject the texts that read worst in their language; languages without a model are not judged."""
    table = {name: cutoffs[name].to_pylist() for name in CUTOFFS}
    ceilings = dict(
        zip(table["language"], (np.inf if value is None else value for value in table["ceiling"]), strict=True)
    )
    floors = {
        language: floor
        for language, floor in zip(table["language"], table["classifier_floor"], strict=True)
        if floor is not None
    }
    return {
        "tail_perplexity": at_most(rows["perplexity"], lookup(rows["language"], ceilings, np.inf)),
        "unlike_reference": at_least(rows["classifier"], lookup(rows["language"], floors, -np.inf)),
    }


def _quantile(values: Any, share: float) -> float | None:
    """A value of the data itself (no interpolation), so that equal data give equal digits."""
    return float(np.quantile(values, share, method="inverted_cdf")) if len(values) else None


def _folds(texts: pa.Array) -> Any:
    return np.fromiter(
        (hashlib.sha256(text.encode()).digest()[0] & 1 for text in texts.to_pylist()), np.int8, len(texts)
    )


def _reference_sentences(corpus: Corpus, kinds: Sequence[str], language: str) -> Iterator[tuple[bytes, int]]:
    for rows in corpus:
        wanted = np.asarray(rows["language"].cast(pa.string()).fill_null("")) == language
        wanted &= np.isin(np.asarray(rows["kind"].fill_null("")), kinds)
        texts = rows["text"].filter(pa.array(wanted))
        if not len(texts):
            continue
        tokens = normalize.tokenize(texts)
        folds = _folds(texts)
        for row in range(len(texts)):
            if sentence := _sentence(tokens, row):
                yield sentence, int(folds[row])


def _sentence(tokens: normalize.Tokens, row: int) -> bytes:
    return bytes(tokens.text[tokens.text_offsets[row] : tokens.text_offsets[row + 1]].tobytes())


def _estimate(text: Path, model: Path, memory: str) -> None:
    """lmplz and build_binary with cc_net's options: order 5, no pruning, probing tables."""
    arpa = text.with_suffix(".arpa")
    lmplz = [
        _program("lmplz"),
        "-o",
        str(ORDER),
        "-S",
        memory,
        "-T",
        str(text.parent),
        "--discount_fallback",
        "--text",
        str(text),
        "--arpa",
        str(arpa),
    ]
    for command in (lmplz, [_program("build_binary"), str(arpa), str(model)]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{Path(command[0]).name} exited with {done.returncode}: {done.stderr[-500:]}")
    arpa.unlink()


def _program(name: str) -> str:
    path = cache_folder() / "bin" / name
    if not path.exists():
        raise ValueError(f"{name} is not in {path.parent}: `make install` builds it")
    return str(path)


@lru_cache(maxsize=64)
def _language_model(path: str) -> Any:
    import kenlm  # only workers of this stage need it

    return kenlm.Model(path) if Path(path).exists() else None


def _perplexity(folder: Path | None, fold: int, tokens: normalize.Tokens, row: int) -> float | None:
    model = _language_model(str(folder / f"{FOLDS[1 - fold]}.binary")) if folder else None
    count = int(tokens.offsets[row + 1] - tokens.offsets[row])
    if model is None or not count:
        return None
    score = model.score(_sentence(tokens, row).decode(), bos=True, eos=True)
    return float(min(10 ** (-score / (count + 1)), 1e30))


@lru_cache(maxsize=2)
def _classifier(path: str) -> Any:
    import fasttext  # only workers of this stage need it

    return fasttext.load_model(path) if Path(path).exists() else None


def _probability(folder: Path, fold: int, text: str) -> float | None:
    model = _classifier(str(folder / f"{FOLDS[1 - fold]}.bin"))
    if model is None:
        return None
    found = {label: score for score, label in model.f.predict(_one_line(text) + "\n", 2, 0.0, "strict")}
    return min(1.0, float(found.get("__label__1", 0.0)))


def _one_line(text: str) -> str:
    return " ".join(text.lower().split())


def _english_examples(rows: Rows, kinds: Sequence[str]) -> Iterator[tuple[str, int, bool]]:
    english = pa.array(np.asarray(rows["language"].cast(pa.string()).fill_null("")) == "en")
    texts = rows["text"].filter(english)
    for text, fold, kind in zip(
        texts.to_pylist(), _folds(texts), rows["kind"].filter(english).to_pylist(), strict=True
    ):
        yield _one_line(text), int(fold), kind in kinds


def _train_fasttext(text: str, model: str, epochs: int, seed: int) -> None:
    import fasttext

    fasttext.train_supervised(
        text, wordNgrams=2, minCount=1, epoch=epochs, dim=16, bucket=100_000, thread=1, seed=seed, verbose=0
    ).save_model(model)


def _in_fresh_process(function: Any, *args: Any) -> None:
    """fastText's second training in a process differs from its first: bytes are only equal in fresh ones."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=args)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{function.__name__} exited with {process.exitcode}")
