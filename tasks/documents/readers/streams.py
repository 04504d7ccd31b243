"""Bytes and lines of a file, decompressed as they come, in bounded memory."""

import bz2
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import zstandard
from isal import isal_zlib

from polylm.tasks.documents.readers.batches import Damaged, Range
from polylm.tasks.documents.schema import FOUND_BYTES

CHUNK_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20  # stays in a core's cache between gunzip and parser
_GZIP_INPUT_BYTES = 16 << 10  # what a damaged block can cost: zlib drops the output of the call that fails
_GZIP_ERRORS: Any = (isal_zlib.error,)  # whose stub calls it an instance
_MAX_XZ_MEMORY = 128 << 20  # bytes; `xz -9` needs 65 MiB
NEEDS_DICTIONARY = "zstd that needs a dictionary, which is not in the file; decompress it first (zstd -d -D DICTIONARY)"
_ZSTD_INPUT_BYTES = 256  # 4 bytes can stand for a block of 128 KiB, so this bounds the output of a call at 8 MiB

Line = tuple[int, bytes, int]  # offset, the line (only its beginning if it is longer than allowed), its length in bytes
Block = Line  # or many lines at once, line feeds included


def compression(format: str) -> str:
    """The compression in a format's name: "gz", "zst", "bz2", "xz" or ""."""
    return format.partition(".")[2]


def chunks(path: Path, format: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Yield the decompressed content of the file's bytes from `start` up to `stop`; raises `Damaged` after what could be read.

    Of gzip, `start` and `stop` are borders between its members.
    """
    with path.open("rb") as raw:
        raw.seek(start)
        file = _Limited(raw, stop)
        match compression(format):
            case "gz":
                yield from _gunzip(file)
            case "zst":
                yield from _unzstd(file)
            case "bz2":
                yield from _unpack(file, bz2.BZ2Decompressor, "bzip2")
            case "xz":
                yield from _unpack(file, lambda: lzma.LZMADecompressor(memlimit=_MAX_XZ_MEMORY), "xz")
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


def blocks_from(path: Path, format: str, range_: Range, limit: int) -> Iterator[Block]:
    """Yield the lines that start in `range_`, many at once; a range of a compressed file is all of it."""
    if compression(format):
        yield from blocks(chunks(path, format), 0, limit)
        return
    back = min(range_.start, 1)  # as in `lines_from`
    found = blocks(chunks(path, format, range_.start - back), range_.start - back, limit)
    for number, (offset, data, length) in enumerate(found):
        if offset >= range_.stop:
            return
        begin = (data.find(b"\n") + 1 or len(data)) if back and not number else 0
        # The last line holds the last byte of the range, so it ends at the first line feed from there.
        end = data.find(b"\n", range_.stop - 1 - offset) + 1 if offset + len(data) > range_.stop else 0
        if begin < (end or len(data)):
            yield offset + begin, data[begin : end or None], length if length > len(data) else (end or length) - begin


def blocks(parts: Iterator[bytes], offset: int, limit: int) -> Iterator[Block]:
    """Cut a stream between lines; of a line with more than `limit` bytes, a block of its own, the beginning is held."""
    line, whole, held = BoundedBytes(limit), list[bytes | memoryview](), 0
    try:
        for part in parts:
            first, last = part.find(b"\n"), part.rfind(b"\n") + 1
            line.add(part[: first if last else None], first if last else len(part))
            if not last:
                continue
            if line.length > limit:
                if held:
                    yield offset, b"".join(whole), held
                yield offset + held, line.content(), line.length
                offset, whole, held = offset + held + line.length + 1, [], 0
            else:
                whole += [line.content(), b"\n"]
                held += line.length + 1
            whole.append(memoryview(part)[first + 1 : last])
            held += last - first - 1
            line.restart(part[last:])
            if held >= _BLOCK_BYTES:
                yield offset, b"".join(whole), held
                offset, whole, held = offset + held, [], 0
    except Damaged as damage:
        if held:
            yield offset, b"".join(whole), held
        damage.offset, damage.found = offset + held, line.content()[:FOUND_BYTES]
        raise
    if held:
        yield offset, b"".join(whole), held
    if line.length:
        yield offset + held, line.content(), line.length


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


class _Limited:
    """An open file that ends at `stop`."""

    def __init__(self, file: BinaryIO, stop: int | None) -> None:
        self._file, self._stop = file, stop

    def read(self, count: int) -> bytes:
        """The next `count` bytes, or fewer at the end."""
        if self._stop is not None:
            count = max(0, min(count, self._stop - self._file.tell()))
        return self._file.read(count)

    def tell(self) -> int:
        """The position in the file."""
        return self._file.tell()


def _unpack(file: _Limited, make: Callable[[], Any], name: str) -> Iterator[bytes]:
    """Decompress the streams of a bzip2 or xz file, a chunk at a time; zero padding between and after them is allowed."""
    decoder, data, between_streams = make(), b"", True
    while True:
        if not data and decoder.needs_input and not (data := file.read(_GZIP_INPUT_BYTES)):
            break
        if between_streams and not (data := data.lstrip(b"\0")):
            continue
        try:
            output = decoder.decompress(data, CHUNK_BYTES)
        except (OSError, ValueError, lzma.LZMAError, EOFError) as error:
            raise Damaged(_why_not(name, error, file.tell()), file.tell()) from error
        if output:
            yield output
        between_streams = decoder.eof
        data = decoder.unused_data if decoder.eof else b""
        if decoder.eof:
            decoder = make()
    if not between_streams:
        raise Damaged(f"truncated {name}: the file ends inside the compressed data", file.tell())


def _why_not(name: str, error: Exception, position: int) -> str:
    """Why data cannot be decompressed."""
    if "emory" in str(error):
        return (
            f"{name} data that needs more than {_MAX_XZ_MEMORY >> 20} MiB of memory; compress again with a lower level"
        )
    return f"damaged {name} near byte {position} of the file"


def _gunzip(file: _Limited) -> Iterator[bytes]:
    """Decompress the members of a gzip file; zero padding between and after them is allowed, as in GNU gzip.

    By ISA-L, whose inflate takes a third of zlib's time.
    """
    decoder, between_members = isal_zlib.decompressobj(31), True
    while data := file.read(_GZIP_INPUT_BYTES):
        while data:
            if between_members and not (data := data.lstrip(b"\0")):
                break
            if output := _inflate(decoder, data, file.tell() - len(data)):
                yield output
            between_members = decoder.eof
            data = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
            if decoder.eof:
                decoder = isal_zlib.decompressobj(31)
    while not between_members and (output := _inflate(decoder, b"", file.tell())):
        yield output
        between_members = decoder.eof
    if not between_members:
        raise Damaged("truncated gzip: the file ends inside the compressed data", file.tell())


def _inflate(decoder: Any, data: bytes, resume: int) -> bytes:
    """Decompress into at most `CHUNK_BYTES`; what does not fit waits in the decoder."""
    try:
        return bytes(decoder.decompress(data, CHUNK_BYTES))
    except _GZIP_ERRORS as error:
        raise Damaged(f"damaged gzip near byte {resume} of the file", resume) from error


def _unzstd(file: _Limited) -> Iterator[bytes]:
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
        if "ictionary" in str(error):
            raise Damaged(NEEDS_DICTIONARY, resume) from error
        if "memory" in str(error):
            raise Damaged("zstd window of more than 128 MiB; compress again without --long", resume) from error
        raise Damaged(f"damaged zstd near byte {resume} of the file", resume) from error
