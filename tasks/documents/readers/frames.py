"""The records of a WARC file: where each starts, its header and its block, with what is broken between them.

FastWARC is not used for this: it ends without an error on a file cut inside a record, yields the record short, and stops for
good at a broken one, so that records would be lost uncounted.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from polylm.tasks.documents.readers.batches import Damaged
from polylm.tasks.documents.readers.streams import chunks
from polylm.tasks.documents.schema import FOUND_BYTES, too_long

_MAX_HEADER_BYTES = 32 << 10
_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
_RECORD = b"WARC/1."
_NEXT_RECORD = b"\r\n\r\n" + _RECORD
_GZIP_MEMBER = b"\x1f\x8b\x08"
_LOOK_AHEAD_BYTES = 64 << 20


@dataclass(frozen=True)
class Frame:
    """One WARC record, or with a `problem` a stretch of the file that is none."""

    offset: int  # in decompressed bytes
    head: bytes  # the header, up to and with its blank line; of a broken stretch its beginning
    headers: dict[str, str]  # names in lower case
    block: bytes
    problem: str | None = None


def frames(path: Path, format: str, limit: int, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
    """Yield the records of a file that start from `start` up to `stop`, bytes of the file; all by default.

    After damaged gzip data it goes on at the next member that holds a record. Where a range begins is found by looking for
    a record, so of gzip a frame's offset counts from there.
    """
    at = _border(path, format, start)
    end = None if stop is None else _border(path, format, stop)
    offset = at or 0 if format == "warc" else 0
    while at is not None:
        stream = _Stream(chunks(path, format, at, end), offset)
        yield from _frames_to_damage(stream, limit)
        if stream.damage is None:
            return
        offset, at = stream.offset, _next_member(path, stream.damage.resume + 1)
        if at is not None and end is not None and at >= end:
            return


def can_split(path: Path) -> bool:
    """Is every record of a .warc.gz a gzip member of its own? (Another one begins early in the file.)"""
    return _next_member(path, 1, _LOOK_AHEAD_BYTES) is not None


def _border(path: Path, format: str, position: int) -> int | None:
    """Where the first record at or after a position starts, in bytes of the file; None where there is none."""
    if position == 0:
        return 0
    if position >= path.stat().st_size or format not in ("warc", "warc.gz"):
        return None
    return _next_record(path, position) if format == "warc" else _next_member(path, position)


def _next_record(path: Path, after: int) -> int | None:
    """Where a record starts, after which another one does, as its length says, or the file ends."""
    lead = len(_NEXT_RECORD) - len(_RECORD)
    with path.open("rb") as file:
        position = max(0, after - lead)
        file.seek(position)
        held = b""
        while data := file.read(1 << 20):
            held += data
            for match in re.finditer(re.escape(_NEXT_RECORD), held):
                if _is_record(path, position + match.start() + lead):
                    return position + match.start() + lead
            kept = held[-len(_NEXT_RECORD) :]
            held, position = kept, position + len(held) - len(kept)
    return None


def _is_record(path: Path, start: int) -> bool:
    """Does a whole record start here? A page may hold what looks like the beginning of one."""
    with path.open("rb") as file:
        file.seek(start)
        head = file.read(_MAX_HEADER_BYTES)
        blank = _END_OF_HEADER.search(head)
        length = _headers(head[: blank.end()]).get("content-length", "") if blank else ""
        if blank is None or not (length.isascii() and length.isdigit() and len(length) < 16):
            return False
        end, size = start + blank.end() + int(length), path.stat().st_size
        if end > size:
            return False
        file.seek(end)
        following = file.read(len(_NEXT_RECORD))
    return following == _NEXT_RECORD or (end + len(following) == size and not following.strip(b"\r\n"))


def _frames_to_damage(stream: "_Stream", limit: int) -> Iterator[Frame]:
    """Yield the records of a stream; its damage is the problem of the record that it cuts, or a broken stretch of its own."""
    while True:
        stream.skip_newlines()
        if not stream.fill(1):
            break
        frame = _next_frame(stream, limit)
        if frame.problem and stream.damage and stream.is_empty:
            yield Frame(frame.offset, frame.head, {}, b"", stream.damage.reason)
            return
        yield frame
    if stream.damage:
        yield Frame(stream.offset, b"", {}, b"", stream.damage.reason)


def _next_frame(stream: "_Stream", limit: int) -> Frame:
    """Read the record at the start of the stream, or what is there instead, up to the next one."""
    offset, head = stream.offset, stream.header()
    if not head:
        cut = stream.held().startswith(b"WARC/") and not stream.fill(_MAX_HEADER_BYTES)
        return _broken(stream, offset, stream.held(), "truncated WARC header" if cut else "broken WARC header")
    headers = _headers(head)
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        return _broken(stream, offset, head, f"broken WARC header: Content-Length is {length[:40]!r}")
    if int(length) > limit:
        skipped = stream.skip(int(length), _NEXT_RECORD)
        problem = too_long(limit) if skipped == int(length) else _truncated(skipped, length)
        return Frame(offset, head, headers, b"", problem)
    block = stream.read(int(length))
    if len(block) == int(length) and stream.at_record_end():
        return Frame(offset, head, headers, block)
    stream.push_back(block)  # a wrong length may have swallowed good records
    problem = _truncated(len(block), length) if len(block) < int(length) else "Content-Length ends inside the record"
    return _broken(stream, offset, head, problem)


def _broken(stream: "_Stream", offset: int, found: bytes, problem: str) -> Frame:
    """Skip to the next record."""
    beginning = found[:FOUND_BYTES]
    stream.skip_to(_RECORD)
    return Frame(offset, beginning, {}, b"", problem)


def _truncated(found: int, promised: str) -> str:
    """The reason for a record whose file ends inside it."""
    return f"truncated WARC record: {found} of {promised} bytes"


def _headers(head: bytes) -> dict[str, str]:
    """The header's fields; of a repeated one the first."""
    pairs = [line.partition(b":") for line in reversed(head.splitlines()[1:])]
    return {
        name.strip().decode("latin-1").lower(): value.strip().decode("utf-8", "replace") for name, _, value in pairs
    }


