"""Bytes and lines of a file, decompressed as they come, in bounded memory."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from polylm.tasks.documents.readers.batches import Range
from polylm.tasks.documents.schema import FOUND_BYTES

CHUNK_BYTES = 1 << 20
_GZIP_INPUT_BYTES = 16 << 10  # what a damaged block can cost: zlib drops the output of the call that fails
_ZSTD_INPUT_BYTES = 256  # 4 bytes can stand for a block of 128 KiB, so this bounds the output of a call at 8 MiB

Line = tuple[int, bytes, int]  # offset, the line (only its beginning if it is longer than allowed), its length in bytes


class Damaged(Exception):
    """The compressed data of a file cannot be read to its end.

    `offset` is the decompressed byte at which the record that it interrupts starts, `found` that record's beginning, and
    `resume` the byte of the file itself at or before the damage.
    """

    def __init__(self, reason: str, resume: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.resume = resume
        self.offset = 0
        self.found = b""


def compression(format: str) -> str:
    """The compression in a format's name: "gz", "zst" or ""."""
    return format.partition(".")[2]


def chunks(path: Path, format: str, start: int = 0) -> Iterator[bytes]:
    """Yield the decompressed content from byte `start` of the file on; raises `Damaged` after what could be read."""
    with path.open("rb") as file:
        file.seek(start)
        match compression(format):
            case "gz":
                yield from _gunzip(file)
            case "zst":
                yield from _unzstd(file)
            case _:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk


def lines_from(path: Path, format: str, range_: Range, limit: int) -> Iterator[Line]:
    """Yield the lines that start at or after `range_.start`, to the end of the file.

    The caller stops at `range_.stop`, because a document of several lines may go past it.
    """
    if range_.start == 0 or compression(format):
        yield from lines(chunks(path, format), 0, limit)
        return
    # One byte back: if that byte ends a line, the line that starts at range_.start is ours.
    found = lines(chunks(path, format, range_.start - 1), range_.start - 1, limit)
    next(found, None)
    yield from found


def lines(parts: Iterator[bytes], offset: int, limit: int) -> Iterator[Line]:
    """Cut a stream at line feeds, holding at most `limit` bytes of any line."""
    line = BoundedBytes(limit)
    try:
        for part in parts:
            first, *rest = part.split(b"\n")
            line.add(first, len(first))
            for following in rest:
                yield offset, line.content(), line.length
                offset += line.length + 1
                line.restart(following)
    except Damaged as damage:
        damage.offset, damage.found = offset, line.content()[:FOUND_BYTES]
        raise
    if line.length:
        yield offset, line.content(), line.length


def is_blank(data: bytes, length: int) -> bool:
    """Is a line empty or white space only? (Of one that is too long, the beginning does not tell.)"""
    return not data or (data.isspace() and len(data) == length)


class BoundedBytes:
    """Bytes that arrive in pieces; only their beginning once they are longer than `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.restart(b"")

    def restart(self, piece: bytes) -> None:
        """Forget all and hold `piece`."""
        self.length = len(piece)
        self._pieces = [piece]

    def add(self, piece: bytes, length: int) -> None:
        """Add a piece of `length` bytes, of which `piece` may be only the beginning."""
        self.length += length
        self._pieces.append(piece)
        if self.length > self.limit:
            self._pieces = [self.content()[:FOUND_BYTES]]

    def content(self) -> bytes:
        """What is held: everything, or the first `FOUND_BYTES` bytes."""
        return b"".join(self._pieces)


def _gunzip(file: BinaryIO) -> Iterator[bytes]:
    """Decompress the members of a gzip file; zero padding between and after them is allowed, as in GNU gzip."""
    decoder, between_members = zlib.decompressobj(31), True
    while data := file.read(_GZIP_INPUT_BYTES):
        while data:
            if between_members and not (data := data.lstrip(b"\0")):
                break
            if output := _inflate(decoder, data, file.tell() - len(data)):
                yield output
            between_members = decoder.eof
            data = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
            if decoder.eof:
                decoder = zlib.decompressobj(31)
    while not between_members and (output := _inflate(decoder, b"", file.tell())):
        yield output
        between_members = decoder.eof
    if not between_members:
        raise Damaged("truncated gzip: the file ends inside the compressed data", file.tell())


def _inflate(decoder: "zlib._Decompress", data: bytes, resume: int) -> bytes:
    """Decompress into at most `CHUNK_BYTES`; what does not fit waits in the decoder."""
    try:
        return decoder.decompress(data, CHUNK_BYTES)
    except zlib.error as error:
        raise Damaged(f"damaged gzip near byte {resume} of the file", resume) from error


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    """Decompress the frames of a zstd file; a frame may demand a window of up to 128 MiB of memory, zstd's own limit."""
    decoder, between_frames = zstandard.ZstdDecompressor().decompressobj(), True
    while data := file.read(_ZSTD_INPUT_BYTES):
        while data:
            output = _decompress(decoder, data, file.tell() - len(data))
            for start in range(0, len(output), CHUNK_BYTES):
                yield output[start : start + CHUNK_BYTES]
            between_frames = decoder.eof
            data = decoder.unused_data if decoder.eof else b""
            if decoder.eof:
                decoder = zstandard.ZstdDecompressor().decompressobj()
    if not between_frames:
        raise Damaged("truncated zstd: the file ends inside the compressed data", file.tell())


def _decompress(decoder: "zstandard.ZstdDecompressionObj", data: bytes, resume: int) -> bytes:
    """Decompress a small piece."""
    try:
        return decoder.decompress(data)
    except zstandard.ZstdError as error:
        if "memory" in str(error):
            raise Damaged("zstd window of more than 128 MiB; compress again without --long", resume) from error
        raise Damaged(f"damaged zstd near byte {resume} of the file", resume) from error
