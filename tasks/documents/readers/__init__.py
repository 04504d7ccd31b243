"""Read files of documents, of any size, in bounded memory: every record becomes a document or a bad record, none is lost."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from polylm.tasks.documents.places import Place
from polylm.tasks.documents.readers.arrow import read_arrow
from polylm.tasks.documents.readers.batches import Batch, Options, Range
from polylm.tasks.documents.readers.code import programming_language, read_code
from polylm.tasks.documents.readers.delimited import read_delimited
from polylm.tasks.documents.readers.formats import FORMATS, KNOWN, SUFFIXES, by_name, check, detect
from polylm.tasks.documents.readers.frames import can_split
from polylm.tasks.documents.readers.jsonl import read_jsonl
from polylm.tasks.documents.readers.parallel import read_parallel
from polylm.tasks.documents.readers.parquet import read_parquet, split_parquet
from polylm.tasks.documents.readers.text import UNITS, read_text
from polylm.tasks.documents.readers.warc import EXTRACTORS, read_warc
from polylm.tasks.documents.readers.wikipedia import read_wikipedia
from polylm.tasks.documents.schema import FieldMap

__all__ = [
    "EXTRACTORS",
    "FORMATS",
    "KNOWN",
    "SUFFIXES",
    "UNITS",
    "Batch",
    "FieldMap",
    "Range",
    "by_name",
    "check",
    "detect",
    "options",
    "programming_language",
    "read",
    "read_code",
    "read_parallel",
    "split",
    "split_place",
]

_MAX_BATCH_BYTES = 1 << 30  # an Arrow string column holds 2 GiB


def split(path: Path | str, format: str, target_bytes: int, *, documents: str = "file") -> list[Range]:
    """Cut one file into ranges of about `target_bytes`; their documents join to those of the whole file.

    Plain JSONL and text (but for `documents="file"`), WARC, and WARC whose records are gzip members of their own are cut by
    bytes, Parquet between row groups (their decompressed bytes count); others are one range.
    """
    path = Path(path)
    assert format in FORMATS, format
    assert target_bytes > 0, target_bytes
    _check_unit(documents)
    if format == "parquet":
        return split_parquet(path, path, target_bytes)
    size = path.stat().st_size
    if format == "warc.gz" and size > target_bytes and not can_split(path):
        return [Range(0, size)]
    return _by_bytes(size, format, target_bytes, documents)


def split_place(place: Place, format: str, target_bytes: int, *, documents: str = "file") -> list[Range]:
    """The same of a file elsewhere, of which only the footer of a large Parquet is looked at."""
    _check_unit(documents)
    if format == "parquet" and place.size > target_bytes:
        with place.open() as file:
            return split_parquet(place.where, file, target_bytes)
    return _by_bytes(place.size, format, target_bytes, documents)


def _by_bytes(size: int, format: str, target_bytes: int, documents: str) -> list[Range]:
    by_lines = format == "jsonl" or (format == "text" and documents != "file")
    if by_lines or format in ("warc", "warc.gz"):
        return [Range(start, min(start + target_bytes, size)) for start in range(0, size, target_bytes)]
    return [Range(0, size)]


def read(
    path: Path | str,
    format: str,
    range_: Range,
    *,
    fields: Mapping[str, str] | None = None,
    documents: str = "file",
    extract: str = "resiliparse",
    batch_rows: int = 2_000,
    batch_bytes: int = 16 << 20,
    max_record_bytes: int = 64 << 20,
) -> Iterator[Batch]:
    """Read the records that start in a range, in order, as batches of documents and bad records.

    `fields` names the source's field for a column of `DOCUMENT` (JSONL, tables); `documents` says what is one in plain
    text: "file", "blank-line" (between blank lines) or "line"; `extract` what takes the text out of WARC's pages. A batch ends at `batch_rows` records or `batch_bytes` of
    text; a record of more than `max_record_bytes` is bad and never held whole (but in Parquet, whose pages are decoded
    whole). Raises ValueError for options that do not exist, for a text field that no record at the head of the file has,
    and for a Parquet file whose footer cannot be read. Damage further on is a bad record: what was read before it stays.
    """
    assert format in FORMATS, format
    _check_unit(documents)
    path = Path(path)
    options_ = options(fields, documents, extract, batch_rows, batch_bytes, max_record_bytes)
    match format.partition(".")[0]:
        case "jsonl":
            return read_jsonl(path, format, range_, options_)
        case "text":
            return read_text(path, format, range_, options_)
        case "parquet":
            return read_parquet(path, range_, options_)
        case "arrow":
            return read_arrow(path, options_)
        case "csv" | "tsv":
            return read_delimited(path, format, options_)
        case "wikipedia":
            return read_wikipedia(path, format, options_)
        case _:
            return read_warc(path, format, range_, options_)


def options(
    fields: Mapping[str, str] | None = None,
    documents: str = "file",
    extract: str = "resiliparse",
    batch_rows: int = 2_000,
    batch_bytes: int = 16 << 20,
    max_record_bytes: int = 64 << 20,
) -> Options:
    """How to read, as `read` documents it; ValueError for columns that do not exist."""
    assert batch_rows > 0, batch_rows
    assert 0 < batch_bytes <= _MAX_BATCH_BYTES, batch_bytes
    assert 0 < max_record_bytes <= _MAX_BATCH_BYTES, max_record_bytes
    assert extract in EXTRACTORS, extract
    return Options(FieldMap.of(fields), documents, batch_rows, batch_bytes, max_record_bytes, extract)


def _check_unit(documents: str) -> None:
    """Raise ValueError for a unit of plain text that does not exist."""
    if documents not in UNITS:
        raise ValueError(f"documents: found {documents!r}, expected one of {', '.join(UNITS)}")
