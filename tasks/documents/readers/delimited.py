"""CSV and TSV: a header, then a record a line, or over several where a field is quoted.

CSV is RFC 4180's, with any of four delimiters: a field that begins with a quote ends with one, quotes within are doubled, and
delimiters and line ends within belong to it. A quote that does not end so costs its line only.

TSV in the wild knows quotes and does not. A field that is quoted as a whole is unquoted, on one line or over several; tabs and
line ends within it belong to it where the record has as many columns as the first only so. Other quotes are text, as are
those of a field that opens with one and is not closed. In TSV of parallel text a line is a record whatever quotes it has.
"""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from polylm.tasks.documents.readers.batches import Batch, Collector, Options, Range, gathered
from polylm.tasks.documents.readers.quoting import grouped
from polylm.tasks.documents.readers.streams import Line, is_blank, lines_from
from polylm.tasks.documents.schema import FOUND_BYTES, BadRecord, decode_text, too_long

Record: TypeAlias = tuple[int, bytes, dict[str, Any] | BadRecord]
_BOM = b"\xef\xbb\xbf"
_DELIMITERS = ",;\t|"  # of CSV, as programs of several countries write it
_TSV_FIELDS = re.compile(r'(?:\A|\t)("(?:[^"]+|"")*+"(?=\t|\Z)|[^\t]*+)')
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


def records(path: Path, format: str, options: Options, *, quoting: bool = True) -> Iterator[Record]:
    """Offset, bytes and fields of every record, or why it is a bad one; an empty field is null.

    Without `quoting` every line of TSV is a record.
    """
    wanted = options.fields.fields
    rows = _rows(path, format, options.max_record_bytes, quoting=quoting)
    names: list[str] | None = None
    for row in rows:
        if names is None and row.problem is None:
            names, is_header = _names(path, row, wanted["text"])
            options.fields.check(path, names)
            names = options.fields.distinct(path, names)
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


def _rows(path: Path, format: str, limit: int, *, quoting: bool) -> Iterator[Found]:
    """The records as lists of strings; blank lines are none."""
    found = lines_from(path, format, Range(0, 0), limit)
    first = next((line for line in found if not is_blank(line[1], line[2])), None)
    if first is None:
        return iter(())
    every = chain([first], found)
    if format.startswith("csv"):
        return _csv(every, _delimiter(first[1]), limit)
    return _tsv(every, first[1].count(b"\t") + 1, limit) if quoting else _one_a_line(every, limit)


def _csv(found: Iterator[Line], delimiter: str, limit: int) -> Iterator[Found]:
    csv.field_size_limit(limit + 1)
    for group in grouped(found, limit, delimiter.encode(), lambda group: True):
        yield _parsed(*_joined(group), limit, lambda text: next(csv.reader([text], delimiter=delimiter), []))


def _tsv(found: Iterator[Line], columns: int, limit: int) -> Iterator[Found]:
    for group in grouped(found, limit, b"\t", lambda group: _is_one(group, columns)):
        yield _parsed(*_joined(group), limit, lambda text: _values(text, columns))


def _one_a_line(found: Iterator[Line], limit: int) -> Iterator[Found]:
    for offset, data, length in found:
        if not is_blank(data, length):
            yield _parsed(offset, data, length, limit, lambda text: _values(text, 0))


def _is_one(group: Sequence[Line], columns: int) -> bool:
    """Are these lines one record of TSV? If together they have all columns, and most of them alone have not.

    Where a quote is only a quote, lines that are records follow up to the next one.
    """
    _, data, _ = _joined(group)
    text = data.removeprefix(_BOM).removesuffix(b"\r").decode(errors="replace")
    alone = sum(line.count(b"\t") + 1 == columns for _, line, _ in group)
    return len(_TSV_FIELDS.findall(text)) == columns and (columns == 1 or 2 * alone <= len(group))


def _values(text: str, columns: int) -> list[str]:
    """The fields of a record of TSV; a tab in quotes parts them, unless there are too many then."""
    values = text.split("\t")
    if '"' not in text:
        return values
    if len(values) != columns and len(quoted := _TSV_FIELDS.findall(text)) == columns:
        values = quoted
    return [_unquoted(value) for value in values]


def _unquoted(value: str) -> str:
    inner = value[1:-1]
    if len(value) < 2 or value[0] != '"' or value[-1] != '"' or '"' in inner.replace('""', ""):
        return value
    return inner.replace('""', '"')


def _joined(group: Sequence[Line]) -> Line:
    """The lines of a record as one."""
    if len(group) == 1:
        return group[0]
    data = b"\n".join(line for _, line, _ in group)
    return group[0][0], data, len(data)


def _parsed(offset: int, data: bytes, length: int, limit: int, parse: Callable[[str], list[str]]) -> Found:
    """One record from its bytes."""
    try:
        if length > limit:
            raise BadRecord(too_long(limit))
        text = decode_text(data.removeprefix(_BOM).removesuffix(b"\r"))
        return Found(offset, data, length, parse(text))
    except BadRecord as bad:
        return Found(offset, data[:FOUND_BYTES], length, problem=str(bad))
    except csv.Error as error:
        return Found(offset, data[:FOUND_BYTES], length, problem=f"not CSV: {error}")


def _delimiter(header: bytes) -> str:
    """The character that parts the columns: of those in use, the one that the header has most of."""
    counts = [header.count(character.encode()) for character in _DELIMITERS]
    return _DELIMITERS[counts.index(max(counts))]
