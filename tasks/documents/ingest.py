"""From files of any known format to parts of documents."""

from collections.abc import Generator, Iterator

import pyarrow as pa

from polylm.tasks.documents.readers import read
from polylm.tasks.documents.schema import BAD_RECORD, DOCUMENT
from polylm.tasks.documents.sources import Piece
from polylm.tasks.stage import Field, Params, files


class IngestParams(Params):
    part_rows: int = Field(100_000, ge=1, le=1 << 24, description="Most documents of a part.", source="ours")
    part_bytes: int = Field(256 << 20, ge=1, description="Most text of a part.", unit="bytes", source="ours")
    split_bytes: int = Field(
        256 << 20, ge=1, description="Size of the ranges that a large file is split into.", unit="bytes"
    )
    max_record_bytes: int = Field(
        64 << 20, ge=1, description="Longer records are bad ones.", unit="bytes", source="ours"
    )


@files(reads=[], writes=DOCUMENT, each="file", version=1)
def ingest(piece: Piece, params: IngestParams) -> Generator[pa.Table, None, pa.Table]:
    """Read documents; what cannot be parsed goes to a table of bad records: records = documents + bad.

    Yields parts, returns the bad records. Holds one part in memory.
    """
    bad = [BAD_RECORD.empty_table()]
    yield from _cut(_documents(piece, params, bad), params)
    return pa.concat_tables(bad).combine_chunks()


def _documents(piece: Piece, params: IngestParams, bad: list[pa.Table]) -> Iterator[pa.Table]:
    for batch in read(
        piece.path,
        piece.format,
        piece.range,
        fields=piece.reading.fields,
        documents=piece.reading.documents,
        max_record_bytes=params.max_record_bytes,
    ):
        if batch.bad.num_rows:
            bad.append(batch.bad)
        yield batch.documents


def _cut(tables: Iterator[pa.Table], params: IngestParams) -> Iterator[pa.Table]:
    """Cut a stream of tables where a part is full: after `part_rows` rows, or before `part_bytes` are exceeded."""
    held: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        for start in range(0, table.num_rows, step := max(1, min(params.part_rows, 1_000))):
            piece = table.slice(start, step)
            while piece.num_rows:
                room = params.part_rows - rows
                head = piece.slice(0, room)
                if rows and size + head["text"].nbytes > params.part_bytes:
                    head = head.slice(0, 0)
                if head.num_rows:
                    held.append(head)
                    rows, size = rows + head.num_rows, size + head["text"].nbytes
                piece = piece.slice(head.num_rows)
                if piece.num_rows or rows == params.part_rows:
                    yield pa.concat_tables(held)
                    held, rows, size = [], 0, 0
    if held:
        yield pa.concat_tables(held)