def _next_member(path: Path, after: int, most: int | None = None) -> int | None:
    """Where the next gzip member that begins with a WARC record starts, in bytes of the file, within `most` bytes."""
    with path.open("rb") as file:
        file.seek(after)
        held, position = b"", after
        while (data := file.read(1 << 20)) and (most is None or position < after + most):
            held += data
            for match in re.finditer(re.escape(_GZIP_MEMBER), held):
                if _begins_record(path, position + match.start()):
                    return position + match.start()
            held, position = held[-2:], position + len(held) - len(held[-2:])
    return None


def _begins_record(path: Path, start: int) -> bool:
    """Does the gzip member at `start` begin with a WARC record?"""
    with path.open("rb") as file:
        file.seek(start)
        try:
            return zlib.decompressobj(31).decompress(file.read(512), len(_RECORD)) == _RECORD
        except zlib.error:
            return False


class _Stream:
    """Chunks of bytes as one stream with a look ahead; `offset` is the position of its next byte."""

    def __init__(self, parts: Iterator[bytes], offset: int) -> None:
        self.offset = offset
        self.damage: Damaged | None = None  # what ended the stream, if it did not end well
        self._parts = parts
        self._held = bytearray()

    @property
    def is_empty(self) -> bool:
        """Is nothing read ahead?"""
        return not self._held

    def held(self) -> bytes:
        """What was read ahead."""
        return bytes(self._held)

    def fill(self, count: int) -> bool:
        """Read ahead at least `count` bytes; False if the stream ends before."""
        while len(self._held) < count:
            try:
                part = next(self._parts, None)
            except Damaged as damage:
                self.damage, part = damage, None
            if part is None:
                return False
            self._held += part
        return True

    def read(self, count: int) -> bytes:
        """Take the next `count` bytes, or fewer at the end."""
        self.fill(count)
        data = bytes(self._held[:count])
        del self._held[:count]
        self.offset += len(data)
        return data

    def push_back(self, data: bytes) -> None:
        """Undo a `read`."""
        self._held[:0] = data
        self.offset -= len(data)

    def skip(self, count: int, stop: bytes) -> int:
        """Drop the next `count` bytes without holding them, or those before `stop`; returns how many there were."""
        left = count
        while left and self.fill(1):
            self.fill(len(stop))
            found = self._held.find(stop, 0, left)
            step = found if found >= 0 else min(left, max(1, len(self._held) - len(stop) + 1))
            left -= len(self.read(step))
            if found >= 0:  # the length was wrong: it would have swallowed good records
                break
        return count - left

    def skip_newlines(self) -> None:
        """Drop the line ends between two records."""
        while self.fill(1) and self._held[0] in b"\r\n":
            self.read(len(self._held) - len(self._held.lstrip(b"\r\n")))

    def skip_to(self, marker: bytes) -> None:
        """Drop at least one byte, and then everything before `marker`, or to the end."""
        self.read(1)
        while (found := self._held.find(marker)) < 0:
            self.read(max(0, len(self._held) - len(marker) + 1))
            if not self.fill(len(self._held) + 1):
                self.read(len(self._held))
                return
        self.read(found)

    def header(self) -> bytes:
        """Take a record's header with its blank line; nothing is taken where none begins here or it does not end."""
        self.fill(5)
        while self._held.startswith(b"WARC/"):
            if end := _END_OF_HEADER.search(self._held):
                return self.read(end.end())
            if len(self._held) > _MAX_HEADER_BYTES or not self.fill(len(self._held) + 1):
                break
        return b""

    def at_record_end(self) -> bool:
        """Do two line ends follow, as the standard wants, or the next record, or nothing?"""
        self.fill(16)
        rest = self._held[:16].lstrip(b"\r\n")
        return self._held.startswith(b"\r\n\r\n") or not rest or rest.startswith(b"WARC/")
