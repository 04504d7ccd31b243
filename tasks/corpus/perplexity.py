"""How surprising a text is to its language's own 5-gram model, by cc_net's recipe and formula.

cc_net (Wenzek et al. 2020): normalise (lower case, no accents, digits 0, plain punctuation, one line), cut by a SentencePiece
unigram model of 65,536 pieces, 5-gram model by lmplz without pruning; perplexity = 10^(-log10 p / (pieces + 1)), the whole text
one sentence. Both models are trained here, on each language's reference, so tr, vi and th, which cc_net lacks, have theirs too.
A perplexity compares only with those of the same model: `model.json` names it, and the scores carry the name.
"""

import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polylm.deployments.settings import cache_folder
from polylm.kernels import ngram_model, unigram_pieces
from polylm.tasks.corpus.language import BATCH_BYTES
from polylm.tasks.corpus.reference import (
    FOLDS,
    Bytes,
    Ints,
    NormalTexts,
    ReferenceParams,
    Sample,
    fold,
    normal_batches,
    rows_of,
)
from polylm.tasks.corpus.spill import spill_folder
from polylm.tasks.keys import digest, file_digest
from polylm.tasks.stage import Corpus, Field, Workspace, files

ORDER = 5
VOCABULARY_ESTIMATE = "65536"  # lmplz only sizes its tables by it


class QualityModelParams(ReferenceParams):
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
    pieces: int = Field(
        65_536,
        ge=300,
        le=1 << 20,
        description="Of SentencePiece's vocabulary; fewer where the text bears fewer.",
        source="CCNet",
    )
    max_pieces_bytes: int = Field(
        2_000_000,
        ge=1,
        description="Of a fold, to learn the pieces from: SentencePiece takes 12 to 30 times as much memory, of near-copies 60.",
        unit="bytes",
        source="ours",
    )
    coverage: float = Field(0.9995, gt=0.9, le=1, description="Share of characters with a piece.", source="CCNet")
    tables: Literal["probing", "trie"] = Field(
        "probing",
        description="`trie`, quantised to 8 bits, takes a fifth of the room and a third of the speed, and scores otherwise.",
        source="CCNet: probing",
    )
    memory: str = Field("512M", pattern=r"^\d+[KMG]$", description="What lmplz may sort in.", source="lmplz -S")


@files(
    reads=["text", "language", "kind"],
    writes=None,
    each="language",
    version=3,
    libraries=["kenlm", "sentencepiece", "pyarrow", "unicodedata"],
)
def train_quality_models(corpus: Corpus, params: QualityModelParams, work: Workspace, job: str) -> dict[str, Any]:
    """Train a language's pieces and 5-gram models as cc_net does, one pair a fold; none where a fold has too little text.

    The record's metrics say how much text there was, which model it is, and why there is none. The same bytes every time: one
    thread, no sampling. Memory: one part; in programs of their own SentencePiece takes 12 to 30 bytes a byte of `max_pieces_bytes`
    (de, zh), lmplz sorts in `memory`, and build_binary holds the model (5 to 12 bytes a byte of text).
    """
    with spill_folder(work.scratch) as folder:
        folds = [Sample(folder / name, params.max_reference_bytes) for name in FOLDS]
        for rows in corpus:
            for _, _, normal in normal_batches(rows_of(rows, job, params.reference_kinds)["text"]):
                for row in np.flatnonzero(np.diff(normal.offsets)).tolist():
                    hash_ = int(normal.hashes[row])
                    folds[fold(hash_)].add(hash_, normal[row])
        sizes = [sample.seen for sample in folds]
        found = {"language": job, "reference_bytes": sizes, "used_bytes": [sample.kept for sample in folds]}
        if min(sizes) < params.min_reference_bytes:
            needed = f"{params.min_reference_bytes:,} are needed"
            why_none = f"the smaller fold has {min(sizes):,} bytes of reference, {needed}"
            return {**found, "has_model": False, "why_none": why_none}
        pieces = [_train(sample.join(), work.out / name, params) for name, sample in zip(FOLDS, folds, strict=True)]
    model = _identity(work.out)
    (work.out / "model.json").write_text(json.dumps({"language": job, "model": model, "pieces": pieces}))
    return {**found, "has_model": True, "model": model, "pieces": pieces}


