"""What a reader hands over: documents and bad records, a batch at a time."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polylm.tasks.documents.schema import BAD_RECORD, DOCUMENT, FieldMap, Row, escape

T = TypeVar("T")


@dataclass(frozen=True, order=True)
class Range:
    """A stretch of one file, from `start` up to and without `stop`: bytes of the file, or row groups of Parquet."""

    start: int
    stop: int


@dataclass(frozen=True)
class Batch:
    """Some records of a file, in its order: every record is either a document or a bad record."""

    documents: pa.Table  # DOCUMENT
    bad: pa.Table  # BAD_RECORD


@dataclass(frozen=True)
class Options:
    """How to read; `read` documents each of them."""

    fields: FieldMap
    documents: str
    batch_rows: int
    batch_bytes: int
    max_record_bytes: int
    extract: str = "resiliparse"


@dataclass
class Collector:
    """Collects records until a batch is full."""

    path: Path
    options: Options
    unit: str = "byte"
    _tables: list[pa.Table] = field(default_factory=list)
    _held: int = 0  # documents of the tables
    _rows: list[Row] = field(default_factory=list)  # that come after these
    _bad: list[tuple[str, int, str, str, str]] = field(default_factory=list)
    _bytes: int = 0

    def add(self, row: Row, size_bytes: int) -> None:
        """Add a document; `size_bytes` is about what it takes in memory."""
        self._rows.append(row)
        self._bytes += size_bytes

    def extend(self, documents: pa.Table, sizes_bytes: NDArray[np.int64]) -> Iterator[Batch]:
        """Add many documents, and hand over each batch as soon as it is full."""
        self._to_table()
        ends, begin = np.cumsum(sizes_bytes), 0
        while begin < len(documents):
            full = (int(ends[begin - 1]) if begin else 0) + self.options.batch_bytes - self._bytes
            end = min(
                begin + self.options.batch_rows - self._held - len(self._bad),
                int(np.searchsorted(ends, full)) + 1,
                len(documents),
            )
            self._tables.append(documents.slice(begin, end - begin))
            self._held += end - begin
            self._bytes += int(sizes_bytes[begin:end].sum())
            begin = end
            if self.is_full:
                yield self.flush()

    def reject(self, offset: int, reason: str, found: bytes) -> None:
        """Add a bad record."""
        self._bad.append((self.path.name, offset, self.unit, reason, escape(found)))

    @property
    def is_full(self) -> bool:
        """Is it time to hand the batch over?"""
        records = self._held + len(self._rows) + len(self._bad)
        return records >= self.options.batch_rows or self._bytes >= self.options.batch_bytes

    @property
    def is_empty(self) -> bool:
        """Is there nothing to hand over?"""
        return not self._held and not self._rows and not self._bad

    def flush(self) -> Batch:
        """Hand over what was collected and start again."""
        self._to_table()
        documents = pa.concat_tables(self._tables) if self._tables else DOCUMENT.empty_table()
        batch = Batch(documents, _table(self._bad, BAD_RECORD) if self._bad else BAD_RECORD.empty_table())
        self._tables, self._held, self._bad, self._bytes = [], 0, [], 0
        return batch

    def _to_table(self) -> None:
        """Lay out the rows."""
        if self._rows:
            self._tables.append(_table(self._rows, DOCUMENT))
            self._held, self._rows = self._held + len(self._rows), []


class Damaged(Exception):
    """The compressed data of a file cannot be read to its end.

    `offset` is the decompressed byte at which the record that it interrupts starts, `found` that record's beginning, and
    `resume` the byte of the file itself at or before the damage.
    """

    def __init__(self, reason: str, resume: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.resume = resume
        self.offset = 0
        self.found = b""


def gathered(records: Iterable[T], collect: Callable[[T, Collector], None], out: Collector) -> Iterator[Batch]:
    """The batches that `collect` makes of all records of a file."""
    return to_the_end(full_batches(records, collect, out), out)


def full_batches(records: Iterable[T], collect: Callable[[T, Collector], None], out: Collector) -> Iterator[Batch]:
    """The batches that become full while `collect` takes records in; what is left stays in `out`."""
    for record in records:
        collect(record, out)
        if out.is_full:
            yield out.flush()


def to_the_end(batches: Iterator[Batch], out: Collector) -> Iterator[Batch]:
    """The full batches of a file and what is left; where the file is damaged, that is the last bad record."""
    try:
        yield from batches
    except Damaged as damage:
        out.reject(damage.offset, damage.reason, damage.found)
    if not out.is_empty:
        yield out.flush()


def _table(rows: list[Row] | list[tuple[str, int, str, str, str]], schema: pa.Schema) -> pa.Table:
    """Lay tuples out as columns."""
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.table(
        [pa.array(column, column_field.type) for column, column_field in zip(columns, schema, strict=True)],
        schema=schema,
    )
