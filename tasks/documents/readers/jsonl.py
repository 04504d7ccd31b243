"""JSON Lines: one object a line."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from polylm.kernels.json_lines import END, START, strings
from polylm.kernels.utf8 import Bytes, Ints
from polylm.tasks.documents.readers.batches import Batch, Collector, Damaged, Options, Range, full_batches, to_the_end
from polylm.tasks.documents.readers.streams import Block, Line, blocks_from, is_blank, lines_from
from polylm.tasks.documents.schema import DOCUMENT, BadRecord, FieldMap, Row, decode, too_long

_HEAD_LINES = 100
_LONG_NUMBER = re.compile(rb"[0-9]{19}")  # 2 ** 63 has so many digits
_BOM = b"\xef\xbb\xbf"


def read_jsonl(path: Path, format: str, range_: Range, options: Options) -> Iterator[Batch]:
    """Read the lines that start in `range_`; blank lines are no records."""
    if range_.start == 0:
        _check_fields(path, format, options)
    out = Collector(path, options)
    return to_the_end(_read(blocks_from(path, format, range_, options.max_record_bytes), out), out)


def _read(blocks: Iterator[Block], out: Collector) -> Iterator[Batch]:
    """The full batches of blocks; a block with a line that is not plain is read line by line."""
    for block in blocks:
        plain = _plain(block, out.options)
        if plain is None:
            yield from full_batches(_lines(block), _collect, out)
        else:
            yield from out.extend(*plain)


def _plain(block: Block, options: Options) -> tuple[pa.Table, NDArray[np.int64]] | None:
    """The documents of a block and the bytes of their lines: what `_collect` makes of each, without a Python string of the text.

    None where any line may be more than one document with one text, so that errors have one place.
    """
    _, data, length = block
    fields = options.fields
    field = fields.fields["text"]
    if length > len(data) or list(fields.fields.values()).count(field) > 1:
        return None
    found = strings(data, field.encode(), options.max_record_bytes)
    texts = None if found is None else _valid(found[0], found[1])
    if found is None or texts is None:
        return None
    try:
        rows = [
            _row_of(data[start:value] + b'""' + data[after:end], fields)
            for start, value, after, end in found[2].tolist()
        ]
    except (orjson.JSONDecodeError, BadRecord):
        return None
    columns = list(zip(*rows, strict=True))[1:] if rows else [()] * (len(DOCUMENT) - 1)
    others = [pa.array(column, pa.string()) for column in columns]
    return pa.table([texts, *others], schema=DOCUMENT), found[2][:, END] - found[2][:, START]


def _valid(texts: Bytes, offsets: Ints) -> pa.Array | None:
    """Strings as an array; None where one is not UTF-8."""
    if texts.base is not None and len(texts) < len(texts.base) // 2:
        texts = texts.copy()  # what stands beside long other fields would hold their memory
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(texts)]
    array = pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers, null_count=0)
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return array


def _lines(block: Block) -> Iterator[Line]:
    """The lines of a block."""
    offset, data, length = block
    if length > len(data):
        yield block
        return
    for line in data.split(b"\n"):
        yield offset, line, len(line)
        offset += len(line) + 1


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
        return _row_of(data, options.fields)
    except orjson.JSONDecodeError as error:
        if data.startswith(_BOM):  # at the start of a file, or of one that was appended to another
            return _row(data[len(_BOM) :], length, options)
        raise BadRecord(_why_not_json(data, error)) from error


def _row_of(data: bytes, fields: FieldMap) -> Row:
    """The columns of one object."""
    record = orjson.loads(data)
    if not isinstance(record, dict):
        raise BadRecord("not a JSON object")
    row = fields.row(record)
    if row[-1] is not None and _LONG_NUMBER.search(
        data
    ):  # it reads integers of more than 64 bits as floats: into `extra`
        return fields.row(json.loads(data))
    return row


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
