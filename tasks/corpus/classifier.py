"""How much a text is like the reference of its language: a fastText classifier on 2-grams of words, for every language.

PolyLM (3.1) has one for English; FineWeb2-HQ (arXiv 2502.10361) shows that they are worth it in twenty languages. Positives are
documents of the reference kinds, negatives all others. Words are those of the search for duplicates: lower case, digits 0, no
punctuation, and characters where a script has no spaces.
"""

import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polylm.kernels import shingles
from polylm.tasks.corpus import calibration
from polylm.tasks.corpus.reference import FOLDS, Hashes, ReferenceParams, Sample, fold, is_of, normal_batches, rows_of
from polylm.tasks.corpus.spill import spill_folder
from polylm.tasks.stage import Corpus, Field, Rows, Workspace, files

Floats: TypeAlias = NDArray[np.float64]
POSITIVE = "__label__1"


class ClassifierParams(ReferenceParams):
    epochs: int = Field(
        25,
        ge=1,
        le=10_000,
        description="Passes over the examples.",
        source="fastText's tutorial; its default learns nothing of 100",
    )
    rate: float = Field(1.0, gt=0, le=100, description="Learning rate at the start.", source="fastText's tutorial")
    seed: int = Field(7, ge=0, lt=1 << 31, description="Of the training.")
    min_examples: int = Field(
        20, ge=1, description="Of each class and fold; with fewer there is no classifier.", source="ours"
    )
    max_bytes: int = Field(
        4_000_000, ge=1, description="Of a fold's examples; of more, a sample by hash.", unit="bytes", source="ours"
    )


@files(
    reads=["text", "language", "kind"],
    writes=None,
    each="language",
    version=2,
    libraries=["fasttext-modern", "pyarrow", "unicodedata"],
)
def train_classifier(corpus: Corpus, params: ClassifierParams, work: Workspace, job: str) -> dict[str, Any]:
    """Train a language's classifier of references against the rest, one a fold, calibrated on the other fold.

    The record's metrics have the held-out AUC of both, and say why there is no classifier. The same bytes every time: one
    thread, a seed, and a process for each training. Memory: one part and one fold's `max_bytes`.
    """
    counts = np.zeros((2, 2), np.int64)
    with spill_folder(work.scratch) as folder:
        folds = [Sample(folder / name, params.max_bytes) for name in FOLDS]
        for rows in corpus:
            for line, hash_, positive in _examples(rows_of(rows, job), params.reference_kinds):
                folds[fold(hash_)].add(hash_, b"__label__%d %s" % (positive, line))
                counts[fold(hash_), int(positive)] += 1
        found = {"language": job, "examples": counts.tolist(), "used_bytes": [sample.kept for sample in folds]}
        texts = [_shuffled(sample.join()) for sample in folds]
        least = min(min(_classes(path)) for path in texts)  # of distinct texts: copies of a source count once
        if least < params.min_examples:
            why_none = f"a fold has {least} examples of a class, {params.min_examples} are needed"
            return {**found, "has_model": False, "why_none": why_none}
        fits = [_train(texts, own, work.out, params) for own in range(len(FOLDS))]
    (work.out / "calibration.json").write_text(json.dumps([fit.line for fit in fits]))
    return {**found, "has_model": True, "held_out_auc": [fit.auc for fit in fits]}


def probabilities(folder: Path, texts: pa.Array, folds: Hashes) -> Floats:
    """Each text's probability of a reference, were there as many others, by the classifier of the other fold; NaN without words."""
    lines = list(_lines(texts))
    found, lengths = np.full(len(folds), np.nan), np.array([len(line) for line in lines])
    fits = json.loads((folder / "calibration.json").read_text())
    for own, other in enumerate(reversed(FOLDS)):
        rows = np.flatnonzero((folds == own) & (lengths > 0))
        if len(rows):
            raw = _scores(folder / f"{other}.bin", [lines[row].decode() for row in rows.tolist()])
            found[rows] = calibration.apply(fits[int(other)], raw)
    return found


def _examples(rows: Rows, kinds: tuple[str, ...]) -> Iterator[tuple[bytes, int, bool]]:
    """(line, hash, whether it is of a reference kind) of every text that has words."""
    is_reference = is_of(rows["kind"], kinds).tolist()
    for begin, texts, normal in normal_batches(rows["text"]):
        hashes = normal.hashes.tolist()
        for row, line in enumerate(_lines(texts)):
            if line:
                yield line, hashes[row], is_reference[begin + row]


def _lines(texts: pa.Array) -> Iterator[bytes]:
    """Each text's words, joined by spaces. No word can look like fastText's own, `</s>` or a label: they have no punctuation."""
    tokens = shingles.tokenize(texts)
    for first, last in zip(tokens.text_offsets[:-1].tolist(), tokens.text_offsets[1:].tolist(), strict=True):
        yield tokens.text[first:last].tobytes()


def _train(texts: list[Path], own: int, out: Path, params: ClassifierParams) -> calibration.Fit:
    """Train on one fold, and fit the line on the other."""
    model = out / f"{FOLDS[own]}.bin"
    options = {"epoch": params.epochs, "lr": params.rate, "seed": params.seed, "thread": 1, "verbose": 0}
    shape = {"wordNgrams": 2, "minCount": 1, "dim": 16, "bucket": 100_000}
    program = Path(__file__).with_name("fasttext_training.py")
    command = [sys.executable, "-P", str(program), str(texts[own]), str(model), json.dumps({**options, **shape})]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{program.name} exited with {done.returncode}: {done.stderr[-500:]}")
    held_out = [line.split(" ", 1) for line in texts[1 - own].read_text().splitlines()]
    is_positive = np.array([label == POSITIVE for label, _ in held_out])
    return calibration.fit(_scores(model, [line for _, line in held_out]), is_positive)


def _classes(path: Path) -> tuple[int, int]:
    """How many lines are of the rest, and of references."""
    lines = path.read_bytes().splitlines()
    references = sum(line.startswith(b"__label__1 ") for line in lines)
    return len(lines) - references, references


def _shuffled(path: Path) -> Path:
    """Put lines in the order of a hash: fastText reads them as they stand, and sources stand one after the other."""
    lines = path.read_bytes().splitlines(keepends=True)
    lines.sort(key=lambda line: (zlib.crc32(line), line))
    with path.open("wb") as file:
        file.writelines(lines)
    return path


def _scores(model: Path, lines: list[str]) -> Floats:
    """What fastText says of each line, before calibration."""
    predict = _load(str(model)).f.predict
    labels = ({label: score for score, label in predict(f"{line}\n", 2, 0.0, "strict")} for line in lines)
    return np.array([min(1.0, scores.get(POSITIVE, 0.0)) for scores in labels], np.float64)


@lru_cache(maxsize=2)
def _load(path: str) -> Any:
    import fasttext  # only workers of this stage need it

    return fasttext.load_model(path)
