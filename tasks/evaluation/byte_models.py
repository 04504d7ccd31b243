"""What a model must beat: a byte unigram and a byte 5-gram of each language, from the training split's own text."""

import json
import math
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polylm.deployments.settings import cache_folder
from polylm.tasks.evaluation.languages import LANGUAGES, EvaluationError
from polylm.tasks.stage import Corpus, Field, Params, Workspace, files

ORDER = 5
# lmplz cuts at white space, so bytes are written as hexadecimal words.
_PADDED = 256 + 3  # with <unk>, <s> and </s>: an unseen byte gets one byte's share of what smoothing sets aside


class ByteModelParams(Params):
    """Of which languages, and from how much text."""

    languages: tuple[str, ...] = Field(
        default=tuple(LANGUAGES), min_length=1, description="Languages, by the codes of the language column."
    )
    max_bytes: int = Field(
        default=20_000_000, ge=1_000, unit="bytes",
        description="Text of a language that is read, from its first document on; more hardly moves a byte 5-gram.",
    )  # fmt: skip
    memory: str = Field(default="128M", pattern=r"^\d+[KMG]$", description="Working memory of lmplz.")

    def jobs(self) -> Sequence[str]:
        return self.languages


@files(reads=["text", "language", "weight", "split"], each="language")
def train_byte_models(corpus: Corpus, params: ByteModelParams, *, work: Workspace, job: str) -> None:
    """Train a byte unigram and a byte 5-gram (lmplz, modified Kneser-Ney) on the text of one language.

    Of the selected documents of the split `train`; lines are the sentences. Holds one part and lmplz's memory.
    """
    source = work.scratch / "bytes.txt"
    with source.open("w", encoding="ascii") as out:
        counts = _write_bytes(_lines(corpus, job, params.max_bytes), out)
    (work.out / "unigram.json").write_text(json.dumps(counts.tolist()), encoding="ascii")
    if counts.sum():
        _run_lmplz(source, work.out / "5gram.arpa", work.scratch, params.memory)
    source.unlink()


def score_unigram(folder: Path, texts: Sequence[str]) -> list[float]:
    """Nats of each text under the byte unigram, with one added to the count of each of the 256 bytes."""
    counts = np.array(json.loads((folder / "unigram.json").read_text(encoding="ascii")), np.float64) + 1
    costs = -np.log(counts / counts.sum())
    return [float(costs[np.frombuffer(text.encode(), np.uint8)].sum()) for text in texts]


def score_ngram(folder: Path, texts: Sequence[str]) -> list[float]:
    """Nats of each text under the byte 5-gram, each line from its start; ends of lines are not scored.

    Without any training text the model is uniform: ln 256 a byte.
    """
    path = folder / f"{ORDER}gram.arpa"
    if not path.is_file():
        return [len(text.encode()) * math.log(256) for text in texts]
    import kenlm  # only where a model is really loaded

    config = kenlm.Config()
    config.show_progress, config.arpa_complain = False, kenlm.ARPALoadComplain.NONE
    model = kenlm.Model(str(path), config)
    return [sum(_line_nats(model, line) for line in text.encode().splitlines()) for text in texts]


def find_lmplz() -> Path:
    """The program that `make run` builds; EvaluationError says how to get it."""
    program = cache_folder() / "bin" / "lmplz"
    if not program.is_file():
        raise EvaluationError(f"{program}: not there; `make run` builds it from kenlm's source archive")
    return program


def _lines(corpus: Corpus, language: str, max_bytes: int) -> Iterator[bytes]:
    """The language's lines in document order, until `max_bytes` are read."""
    read = 0
    for rows in corpus:
        mine = pc.and_(_is(rows["language"], language), _is(rows["split"], "train"))
        mine = pc.and_(mine, pc.is_valid(rows["weight"]))
        for text in rows["text"].filter(mine).drop_null().to_pylist():
            for line in text.encode().splitlines():
                if line:
                    yield line
                read += len(line)
            if read >= max_bytes:
                return


def _is(values: pa.Array, name: str) -> pa.Array:
    return pc.fill_null(pc.equal(values.cast(pa.string()), name), False)


def _write_bytes(lines: Iterable[bytes], out: IO[str]) -> "np.ndarray[Any, np.dtype[np.int64]]":
    counts = np.zeros(256, np.int64)
    for line in lines:
        counts += np.bincount(np.frombuffer(line, np.uint8), minlength=256)
        out.write(line.hex(" ") + "\n")
    return counts


def _run_lmplz(source: Path, arpa: Path, scratch: Path, memory: str) -> None:
    # Discounts of a few hundred distinct bytes cannot be estimated from counts of counts: --discount_fallback.
    options = ["-o", str(ORDER), "-S", memory, "-T", str(scratch), "--discount_fallback", "--vocab_pad", str(_PADDED)]
    with source.open("rb") as text, arpa.open("wb") as out:
        done = subprocess.run(
            [str(find_lmplz()), *options], stdin=text, stdout=out, stderr=subprocess.PIPE, check=False
        )
    if done.returncode:
        raise RuntimeError(f"lmplz ended with {done.returncode}: {done.stderr.decode(errors='replace')[-500:].strip()}")


def _line_nats(model: Any, line: bytes) -> float:
    return -float(model.score(line.hex(" "), bos=True, eos=False)) * math.log(10)
