"""Packed rows: the Parquet that `pack` writes and every rank reads. No torch here."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_PER_GROUP = 256
"""Rows of a row group: what one random access reads, and the block in which the sampler deals."""

_CACHED_GROUPS = 64  # at 2,048 tokens about 2 MB each

Tokens = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]


def packed_schema(context: int) -> pa.Schema:
    """One row of training: `context` + 1 tokens, so that inputs and targets are the same row moved by one.

    tokens       int32, little endian, as fixed-size bytes: 5 times faster to read than a list.
    starts       where each segment (a document or a piece of one) begins; the first is 0.
    loss_starts  in segment k, tokens before loss_starts[k] give no loss. Pre-training: equal to starts[k];
                 fine-tuning: where the answer begins.
    docs         the document's number, for each segment.
    languages    its language, for each segment.
    length       real tokens; the rest is padding and gives no loss.
    cell         the mixture cell, such as de/book.

    Token 0 is never a target: nothing comes before it. The first token of a later segment is one if its
    loss_starts says so, predicted from the last token of the segment before: with a separator there, that is
    how the model learns to end a text.
    """
    return pa.schema(
        [
            pa.field("tokens", pa.binary((context + 1) * 4), nullable=False),
            pa.field("starts", pa.list_(pa.int32()), nullable=False),
            pa.field("loss_starts", pa.list_(pa.int32()), nullable=False),
            pa.field("docs", pa.list_(pa.int64()), nullable=False),
            pa.field("languages", pa.list_(pa.string()), nullable=False),
            pa.field("length", pa.int32(), nullable=False),
            pa.field("cell", pa.string(), nullable=False),
        ]
    )


@dataclass(frozen=True)
class PackedRow:
    """One row; see `packed_schema` for its fields."""

    tokens: Tokens
    starts: Tokens
    loss_starts: Tokens
    docs: Integers
    languages: list[str]
    length: int
    cell: str

    @cached_property
    def segments(self) -> Tokens:
        """The segment of each token, from 0; padding belongs to the last."""
        marks = np.zeros(len(self.tokens), np.int32)
        marks[self.starts[1:]] = 1
        return np.cumsum(marks, dtype=np.int32)

    @cached_property
    def is_target(self) -> npt.NDArray[np.bool_]:
        """Whether each token gives a loss."""
        place = np.arange(len(self.tokens))
        target = (place >= self.loss_starts[self.segments]) & (place < self.length)
        target[0] = False
        return target


@dataclass(frozen=True)
class Packed:
    """A table of packed rows as arrays without copies; list columns as values and row offsets (n + 1)."""

    tokens: Tokens  # row, token
    length: Tokens
    offsets: Tokens
    starts: Tokens
    loss_starts: Tokens
    docs: Integers
    languages: list[str]
    cells: list[str]

    def __len__(self) -> int:
        return len(self.length)

    def row(self, index: int) -> PackedRow:
        """Give one row; its arrays are views."""
        here = slice(self.offsets[index], self.offsets[index + 1])
        return PackedRow(
            tokens=self.tokens[index],
            starts=self.starts[here],
            loss_starts=self.loss_starts[here],
            docs=self.docs[here],
            languages=self.languages[here],
            length=int(self.length[index]),
            cell=self.cells[index],
        )


def to_arrays(table: pa.Table) -> Packed:
    """View a table of `packed_schema` as arrays."""
    table = table.combine_chunks()
    columns = {name: _array(table, name) for name in table.column_names}
    offsets = columns["starts"].offsets.to_numpy()
    flat = {name: columns[name].flatten() for name in ("starts", "loss_starts", "docs", "languages")}
    return Packed(
        tokens=_tokens(columns["tokens"]),
        length=columns["length"].to_numpy(),
        offsets=offsets - offsets[0],
        starts=flat["starts"].to_numpy(),
        loss_starts=flat["loss_starts"].to_numpy(),
        docs=flat["docs"].to_numpy(),
        languages=flat["languages"].to_pylist(),
        cells=columns["cell"].to_pylist(),
    )


def _array(table: pa.Table, name: str) -> pa.Array:
    chunks = table.column(name).chunks
    return chunks[0] if chunks else pa.array([], table.schema.field(name).type)


def _tokens(array: pa.Array) -> Tokens:
    width = array.type.byte_width // 4
    values = np.frombuffer(array.buffers()[1], np.dtype("<i4"))
    return values.reshape(-1, width)[array.offset : array.offset + len(array)]


class PackedFiles:
    """Random access to the rows of many packed files, memory-mapped, one row group at a time.

    At most 64 row groups are held. Raises `ValueError` for a file that is missing, is no Parquet, or has
    another schema or context.
    """

    def __init__(self, paths: Sequence[str], context: int) -> None:
        self.paths = list(paths)
        self._files = [_open(path, context) for path in self.paths]
        self._ends = [np.cumsum(_group_rows(file)) for file in self._files]
        self._cache: OrderedDict[tuple[int, int], Packed] = OrderedDict()

    def rows(self, file: int) -> int:
        """Count the rows of one file."""
        return int(self._files[file].metadata.num_rows)

    def __len__(self) -> int:
        return sum(self.rows(file) for file in range(len(self.paths)))

    def row(self, file: int, row: int) -> PackedRow:
        """Read row number `row` of file number `file`."""
        if not 0 <= row < self.rows(file):
            raise ValueError(f"{self.paths[file]}: row {row} of {self.rows(file)}")
        group = int(np.searchsorted(self._ends[file], row, side="right"))
        first = int(self._ends[file][group - 1]) if group else 0
        return self._group(file, group).row(row - first)

    def cells(self, file: int) -> list[str]:
        """Read the mixture cell of every row of one file."""
        cells: list[str] = self._files[file].read(columns=["cell"]).column("cell").to_pylist()
        return cells

    def _group(self, file: int, group: int) -> Packed:
        key = (file, group)
        if key not in self._cache:
            if len(self._cache) >= _CACHED_GROUPS:
                self._cache.popitem(last=False)
            self._cache[key] = to_arrays(self._files[file].read_row_group(group))
        self._cache.move_to_end(key)
        return self._cache[key]


def _group_rows(file: pq.ParquetFile) -> list[int]:
    return [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]


def _open(path: str, context: int) -> pq.ParquetFile:
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file; expected packed rows")
    try:
        file = pq.ParquetFile(path, memory_map=True)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not a readable Parquet file ({error}); expected packed rows") from error
    expected, found = packed_schema(context), file.schema_arrow
    for field in expected:
        index = found.get_field_index(field.name)
        if index < 0 or found.field(index).type != field.type:
            actual = "missing" if index < 0 else f"{found.field(index).type}"
            raise ValueError(
                f"{path}: column {field.name} is {actual}, expected {field.type} (context {context}); pack it again"
            )
    return file
