"""Plain text: a file, a line, or the lines between blank lines are a document."""

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from polylm.tasks.documents.readers.batches import Batch, Collector, Damaged, Options, Range, gathered
from polylm.tasks.documents.readers.streams import (
    BoundedBytes,
    Line,
    chunks,
    compression,
    is_blank,
    lines,
    lines_from,
)
from polylm.tasks.documents.schema import FOUND_BYTES, BadRecord, decode_text, too_long

UNITS = ("file", "blank-line", "line")
_LOOK_BACK_BYTES = 4096


def read_text(path: Path, format: str, range_: Range, options: Options) -> Iterator[Batch]:
    """Read the documents that start in `range_`; blank ones are no records."""
    return gathered(_documents(path, format, range_, options), _collect, Collector(path, options))


def _documents(path: Path, format: str, range_: Range, options: Options) -> Iterator[Line]:
    """The documents of a range as bytes; only the beginning of one that is too long."""
    limit = options.max_record_bytes
    stop = None if compression(format) else range_.stop
    if options.documents == "file":
        yield _whole_file(path, format, limit)
    elif options.documents == "line":
        yield from takewhile(lambda line: stop is None or line[0] < stop, lines_from(path, format, range_, limit))
    else:
        inside = not compression(format) and not _starts_document(path, format, range_.start, limit)
        yield from _paragraphs(lines_from(path, format, range_, limit), stop, limit, inside=inside)


def _whole_file(path: Path, format: str, limit: int) -> Line:
    """The whole file as one document."""
    held = BoundedBytes(limit)
    try:
        for piece in chunks(path, format):
            held.add(piece, len(piece))
    except Damaged as damage:
        damage.found = held.content()[:FOUND_BYTES]
        raise
    return 0, held.content(), held.length


def _paragraphs(found: Iterator[Line], stop: int | None, limit: int, *, inside: bool) -> Iterator[Line]:
    """Join lines up to a blank one; `inside` says that the first ones belong to a document of the range before."""
    start, held = 0, BoundedBytes(limit)
    try:
        for offset, data, length in found:
            if stop is not None and offset >= stop and not held.length:
                return
            if is_blank(data, length):
                if held.length:
                    yield start, held.content(), held.length
                inside = False
                held.restart(b"")
            elif not inside:
                start = start if held.length else offset
                held.add(data + b"\n", length + 1)
    except Damaged as damage:
        if held.length:
            damage.offset, damage.found = start, (held.content() + damage.found)[:FOUND_BYTES]
        raise
    if held.length:
        yield start, held.content(), held.length


def _collect(document: Line, out: Collector) -> None:
    """Add one document, or a bad record."""
    offset, data, length = document
    limit = out.options.max_record_bytes
    try:
        if length > limit:
            raise BadRecord(too_long(limit))
        text = decode_text(data).removeprefix("\ufeff").rstrip("\r\n")
    except BadRecord as bad:
        out.reject(offset, str(bad), data)
        return
    if text and not text.isspace():
        out.add((text, None, None, None, None, None, None), length)


def _starts_document(path: Path, format: str, start: int, limit: int) -> bool:
    """Is the first line from `start` on the first of the file, or does it follow a blank line?"""
    if start == 0:
        return True
    _, data, length = next(lines(chunks(path, format, start - 1), start - 1, limit), (0, b"", 0))
    return is_blank(data, length) and _is_blank_before(path, start - 1)


def _is_blank_before(path: Path, position: int) -> bool:
    """Is there only white space between the start of a line and `position` in it?"""
    with path.open("rb") as file:
        while position > 0:
            count = min(position, _LOOK_BACK_BYTES)
            file.seek(position - count)
            _, line_feed, rest = file.read(count).rpartition(b"\n")
            if rest and not rest.isspace():
                return False
            if line_feed:
                return True
            position -= count
    return True
