"""Parquet: rows of a table, read a batch at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from polylm.tasks.documents.readers.batches import Batch, Collector, Options, Range
from polylm.tasks.documents.readers.columns import (
    check_fields,
    collect,
    one_line,
    pieces,
    raise_if_disk,
    values_of,
)

_BUFFER_BYTES = 1 << 20


def split_parquet(path: Path | str, file: Any, target_bytes: int) -> list[Range]:
    """Group neighbouring row groups until they have `target_bytes`, decompressed; `file` is the path or an open file.

    Compressed sizes stand with the columns, and pyarrow 26 aborts the process where those are damaged.
    """
    with _open(path, file) as table:
        sizes = [table.metadata.row_group(group).total_byte_size for group in range(table.metadata.num_row_groups)]
    ranges, start, held = [], 0, 0
    for group, size in enumerate(sizes):
        held += size
        if held >= target_bytes or group == len(sizes) - 1:
            ranges.append(Range(start, group + 1))
            start, held = group + 1, 0
    return ranges


def read_parquet(path: Path, range_: Range, options: Options) -> Iterator[Batch]:
    """Read the row groups of a range; where one cannot be read on, a bad record says how many of its rows are lost."""
    out = Collector(path, options, unit="row")
    with _open(path, path) as file:
        names = check_fields(path, file.schema_arrow, options.fields)
        groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
        first_row = sum(group.num_rows for group in groups[: range_.start])
        for number, group in list(enumerate(groups))[range_.start : range_.stop]:
            for row, record, size in _records(file, names, number, first_row, out):
                collect(row, record, size, out)
                if out.is_full:
                    yield out.flush()
            first_row += group.num_rows
    if not out.is_empty:
        yield out.flush()


def _open(path: Path | str, file: Any) -> pq.ParquetFile:
    """Open a file by its footer."""
    options: dict[str, Any] = {"pre_buffer": False, "buffer_size": _BUFFER_BYTES, "page_checksum_verification": True}
    try:
        with pq.ParquetFile(file, **options) as table:
            strings = _strings(table.schema_arrow)
        # Kept as dictionaries, because one long value and a million rows that name it unpack to a million long values.
        return pq.ParquetFile(file, **options, read_dictionary=strings)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise_if_disk(error)
        raise ValueError(f"{path}: the footer of the Parquet file cannot be read: {one_line(error)}") from error


def _strings(schema: pa.Schema) -> list[str]:
    """The columns whose values have no fixed length."""
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return [field.name for field in schema if any(is_kind(field.type) for is_kind in kinds)]


def _records(
    file: pq.ParquetFile, names: list[str], number: int, first_row: int, out: Collector
) -> Iterator[tuple[int, dict[str, Any], int]]:
    """Yield row number, record and size of the rows of one group; the rows that cannot be read become one bad record."""
    group = file.metadata.row_group(number)
    row, end, reason = first_row, first_row + group.num_rows, "it ends early"
    try:
        for batch in file.iter_batches(_batch_rows(group, out.options), row_groups=[number], use_threads=False):
            for piece in pieces(batch, out.options.batch_bytes):
                columns = [values_of(column) for column in piece]
                size = sum(column.nbytes for column in piece) // max(1, len(piece[0]))
                for values in zip(*columns, strict=True):
                    yield row, dict(zip(names, values, strict=True)), size
                    row += 1
    except (pa.ArrowException, OSError) as error:
        raise_if_disk(error)
        reason = one_line(error)
    if row < end:
        out.reject(row, f"damaged Parquet: {end - row} rows of row group {number} are lost: {reason}", b"")


def _batch_rows(group: pq.RowGroupMetaData, options: Options) -> int:
    """How many rows of a group fit into a batch."""
    row_bytes = max(1, int(group.total_byte_size) // max(1, int(group.num_rows)))
    return max(1, min(options.batch_rows, options.batch_bytes // row_bytes))