def perplexities(folder: Path, normal: NormalTexts) -> NDArray[np.float64]:
    """Each text's perplexity under the model of the other fold; NaN for a text without pieces."""
    found = np.full(len(normal.hashes), np.nan)
    for own, other in enumerate(reversed(FOLDS)):
        rows = np.flatnonzero(normal.folds == own)
        if len(rows):
            found[rows] = _open(str(folder / other)).perplexities(*_some(normal, rows))
    return found


def model_name(folder: Path) -> str | None:
    """The model's name: with another one, perplexities are others; None where there is no model."""
    about = folder / "model.json"
    return str(json.loads(about.read_text())["model"]) if about.exists() else None


@dataclass(frozen=True)
class LanguageModel:
    """Pieces and n-grams of one fold."""

    pieces: unigram_pieces.Pieces
    ngrams: ngram_model.NgramModel | None  # of probing tables
    words: NDArray[np.uint32]  # of each piece its number among the words of `ngrams`; the last one, for no piece, is 0
    trie: Any = None  # of quantised tables: KenLM's own

    def perplexities(self, data: Bytes, offsets: Ints) -> NDArray[np.float64]:
        cut = unigram_pieces.cut(self.pieces, data, offsets)
        counts = np.diff(cut.offsets)
        sums = self._sums(cut).astype(np.float64)
        return np.asarray(np.where(counts > 0, np.minimum(10.0 ** (-sums / (counts + 1)), 1e30), np.nan))

    def _sums(self, cut: unigram_pieces.Cut) -> NDArray[np.float32]:
        if self.ngrams is None:
            lines = _spaced(cut).split(b"\n")
            sums = np.zeros(len(cut.offsets) - 1, np.float32)
            for row, line in zip(np.flatnonzero(np.diff(cut.offsets)).tolist(), lines[:-1], strict=True):
                sums[row] = self.trie.score(line.decode(), True, True)
            return sums
        words = self.words[cut.ids]
        unknown = np.flatnonzero(cut.ids == unigram_pieces.UNKNOWN)
        # A rare character that the training text had is no piece but still a word of the 5-gram model.
        words[unknown] = ngram_model.words_of(self.ngrams, [cut.bytes_of(place) for place in unknown.tolist()])
        return ngram_model.log10_probabilities(self.ngrams, words, cut.offsets)


def _open(stem: str) -> LanguageModel:
    """A fold's model."""
    pieces, words = _pieces(stem)
    if Path(f"{stem}.binary").exists():
        return LanguageModel(pieces, _mapped(f"{stem}.binary"), words)
    return LanguageModel(pieces, None, words, _mapped(f"{stem}.trie"))


@lru_cache(maxsize=2)
def _pieces(stem: str) -> tuple[unigram_pieces.Pieces, NDArray[np.uint32]]:
    """A fold's pieces and their words; two are held, one a fold, and not all languages'."""
    with np.load(f"{stem}.npz") as tables:
        return unigram_pieces.Pieces(*(tables[name] for name in unigram_pieces.TABLES)), tables["words"]


@lru_cache(maxsize=1)
def _mapped(path: str) -> Any:
    """n-grams, mapped and not read. One file at a time: the pages that were touched count as the worker's memory (20 to 60 MB a
    fold), and to map it again costs less than a millisecond a batch."""
    if path.endswith(".binary"):
        return ngram_model.open_model(Path(path))
    import kenlm  # only workers of this stage need it

    config = kenlm.Config()
    config.load_method = kenlm.LoadMethod.LAZY
    return kenlm.Model(path, config)


def _some(normal: NormalTexts, rows: Ints) -> tuple[Bytes, Ints]:
    """The normal forms of some rows, end to end."""
    if len(rows) == len(normal.hashes):
        return normal.data, normal.offsets
    kept = np.zeros(len(normal.hashes), np.bool_)
    kept[rows] = True
    sizes = np.diff(normal.offsets)
    return normal.data[np.repeat(kept, sizes)], np.concatenate([[0], np.cumsum(sizes[rows])]).astype(np.int64)


