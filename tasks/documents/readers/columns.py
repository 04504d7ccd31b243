"""Columns of Arrow as records: what Parquet and Arrow files have in common."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from polylm.tasks.documents.readers.batches import Collector
from polylm.tasks.documents.schema import FOUND_BYTES, BadRecord, FieldMap, too_long

_TEXT_KINDS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_null,
)


def raise_if_disk(error: Exception) -> None:
    """Raise an error of the disk again: pyarrow reports damaged content as OSError too, but without an errno."""
    if isinstance(error, OSError) and error.errno:
        raise error


def one_line(error: Exception) -> str:
    """An error's message on one line."""
    return " ".join(str(error).split())


def check_fields(path: Path, schema: pa.Schema, fields: FieldMap) -> list[str]:
    """The names of the columns, each another one.

    Raises ValueError where a field is missing, where one that fills a column of documents is there twice, and where the text
    field holds no strings.
    """
    name = fields.fields["text"]
    if name not in schema.names:
        raise ValueError(
            f"{path}: no column is the text field {name!r}; the fields found are {', '.join(schema.names)}; name the right "
            "one in the source's fields, such as text: content"
        )
    names = fields.distinct(path, schema.names)
    kind = schema.field(name).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(is_kind(kind) for is_kind in _TEXT_KINDS):
        raise ValueError(f"{path}: the text field {name!r} is of type {kind}; expected strings")
    fields.check(path, schema.names)
    return names


def pieces(batch: pa.RecordBatch, max_bytes: int) -> Iterator[list[pa.Array]]:
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


def collect(row: int, record: dict[str, Any], size: int, out: Collector) -> None:
    """Add one row as a document or a bad record."""
    text, limit = record[out.options.fields.fields["text"]], out.options.max_record_bytes
    try:
        if isinstance(text, str) and len(text) * 4 > limit and len(text.encode()) > limit:
            raise BadRecord(too_long(limit))
        out.add(out.options.fields.row(record), size)
    except BadRecord as bad:
        out.reject(row, str(bad), text[:FOUND_BYTES].encode() if isinstance(text, str) else text or b"")


def values_of(column: pa.Array) -> list[Any]:
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
