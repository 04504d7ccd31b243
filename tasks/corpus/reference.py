"""Which documents of a language read well, and their split in two folds.

The documents of the recipe's reference kinds serve as reference, in two folds by the hash of cc_net's normal form, and a
document is only scored by the model of the fold that it is not in. Equal texts are in one fold.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polylm.kernels import ccnet_normalize, minhash, utf8
from polylm.tasks.corpus.language import BATCH_BYTES, places_by_language
from polylm.tasks.documents.schema import REFERENCE
from polylm.tasks.rules import Rules, at_most, lookup
from polylm.tasks.stage import Field, NoParams, Params, Rows, gate

FOLDS = ("0", "1")
Bytes: TypeAlias = NDArray[np.uint8]
Ints: TypeAlias = NDArray[np.int64]
Hashes: TypeAlias = NDArray[np.uint64]


class ReferenceParams(Params):
    languages: tuple[str, ...] = Field(
        (), description="Languages to train for; none given: those that the recipe wants."
    )
    reference_kinds: tuple[str, ...] = Field(
        (REFERENCE, "doc", "book", "wiki", "encyclopedic", "instruction"),
        description="Kinds of documents that read well: all of sources whose role it is, and these; `instruction` is what FineWeb2-HQ adds.",
        source="PolyLM 3.1: Wikipedia, books; FineWeb2-HQ (arXiv 2502.10361)",
    )

    def jobs(self) -> Sequence[str]:
        return self.languages

    def covering(self, wanted: Sequence[str]) -> Self:
        """These params for the languages that the recipe wants, if they name none of their own."""
        return self if self.languages else self.model_copy(update={"languages": tuple(wanted)})


@gate(reads=["kind"])
def set_aside_references(rows: Rows, params: NoParams) -> Rules:
    """Set the documents of reference sources aside: they teach what good text is, and are not part of the corpus."""
    names = rows["kind"].dictionary.to_pylist()
    return {"reference": at_most(lookup(rows["kind"], {name: float(name == REFERENCE) for name in names}, 0.0), 0)}


class NormalTexts:
    """Texts in cc_net's normal form, end to end, with a hash of each; equal forms have equal hashes."""

    def __init__(self, texts: pa.Array) -> None:
        self.data, self.offsets = ccnet_normalize.normalized(texts)
        self.hashes: Hashes = minhash.exact(self.data, self.offsets)

    @property
    def folds(self) -> Hashes:
        return self.hashes & np.uint64(1)

    def __getitem__(self, row: int) -> bytes:
        return self.data[self.offsets[row] : self.offsets[row + 1]].tobytes()


def rows_of(rows: Rows, language: str, kinds: Sequence[str] | None = None) -> Rows:
    """The rows of one language, and of some kinds."""
    wanted = np.zeros(len(rows["text"]), np.bool_)
    wanted[places_by_language(rows["language"]).get(language, [])] = True
    if kinds is not None:
        wanted &= is_of(rows["kind"], kinds)
    return {name: values.filter(pa.array(wanted)) for name, values in rows.items()}


def is_of(kinds: pa.Array, wanted: Sequence[str]) -> NDArray[np.bool_]:
    return np.asarray(np.isin(np.asarray(kinds.fill_null("")), wanted), np.bool_)


def normal_batches(texts: pa.Array) -> Iterator[tuple[int, pa.Array, NormalTexts]]:
    """(first row, texts, their normal forms), at most `BATCH_BYTES` of text or one row at a time."""
    begin = 0
    for batch in utf8.row_batches(texts, BATCH_BYTES):
        yield begin, batch, NormalTexts(batch)
        begin += len(batch)


def fold(hash_: int) -> int:
    return hash_ & 1


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
        """One file of all lines that were kept, the rarest hashes first: its beginning is a sample, too."""
        whole = self._folder / "lines.txt"
        with whole.open("wb") as out:
            for level in range(64, self._lowest - 1, -1):
                if self._path(level).exists():
                    with self._path(level).open("rb") as file:
                        shutil.copyfileobj(file, out)
                    self._path(level).unlink()
        return whole

    def _path(self, level: int) -> Path:
        return self._folder / str(level)
