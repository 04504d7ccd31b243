"""CSV and TSV: a header, then a record a line, or over several where a field is quoted."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from polylm.tasks.documents.readers.batches import Batch, Collector, Options, Range, gathered
from polylm.tasks.documents.readers.streams import Line, is_blank, lines_from
from polylm.tasks.documents.schema import FOUND_BYTES, BadRecord, decode, too_long

Record: TypeAlias = tuple[int, bytes, dict[str, Any] | BadRecord]
_BOM = b"\xef\xbb\xbf"
_DELIMITERS = ",;\t|"  # of CSV, as programs of several countries write it
_LINES = re.compile(r"(?<=\n)")  # not splitlines, which ends a line at U+2028 too
_NUMBERED = re.compile(r"#[1-9]\d*")


@dataclass(frozen=True)
class Found:
    """One record of a table: its place, its bytes (the first, where it is too long), and its values or what is wrong."""

    offset: int
    data: bytes
    length: int
    values: list[str] = field(default_factory=list)
    problem: str | None = None


def read_delimited(path: Path, format: str, options: Options) -> Iterator[Batch]:
    """Read the records of a table.

    Raises ValueError where the header does not have the text field. A field named `#2` is the second column of a table
    without a header.
    """
    return gathered(records(path, format, options), _collect, Collector(path, options))


def records(path: Path, format: str, options: Options) -> Iterator[Record]:
    """Offset, bytes and fields of every record, or why it is a bad one; an empty field is null."""
    wanted = options.fields.fields
    rows = _rows(path, format, options.max_record_bytes)
    names: list[str] | None = None
    for row in rows:
        if names is None and row.problem is None:
            names, is_header = _names(path, row, wanted["text"])
            options.fields.check(path, names)
            if is_header:
                continue
        yield row.offset, row.data, _record(row, names)


def _names(path: Path, first: Found, text: str) -> tuple[list[str], bool]:
    """The names of the columns, and whether the first row holds them."""
    header = [value.strip() for value in first.values]
    if _NUMBERED.fullmatch(text):
        return [f"#{number}" for number in range(1, len(header) + 1)], False
    if text not in header:
        shown = ", ".join(name[:40] for name in header[:30])
        raise ValueError(
            f"{path}: no column is the text field {text!r}; the fields found are {shown}; name the right one in the "
            "source's fields, such as text: content (text: #1 is the first column of a table without a header)"
        )
    return header, True


def _record(row: Found, names: list[str] | None) -> dict[str, Any] | BadRecord:
    if row.problem is not None or names is None:
        return BadRecord(row.problem or "a record before the header")
    if len(row.values) != len(names):
        return BadRecord(f"{len(row.values)} columns, {len(names)} expected")
    return {name: value if value else None for name, value in zip(names, row.values, strict=True)}


def _collect(record: Record, out: Collector) -> None:
    offset, data, values = record
    try:
        if isinstance(values, BadRecord):
            raise values
        out.add(out.options.fields.row(values), len(data))
    except BadRecord as bad:
        out.reject(offset, str(bad), data)


def _rows(path: Path, format: str, limit: int) -> Iterator[Found]:
    """The records as lists of strings; blank lines are none."""
    found = lines_from(path, format, Range(0, 0), limit)
    if format.startswith("tsv"):
        return _one_a_line(found, "\t", limit)
    return _quoted(found, limit)


def _one_a_line(found: Iterator[Line], delimiter: str, limit: int) -> Iterator[Found]:
    """TSV as it is in the wild: a line is a record, whatever quotes are in it; a field that is quoted as a whole is unquoted."""
    for offset, data, length in found:
        if not is_blank(data, length):
            yield _parsed(offset, data, length, limit, lambda text: [_unquoted(v) for v in text.split(delimiter)])


def _unquoted(value: str) -> str:
    inner = value[1:-1]
    if len(value) < 2 or value[0] != '"' or value[-1] != '"' or '"' in inner.replace('""', ""):
        return value
    return inner.replace('""', '"')


def _parsed(offset: int, data: bytes, length: int, limit: int, parse: Any) -> Found:
    """One record from its bytes."""
    try:
        if length > limit:
            raise BadRecord(too_long(limit))
        text = decode(data.removeprefix(_BOM).removesuffix(b"\r"))
        if "\0" in text:
            raise BadRecord(f"not text: a NUL byte at {text.index(chr(0))}")
        return Found(offset, data, length, parse(text))
    except BadRecord as bad:
        return Found(offset, data[:FOUND_BYTES], length, problem=str(bad))
    except csv.Error as error:
        return Found(offset, data[:FOUND_BYTES], length, problem=f"not CSV: {error}")


def _quoted(found: Iterator[Line], limit: int) -> Iterator[Found]:
    """CSV, where a quoted field may hold line ends; of one that never ends, every line is looked at alone."""
    csv.field_size_limit(limit + 1)
    delimiter: str | None = None
    held: list[Line] = []
    quotes = size = 0
    for line in found:
        if not held and is_blank(line[1], line[2]):
            continue
        held.append(line)
        quotes += line[1].count(b'"')
        size += line[2] + 1
        delimiter = delimiter or _delimiter(line[1])
        if quotes % 2 == 0 and line[2] <= limit:
            yield from _joined(held, delimiter, limit)
        elif size > limit or line[2] > limit:
            yield from _alone(held, delimiter, limit)
        else:
            continue
        held, quotes, size = [], 0, 0
    if held:
        yield from _alone(held, delimiter or ",", limit)


def _joined(held: list[Line], delimiter: str, limit: int) -> Iterator[Found]:
    """Lines in which quotes are even: one record, or several where a quote stands inside of a field."""
    data = b"\n".join(line[1] for line in held)
    rows: list[list[str]] = []

    def parse(text: str) -> list[str]:
        rows.extend(csv.reader(_LINES.split(text), delimiter=delimiter))
        return rows[0] if rows else []

    one = _parsed(held[0][0], data, len(data), limit, parse)
    if len(rows) > 1 or (one.problem and len(held) > 1):
        yield from _alone(held, delimiter, limit)
    else:
        yield one


def _alone(held: list[Line], delimiter: str, limit: int) -> Iterator[Found]:
    """Every line as a record of its own."""
    for offset, data, length in held:
        if not is_blank(data, length):
            yield _parsed(offset, data, length, limit, lambda text: next(csv.reader([text], delimiter=delimiter), []))


def _delimiter(header: bytes) -> str:
    """The character that parts the columns: of those in use, the one that the header has most of."""
    counts = [header.count(character.encode()) for character in _DELIMITERS]
    return _DELIMITERS[counts.index(max(counts))]
