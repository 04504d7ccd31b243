"""How clean a text reads: perplexity under a language's own 5-gram model, and the paper's English classifier.

The documents of the recipe's reference kinds serve as reference, in two folds by the hash of the normalised text, and a
document is only scored by the model of the fold that it is not in. Equal texts are in one fold.
"""

import errno
import multiprocessing
import os
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polylm.kernels import minhash, normalize
from polylm.tasks.corpus.language import BATCH_BYTES, LANGUAGES, batches_by_language, fasttext_line, places_by_language
from polylm.tasks.corpus.spill import spill_folder
from polylm.tasks.rules import Rules, at_least, at_most, lookup
from polylm.tasks.settings import cache_folder
from polylm.tasks.stage import Columns, Corpus, Field, NoParams, Params, Rows, Workspace, files, gate, measure

FOLDS = ("0", "1")
ORDER = 5
STEP_BITS = 12  # of a float32 that a cutoff does not see: steps of 0.05 % of a perplexity
Hashes: TypeAlias = NDArray[np.uint64]
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
    max_reference_bytes: int = Field(
        8_000_000,
        ge=1,
        description="Of a fold; of more, a sample by hash. Bounds the models: 5 to 12 times as many bytes.",
        unit="bytes",
        source="ours; CCNet takes the openings of 1,000,000 pages",
    )
    memory: str = Field("512M", pattern=r"^\d+[KMG]$", description="What lmplz may sort in.", source="lmplz -S")

    def jobs(self) -> Sequence[str]:
        return self.languages


