"""From files of any known format to parts of documents."""

from collections.abc import Generator, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polylm.tasks.documents.readers import Batch, check, options, read, read_code, read_parallel
from polylm.tasks.documents.schema import BAD_RECORD, DOCUMENT, REFERENCE
from polylm.tasks.documents.sources import CODE, Piece
from polylm.tasks.stage import Field, Params, files


class IngestParams(Params):
    part_rows: int = Field(100_000, ge=1, le=1 << 24, description="Most documents of a part.", source="ours")
    part_bytes: int = Field(
        128 << 20,
        ge=1,
        description="Most text of a part. What a worker holds grows with it: some 8 times as much.",
        unit="bytes",
        source="ours; docs/benchmarks.md",
    )
    split_bytes: int = Field(
        256 << 20, ge=1, description="Size of the ranges that a large file is split into.", unit="bytes"
    )
    max_record_bytes: int = Field(
        64 << 20, ge=1, le=1 << 30, description="Longer records are bad ones.", unit="bytes", source="ours"
    )


@files(reads=[], writes=DOCUMENT, each="file", version=4, libraries=["FastWARC", "Resiliparse", "isal"])
def ingest(piece: Piece, params: IngestParams) -> Generator[pa.Table, None, pa.Table]:
    """Read documents; what cannot be parsed goes to a table of bad records: records = documents + bad.

    Yields parts, returns the bad records. Memory: one part, twice; about 300 bytes a bad record of the piece.
    """
    bad = [BAD_RECORD.empty_table()]
    yield from cut(_documents(piece, params, bad), params.part_rows, params.part_bytes)
    return pa.concat_tables(bad).combine_chunks()


def cut(tables: Iterator[pa.Table], part_rows: int, part_bytes: int) -> Iterator[pa.Table]:
    """Cut a stream of documents where a part is full: after `part_rows` rows, or before its text exceeds `part_bytes`.

    A text longer than that is a part of its own. Where the stream's own tables end makes no difference.
    """
    held: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        sizes = np.cumsum(pc.binary_length(table["text"]).to_numpy())
        begin = 0
        while begin < table.num_rows:
            before = int(sizes[begin - 1]) if begin else 0
            fits = int(np.searchsorted(sizes, before + part_bytes - size, side="right")) - begin
            count = min(part_rows - rows, fits)
            if count <= 0 and not held:
                count = 1
            if count <= 0:
                yield pa.concat_tables(held)
                held, rows, size = [], 0, 0
                continue
            held.append(table.slice(begin, count))
            begin, rows = begin + count, rows + count
            size += int(sizes[begin - 1]) - before
    if held:
        yield pa.concat_tables(held)


def _documents(piece: Piece, params: IngestParams, bad: list[pa.Table]) -> Iterator[pa.Table]:
    for batch in _unchanged(piece, _batches(piece, params)):
        if batch.bad.num_rows:
            bad.append(batch.bad)
        yield _marked(batch.documents) if piece.reading.role == "reference" else batch.documents


def _unchanged(piece: Piece, batches: Iterator[Batch]) -> Iterator[Batch]:
    """Batches that were read from the files that were listed: parts are known by the content that these had."""
    places = (piece.place, *piece.more)
    for batch in batches:
        for place in places[:1] if piece.format == CODE else places:  # a batch of code is thousands of files
            place.check_unchanged()
        yield batch
    for place in places:
        place.check_unchanged()


def _marked(documents: pa.Table) -> pa.Table:
    """Documents of a reference: that is their kind, whatever their source calls it."""
    place = documents.schema.get_field_index("kind")
    field = documents.schema.field(place)
    return documents.set_column(place, field, pa.array([REFERENCE] * len(documents), pa.string()).cast(field.type))


def _batches(piece: Piece, params: IngestParams) -> Iterator[Batch]:
    """The batches of a piece, whose files are fetched where they are not on this machine."""
    paths = [place.local() for place in (piece.place, *piece.more)]
    reading, most = piece.reading, params.max_record_bytes
    if piece.format == CODE:
        names = [place.name for place in (piece.place, *piece.more)]
        return read_code(paths, names, options(max_record_bytes=most))
    if piece.place.cache is not None and not piece.more:
        check(paths[0], piece.format)
    if len(reading.languages) == 2:
        one, other = reading.languages
        return read_parallel(paths, piece.format, (one, other), reading.fields, options(max_record_bytes=most))
    return read(
        paths[0],
        piece.format,
        piece.range,
        fields=reading.fields,
        documents=reading.documents,
        extract=reading.extract,
        max_record_bytes=most,
    )