def _train(text: Path, stem: Path, params: QualityModelParams) -> int:
    """Train pieces and n-grams of a text, one document a line; how many pieces there are."""
    proto = _train_pieces(text, params)
    stem.with_suffix(".sp.model").write_bytes(proto)
    names, pieces = unigram_pieces.read_model(proto)
    cut_text = text.with_suffix(".pieces")
    with text.open("rb") as file, cut_text.open("wb") as out:
        while lines := file.readlines(BATCH_BYTES):
            offsets = np.cumsum([0, *map(len, lines)], dtype=np.int64)
            out.write(_spaced(unigram_pieces.cut(pieces, np.frombuffer(b"".join(lines), np.uint8).copy(), offsets)))
    text.unlink()
    ngrams = _estimate(cut_text, stem, params)
    words = np.zeros(len(names) + 1, np.uint32)
    if params.tables == "probing":
        words[:-1] = ngram_model.words_of(ngram_model.open_model(ngrams), names)
    tables: dict[str, Any] = {**pieces.tables(), "words": words}
    np.savez(f"{stem}.npz", **tables)
    return len(names)


def _train_pieces(text: Path, params: QualityModelParams) -> bytes:
    """A SentencePiece model of the first lines of a text, as a file's bytes."""
    options = {
        "model_type": "unigram",
        "vocab_size": params.pieces,
        "hard_vocab_limit": False,
        "character_coverage": params.coverage,
        "max_sentence_length": 1 << 30,  # by default it skips what is over 4,192 bytes; cc_net's openings are shorter
        "num_threads": 1,
        "minloglevel": 2,
    }
    program = Path(__file__).with_name("sentencepiece_training.py")
    command = [sys.executable, "-P", str(program), str(text), str(params.max_pieces_bytes)]
    done = subprocess.run([*command, json.dumps(options)], capture_output=True)
    if b"required_chars" in done.stderr:
        raise ValueError(
            f"{params.pieces} pieces are fewer than the characters that must have one: raise quality_models.pieces, "
            f"or lower quality_models.coverage ({params.coverage})"
        )
    if done.returncode:
        raise RuntimeError(
            f"{program.name} exited with {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}"
        )
    return done.stdout


def _spaced(cut: unigram_pieces.Cut) -> bytes:
    """Pieces joined by spaces, a text a line; a text without pieces has none."""
    after = np.full(len(cut.ends), 0x20, np.uint8)
    after[cut.offsets[1:][np.diff(cut.offsets) > 0] - 1] = 0x0A
    return bytes(np.insert(cut.text, cut.ends, after).tobytes())


def _estimate(text: Path, stem: Path, params: QualityModelParams) -> Path:
    """lmplz and build_binary with cc_net's options: order 5, no pruning; special words in the text are skipped."""
    arpa, model = text.with_suffix(".arpa"), stem.with_suffix(".binary" if params.tables == "probing" else ".trie")
    options = ["-o", str(ORDER), "-S", params.memory, "-T", str(text.parent), "--vocab_estimate", VOCABULARY_ESTIMATE]
    _call("lmplz", *options, "--discount_fallback", "--skip_symbols", "--text", str(text), "--arpa", str(arpa))
    text.unlink()
    kind = [] if params.tables == "probing" else ["-a", "22", "-q", "8", "-b", "8", "trie"]
    _call("build_binary", *kind, str(arpa), str(model))
    arpa.unlink()
    return model


def _identity(folder: Path) -> str:
    return str(digest({path.name: file_digest(path) for path in sorted(folder.iterdir())}))[:16]


def _call(program: str, *arguments: str) -> None:
    path = cache_folder() / "bin" / program
    if not path.exists():
        raise ValueError(f"{program} is not in {path.parent}: `make install` builds it")
    done = subprocess.run([path, *arguments], capture_output=True, text=True)
    if os.strerror(errno.ENOSPC) in done.stderr:
        raise OSError(errno.ENOSPC, f"{program}: {os.strerror(errno.ENOSPC)}")
    if done.returncode:
        raise RuntimeError(f"{program} exited with {done.returncode}: {done.stderr[-500:]}")
