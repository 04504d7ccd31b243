"""Arrow's own files, as Hugging Face's `datasets` saves them: record batches, one in memory at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from polylm.tasks.documents.readers.batches import Batch, Collector, Options
from polylm.tasks.documents.readers.columns import (
    check_fields,
    collect,
    one_line,
    pieces,
    raise_if_disk,
    values_of,
)

_FILE_MAGIC = b"ARROW1"  # a stream, which `datasets` writes, has none


def read_arrow(path: Path, options: Options) -> Iterator[Batch]:
    """Read a file or a stream of record batches; from the first that cannot be read on, one bad record stands for the rest.

    Memory: a record batch as it was written (`datasets` writes 1,000 rows), and a batch of documents.
    """
    out = Collector(path, options, unit="row")
    row = 0
    with pa.OSFile(str(path)) as file:
        batches = _open(path, file)
        names = check_fields(path, batches.schema, options.fields)
        try:
            for batch in _batches(batches):
                for record, size in _records(batch, names, options):
                    collect(row, record, size, out)
                    row += 1
                    if out.is_full:
                        yield out.flush()
        except (pa.ArrowException, OSError, MemoryError) as error:
            raise_if_disk(error)
            out.reject(row, f"damaged Arrow: what follows row {row} is lost: {one_line(error)}", b"")
    if not out.is_empty:
        yield out.flush()


def _open(path: Path, file: pa.NativeFile) -> Any:
    """A reader of the file, by its first bytes."""
    is_file = path.open("rb").read(len(_FILE_MAGIC)) == _FILE_MAGIC
    try:
        return pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise_if_disk(error)
        raise ValueError(f"{path}: the Arrow file cannot be read: {one_line(error)}") from error


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    """The record batches, each checked, because offsets that lead out of their buffer would end the process."""
    if isinstance(reader, pa.RecordBatchFileReader):
        found = (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        found = iter(reader)
    for batch in found:
        batch.validate()
        for column in batch.columns:
            _check_offsets(column)
        yield batch


def _check_offsets(column: pa.Array) -> None:
    """Raise ArrowInvalid where values lie outside their buffers; that a string is not UTF-8 is its record's matter."""
    kind = column.type
    if pa.types.is_string(kind):
        column.view(pa.binary()).validate(full=True)
    elif pa.types.is_large_string(kind):
        column.view(pa.large_binary()).validate(full=True)
    else:
        column.validate(full=True)


def _records(batch: pa.RecordBatch, names: list[str], options: Options) -> Iterator[tuple[dict[str, Any], int]]:
    """The rows of a record batch, and about how many bytes each has."""
    for start in range(0, batch.num_rows, options.batch_rows):
        for piece in pieces(batch.slice(start, options.batch_rows), options.batch_bytes):
            columns = [values_of(column) for column in piece]
            size = sum(column.nbytes for column in piece) // max(1, len(piece[0]))
            for values in zip(*columns, strict=True):
                yield dict(zip(names, values, strict=True)), size
