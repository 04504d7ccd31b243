"""JSON Lines: one object a line."""

from collections.abc import Iterator
from itertools import islice, takewhile
from pathlib import Path

import orjson

from polylm.tasks.documents.readers.batches import Batch, Collector, Damaged, Options, Range, gathered
from polylm.tasks.documents.readers.streams import Line, compression, is_blank, lines_from
from polylm.tasks.documents.schema import BadRecord, Row, decode, too_long

_HEAD_LINES = 100
_BOM = b"\xef\xbb\xbf"


def read_jsonl(path: Path, format: str, range_: Range, options: Options) -> Iterator[Batch]:
    """Read the lines that start in `range_`; blank lines are no records."""
    if range_.start == 0:
        _check_fields(path, format, options)
    lines = lines_from(path, format, range_, options.max_record_bytes)
    if not compression(format):
        lines = takewhile(lambda line: line[0] < range_.stop, lines)
    return gathered(lines, _collect, Collector(path, options))


def _collect(line: Line, out: Collector) -> None:
    """Add one line as a document or a bad record."""
    offset, data, length = line
    if is_blank(data, length):
        return
    try:
        out.add(_row(data, length, out.options), length)
    except BadRecord as bad:
        out.reject(offset, str(bad), data)


def _row(data: bytes, length: int, options: Options) -> Row:
    """Parse one line."""
    if length > options.max_record_bytes:
        raise BadRecord(too_long(options.max_record_bytes))
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if data.startswith(_BOM):  # at the start of a file, or of one that was appended to another
            return _row(data[len(_BOM) :], length, options)
        raise BadRecord(_why_not_json(data, error)) from error
    if not isinstance(record, dict):
        raise BadRecord("not a JSON object")
    return options.fields.row(record)


def _why_not_json(data: bytes, error: orjson.JSONDecodeError) -> str:
    """The reason in our own words, so that it does not change with the parser's version."""
    text = decode(data)
    if "\0" in text:
        return f"not JSON: a NUL byte at character {text.index(chr(0))}"
    if "surrogate" in error.msg:
        return f"not Unicode: a lone surrogate before character {error.pos}"
    return f"not JSON at character {error.pos}"


def _check_fields(path: Path, format: str, options: Options) -> None:
    """Raise ValueError if no record at the head of the file has the text field: the mapping is wrong, not the records."""
    field = options.fields.fields["text"]
    found: dict[str, None] = {}
    for record in _head(path, format, options.max_record_bytes):
        if field in record:
            return
        found |= dict.fromkeys(record)
    if found:
        raise ValueError(
            f"{path}: no record has the text field {field!r}; the fields found are {', '.join(found)}; "
            "name the right one in the source's fields, such as text: content"
        )


def _head(path: Path, format: str, limit: int) -> Iterator[dict[str, object]]:
    """The objects among the first lines of the file."""
    try:
        for _, data, length in islice(lines_from(path, format, Range(0, 0), limit), _HEAD_LINES):
            try:
                record = orjson.loads(data.removeprefix(_BOM)) if length <= limit else None
            except orjson.JSONDecodeError:
                continue
            if isinstance(record, dict):
                yield record
    except Damaged:
        return  # the reader reports it
