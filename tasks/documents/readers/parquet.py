"""Parquet: rows of a table, read a batch at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from polylm.tasks.documents.readers.batches import Batch, Collector, Options, Range
from polylm.tasks.documents.schema import FOUND_BYTES, BadRecord, too_long

_BUFFER_BYTES = 1 << 20
_TEXT_KINDS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_null,
)


def split_parquet(path: Path, target_bytes: int) -> list[Range]:
    """Group neighbouring row groups until they have `target_bytes`, decompressed.

    Compressed sizes stand with the columns, and pyarrow 26 aborts the process where those are damaged.
    """
    with _open(path) as file:
        sizes = [file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups)]
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
    with _open(path) as file:
        _check_text_field(path, file.schema_arrow, options.fields.fields["text"])
        groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
        first_row = sum(group.num_rows for group in groups[: range_.start])
        for number, group in list(enumerate(groups))[range_.start : range_.stop]:
            for row, record, size in _records(file, number, first_row, out):
                _collect(row, record, size, out)
                if out.is_full:
                    yield out.flush()
            first_row += group.num_rows
    if not out.is_empty:
        yield out.flush()


def _open(path: Path) -> pq.ParquetFile:
    """Open a file by its footer."""
    options: dict[str, Any] = {"pre_buffer": False, "buffer_size": _BUFFER_BYTES, "page_checksum_verification": True}
    try:
        with pq.ParquetFile(path, **options) as file:
            strings = _strings(file.schema_arrow)
        # Kept as dictionaries, because one long value and a million rows that name it unpack to a million long values.
        return pq.ParquetFile(path, **options, read_dictionary=strings)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        _raise_if_disk(error)
        raise ValueError(f"{path}: the footer of the Parquet file cannot be read: {_one_line(error)}") from error


def _strings(schema: pa.Schema) -> list[str]:
    """The columns whose values have no fixed length."""
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return [field.name for field in schema if any(is_kind(field.type) for is_kind in kinds)]


def _raise_if_disk(error: Exception) -> None:
    """Raise an error of the disk again: pyarrow reports damaged content as OSError too, but without an errno."""
    if isinstance(error, OSError) and error.errno:
        raise error


def _one_line(error: Exception) -> str:
    """An error's message on one line."""
    return " ".join(str(error).split())


def _check_text_field(path: Path, schema: pa.Schema, name: str) -> None:
    """Raise ValueError where no column, or more than one, is called as the text field is, or where it holds no strings."""
    if schema.names.count(name) != 1:
        raise ValueError(
            f"{path}: {'more than one' if name in schema.names else 'no'} column is the text field {name!r}; the fields "
            f"found are {', '.join(schema.names)}; name the right one in the source's fields, such as text: content"
        )
    kind = schema.field(name).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(is_kind(kind) for is_kind in _TEXT_KINDS):
        raise ValueError(f"{path}: the text field {name!r} is of type {kind}; expected strings")


def _records(
    file: pq.ParquetFile, number: int, first_row: int, out: Collector
) -> Iterator[tuple[int, dict[str, Any], int]]:
    """Yield row number, record and size of the rows of one group; the rows that cannot be read become one bad record."""
    group = file.metadata.row_group(number)
    row, end, reason = first_row, first_row + group.num_rows, "it ends early"
    try:
        for batch in file.iter_batches(_batch_rows(group, out.options), row_groups=[number], use_threads=False):
            names = batch.schema.names
            for piece in _pieces(batch, out.options.batch_bytes):
                columns = [_values(column) for column in piece]
                size = sum(column.nbytes for column in piece) // max(1, len(piece[0]))
                for values in zip(*columns, strict=True):
                    yield row, dict(zip(names, values, strict=True)), size
                    row += 1
    except (pa.ArrowException, OSError) as error:
        _raise_if_disk(error)
        reason = _one_line(error)
    if row < end:
        out.reject(row, f"damaged Parquet: {end - row} rows of row group {number} are lost: {reason}", b"")


def _pieces(batch: pa.RecordBatch, max_bytes: int) -> Iterator[list[pa.Array]]:
    """The columns of a batch, dictionaries unpacked, a few rows at a time if they are long."""
    longest = sum(_longest(column) for column in batch.columns)
    rows = max(1, max_bytes // max(1, longest))
    for start in range(0, batch.num_rows, rows):
        yield [_unpacked(column.slice(start, rows)) for column in batch.columns]


def _longest(column: pa.Array) -> int:
    """Bytes of a dictionary's longest value."""
    values = column.dictionary if pa.types.is_dictionary(column.type) else None
    if values is None or not any(is_kind(values.type) for is_kind in _TEXT_KINDS[:5]):
        return 0
    return int(pc.max(pc.binary_length(values)).as_py() or 0)


def _unpacked(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _batch_rows(group: pq.RowGroupMetaData, options: Options) -> int:
    """How many rows of a group fit into a batch."""
    row_bytes = max(1, int(group.total_byte_size) // max(1, int(group.num_rows)))
    return max(1, min(options.batch_rows, options.batch_bytes // row_bytes))


def _collect(row: int, record: dict[str, Any], size: int, out: Collector) -> None:
    """Add one row as a document or a bad record."""
    text, limit = record[out.options.fields.fields["text"]], out.options.max_record_bytes
    try:
        if isinstance(text, str) and len(text) * 4 > limit and len(text.encode()) > limit:
            raise BadRecord(too_long(limit))
        out.add(out.options.fields.row(record), size)
    except BadRecord as bad:
        out.reject(row, str(bad), text[:FOUND_BYTES].encode() if isinstance(text, str) else text or b"")


def _values(column: pa.Array) -> list[Any]:
    """A column as Python values: dates and times as ISO strings, strings that are not UTF-8 as bytes."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp(kind.unit, "UTC" if kind.tz else None)).cast(pa.string())
        return [value and value.replace(" ", "T") for value in column.to_pylist()]
    if pa.types.is_date(kind) or pa.types.is_time(kind):
        return list(column.cast(pa.string()).to_pylist())
    try:
        column.validate(full=True)
        return list(column.to_pylist())
    except (ValueError, OverflowError):  # strings that are not UTF-8, dates that Python does not have
        return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    """One value of a column that holds invalid ones."""
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return (
            scalar.as_buffer().to_pybytes()
            if hasattr(scalar, "as_buffer")
            else f"a {scalar.type} that Python cannot hold"
        )