class ClassifierParams(Params):
    reference_kinds: tuple[str, ...] = Field(
        ("doc", "book"), description="Kinds of the positives.", source="PolyLM 3.1: Wikipedia, books"
    )
    epochs: int = Field(
        25,
        ge=1,
        description="Passes over the examples.",
        source="fastText's tutorial; its default learns nothing of 100",
    )
    rate: float = Field(1.0, gt=0, description="Learning rate at the start.", source="fastText's tutorial")
    seed: int = Field(7, ge=0, description="Of the training.")
    min_examples: int = Field(
        20, ge=1, description="Of each class and fold; with fewer there is no classifier.", source="ours"
    )
    max_bytes: int = Field(
        4_000_000, ge=1, description="Of a fold's examples; of more, a sample by hash.", unit="bytes", source="ours"
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


@files(
    reads=["text", "language", "kind"],
    writes=None,
    each="language",
    version=1,
    libraries=["kenlm", "pyarrow", "unicodedata"],
)
def train_quality_models(corpus: Corpus, params: QualityModelParams, work: Workspace, job: str) -> dict[str, Any]:
    """Train a language's two 5-gram models by lmplz, one a fold; none where a fold has too little text.

    Text is normalised as for duplicates (NFKC, case folded, digits 0, no punctuation; characters in scripts without spaces),
    a document a sentence as in cc_net. The record's metrics say how much text there was, and why there is no model.
    Memory: one part; lmplz sorts in `memory`, and build_binary holds the model (5 to 12 bytes a byte of text).
    """
    with spill_folder(work.scratch) as folder:
        folds = [Sample(folder / fold, params.max_reference_bytes) for fold in FOLDS]
        for rows in corpus:
            own = _rows_of(rows, job, params.reference_kinds)
            for tokens, row, hash_ in _texts(own):
                folds[_fold(hash_)].add(hash_, _sentence(tokens, row))
        sizes = [fold.seen for fold in folds]
        enough = min(sizes) >= params.min_reference_bytes
        for fold, sample in zip(FOLDS, folds, strict=True) if enough else ():
            _estimate(sample.join(), work.out / f"{fold}.binary", params.memory)
    found = {
        "language": job,
        "reference_bytes": sizes,
        "used_bytes": [fold.kept for fold in folds],
        "has_model": enough,
    }
    missing = f"the smaller fold has {min(sizes):,} bytes of reference, {params.min_reference_bytes:,} are needed"
    return found if enough else {**found, "why_none": missing}


@files(
    reads=["text", "language", "kind"], writes=None, version=1, libraries=["fasttext-modern", "pyarrow", "unicodedata"]
)
def train_classifier(corpus: Corpus, params: ClassifierParams, work: Workspace) -> dict[str, Any]:
    """Train the paper's English classifier, 2-grams of words: reference kinds against the rest, one a fold (PolyLM 3.1).

    None where a class has too few examples; the record's metrics say so. Memory: one part and one fold's `max_bytes`.
    """
    counts = np.zeros((2, 2), np.int64)
    with spill_folder(work.scratch) as folder:
        folds = [Sample(folder / fold, params.max_bytes) for fold in FOLDS]
        for rows in corpus:
            for line, hash_, positive in _english_examples(rows, params.reference_kinds):
                folds[_fold(hash_)].add(hash_, f"__label__{int(positive)} {line}".encode())
                counts[_fold(hash_), int(positive)] += 1
        enough = bool((counts >= params.min_examples).all())
        for fold, sample in zip(FOLDS, folds, strict=True) if enough else ():
            text = sample.join()
            _shuffle_lines(text)
            model = work.out / f"{fold}.bin"
            _in_fresh_process(_train_fasttext, str(text), str(model), params)
    return {"examples": counts.tolist(), "used_bytes": [fold.kept for fold in folds], "has_model": enough}


@measure(
    reads=["text", "language"],
    writes={"perplexity": pa.float32(), "classifier": pa.float32()},
    version=1,
    libraries=["kenlm", "fasttext-modern", "pyarrow", "unicodedata"],
)
def score_quality(rows: Rows, params: NoParams, models: dict[str, Path], classifier: Path) -> Columns:
    """Score every text by its language's model: perplexity 10^(-log10 p / (tokens + 1)), the whole text one sentence (cc_net).

    English ones also get the classifier's probability of a reference. Null where there is no model. Memory: 1 MiB of text and
    its tokens; models are mapped, not read, so that workers share them.
    """
    count = len(rows["text"])
    perplexity, scores = np.full(count, np.nan), np.full(count, np.nan)
    for language, places, texts in batches_by_language(rows["text"], rows["language"]):
        tokens = normalize.tokenize(texts)
        folds = _hashes(tokens) & np.uint64(1)
        perplexity[places] = _perplexities(models.get(language), tokens, folds)
        if language == "en":
            scores[places] = _probabilities(classifier, texts, folds)
    return {"perplexity": _nullable(perplexity), "classifier": _nullable(scores)}


@files(reads=["language", "perplexity", "classifier"], writes=CUTOFFS, cheap=True, version=1)
def fit_quality_cutoffs(corpus: Corpus, params: CutoffParams) -> pa.Table:
    """Fit each language's percentiles of perplexity (head, middle, ceiling) and the floor of the classifier.

    From integer histograms in steps of 0.05 %, so that the order of parts cannot change a digit; a cutoff is the upper end of
    its step, the floor the lower. Memory: 16 bytes a step that occurs, at most 100,000 a language.
    """
    counts: dict[str, Histogram] = {}
    classified: Histogram = _NO_COUNTS
    for rows in corpus:
        for language, places in places_by_language(rows["language"]).items():
            own = rows["perplexity"].take(pa.array(places))
            counts[language] = _merge(counts.get(language, _NO_COUNTS), own)
        classified = _merge(classified, rows["classifier"])
    floor = _quantile(classified, params.classifier_floor, upper=False)
    languages = sorted(counts)
    return pa.table(
        {
            "language": languages,
            "documents": [int(counts[language][1].sum()) for language in languages],
            **{
                name: [_quantile(counts[language], share, upper=True) for language in languages]
                for name, share in (("head", params.head), ("middle", params.middle), ("ceiling", params.ceiling))
            },
            "classifier_floor": [floor if language == "en" else None for language in languages],
        },
        schema=pa.schema(list(CUTOFFS.items())),
    )


@gate(reads=["language", "perplexity", "classifier"])
def filter_quality(rows: Rows, params: NoParams, cutoffs: pa.Table) -> Rules:
    """Reject the texts that read worst in their language; languages without a model are not judged."""
    return {
        "tail_perplexity": at_most(
            rows["perplexity"], lookup(rows["language"], _by_language(cutoffs, "ceiling"), np.inf)
        ),
        "unlike_reference": at_least(
            rows["classifier"], lookup(rows["language"], _by_language(cutoffs, "classifier_floor"), -np.inf)
        ),
    }


class Sample:
    """Lines on disk, at most about `max_bytes` of them: of more, those whose hash has the most leading zeros.

    What is kept does not depend on the order of the lines, and is between half of the limit and all of it. Memory: none.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        folder.mkdir()
        self._folder, self._max_bytes = folder, max_bytes
        self._sizes = [0] * 65  # by leading zeros of the hash
        self._lowest = 0
        self.seen = 0

    @property
    def kept(self) -> int:
        return sum(self._sizes[self._lowest :])

    def add(self, hash_: int, line: bytes) -> None:
        self.seen += len(line)
        level = 64 - hash_.bit_length()
        if level < self._lowest:
            return
        with self._path(level).open("ab") as file:
            file.write(line + b"\n")
        self._sizes[level] += len(line)
        while self.kept > self._max_bytes and self._lowest < 64:
            self._path(self._lowest).unlink(missing_ok=True)
            self._lowest += 1

    def join(self) -> Path:
        """One file of all lines that were kept."""
        whole = self._folder / "lines.txt"
        with whole.open("wb") as out:
            for level in range(self._lowest, 65):
                if self._path(level).exists():
                    with self._path(level).open("rb") as file:
                        shutil.copyfileobj(file, out)
                    self._path(level).unlink()
        return whole

    def _path(self, level: int) -> Path:
        return self._folder / str(level)


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


def _by_language(cutoffs: pa.Table, column: str) -> Mapping[str, float]:
    pairs = zip(cutoffs["language"].to_pylist(), cutoffs[column].to_pylist(), strict=True)
    return {language: value for language, value in pairs if value is not None}


def _rows_of(rows: Rows, language: str, kinds: Sequence[str] | None = None) -> Rows:
    """The rows of one language, and of some kinds."""
    wanted = np.zeros(len(rows["text"]), np.bool_)
    wanted[places_by_language(rows["language"]).get(language, [])] = True
    if kinds is not None:
        wanted &= np.isin(np.asarray(rows["kind"].fill_null("")), kinds)
    return {name: values.filter(pa.array(wanted)) for name, values in rows.items()}


def _texts(rows: Rows) -> Iterator[tuple[normalize.Tokens, int, int]]:
    """(tokens of a batch, row in it, hash) of every text that has tokens."""
    for texts in normalize.row_batches(rows["text"], BATCH_BYTES):
        tokens = normalize.tokenize(texts)
        hashes = _hashes(tokens).tolist()
        yield from ((tokens, int(row), hashes[row]) for row in np.flatnonzero(np.diff(tokens.offsets)))


def _hashes(tokens: normalize.Tokens) -> Hashes:
    return minhash.exact(tokens.text, tokens.text_offsets)


def _fold(hash_: int) -> int:
    return hash_ & 1


def _sentence(tokens: normalize.Tokens, row: int) -> bytes:
    return tokens.text[tokens.text_offsets[row] : tokens.text_offsets[row + 1]].tobytes()


def _estimate(text: Path, model: Path, memory: str) -> None:
    """lmplz and build_binary with cc_net's options: order 5, no pruning, probing tables."""
    arpa = text.with_suffix(".arpa")
    options = ["-o", str(ORDER), "-S", memory, "-T", str(text.parent), "--discount_fallback"]
    _call("lmplz", *options, "--text", str(text), "--arpa", str(arpa))
    text.unlink()
    _call("build_binary", str(arpa), str(model))
    arpa.unlink()


def _call(program: str, *arguments: str) -> None:
    path = cache_folder() / "bin" / program
    if not path.exists():
        raise ValueError(f"{program} is not in {path.parent}: `make install` builds it")
    done = subprocess.run([path, *arguments], capture_output=True, text=True)
    if os.strerror(errno.ENOSPC) in done.stderr:
        raise OSError(errno.ENOSPC, f"{program}: {os.strerror(errno.ENOSPC)}")
    if done.returncode:
        raise RuntimeError(f"{program} exited with {done.returncode}: {done.stderr[-500:]}")


@lru_cache(maxsize=2)
def language_model(path: str) -> Any:
    """A model of kenlm, mapped and not read: opening costs nothing, so two, one a fold, are held, and not all languages'."""
    import kenlm  # only workers of this stage need it

    config = kenlm.Config()
    config.load_method = kenlm.LoadMethod.LAZY
    return kenlm.Model(path, config)


def _perplexities(folder: Path | None, tokens: normalize.Tokens, folds: Hashes) -> NDArray[np.float64]:
    """Each text's perplexity under the model of the other fold; NaN without tokens or a model."""
    found = np.full(len(folds), np.nan)
    counts = np.diff(tokens.offsets)
    for fold, other in enumerate(reversed(FOLDS)):
        if folder is None or not (path := folder / f"{other}.binary").exists():
            continue
        score = language_model(str(path)).score
        for row in np.flatnonzero((folds == fold) & (counts > 0)).tolist():
            found[row] = score(_sentence(tokens, row), True, True)
    return np.asarray(np.minimum(10.0 ** (-found / (counts + 1)), 1e30))


@lru_cache(maxsize=2)
def _classifier(path: str) -> Any:
    import fasttext  # only workers of this stage need it

    return fasttext.load_model(path)


def _probabilities(folder: Path, texts: pa.Array, folds: Hashes) -> NDArray[np.float64]:
    """Each text's probability of a reference under the classifier of the other fold; NaN without one."""
    found = np.full(len(folds), np.nan)
    for fold, other in enumerate(reversed(FOLDS)):
        if not (path := folder / f"{other}.bin").exists():
            continue
        predict = _classifier(str(path)).f.predict
        for row in np.flatnonzero(folds == fold):
            scores = {label: score for score, label in predict(_one_line(texts[row].as_py()) + "\n", 2, 0.0, "strict")}
            found[row] = min(1.0, scores.get("__label__1", 0.0))
    return found


def _nullable(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values.astype(np.float32), mask=np.isnan(values))


def _one_line(text: str) -> str:
    """Lower case, white space as one space; a word that looks like a label of fastText's would become one."""
    return " ".join(fasttext_line(text.lower()).replace("__label__", " ").split())


def _english_examples(rows: Rows, kinds: Sequence[str]) -> Iterator[tuple[str, int, bool]]:
    """(line, hash, whether it is of a reference kind) of every English text."""
    own = _rows_of(rows, "en")
    is_reference = np.isin(np.asarray(own["kind"].fill_null("")), kinds)
    begin = 0
    for texts in normalize.row_batches(own["text"], BATCH_BYTES):
        hashes = _hashes(normalize.tokenize(texts)).tolist()
        for row, text in enumerate(texts.to_pylist()):
            yield _one_line(text), hashes[row], bool(is_reference[begin + row])
        begin += len(texts)


def _shuffle_lines(path: Path) -> None:
    """Put lines in the order of a hash: fastText reads them as they stand, and sources stand one after the other."""
    lines = path.read_bytes().splitlines(keepends=True)
    lines.sort(key=lambda line: (zlib.crc32(line), line))
    with path.open("wb") as file:
        file.writelines(lines)


def _train_fasttext(text: str, model: str, params: ClassifierParams) -> None:
    import fasttext

    options = {"epoch": params.epochs, "lr": params.rate, "seed": params.seed, "thread": 1, "verbose": 0}
    shape = {"wordNgrams": 2, "minCount": 1, "dim": 16, "bucket": 100_000}
    fasttext.train_supervised(text, **options, **shape).save_model(model)


def _in_fresh_process(function: Callable[..., None], *args: Any) -> None:
    """fastText's second training in a process differs from its first: bytes are only equal in fresh ones."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=args)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{function.__name__} exited with {process.exitcode}")
