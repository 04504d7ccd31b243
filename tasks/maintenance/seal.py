"""Seals: a digest over every byte of a file, written with it, so that one flipped bit anywhere is seen.

A part is `body | SEAL sha256(body) sha256(footer) | footer`. Parquet readers find the footer from the file's end and the
body by the footer's offsets, so the 72 bytes between them are nobody else's. The footer has a digest of its own because
it is read alone, thousands of times, where a run looks for what is there. Page checksums cover neither the footer nor
the headers of pages: 9 of 4,000 bits flipped before the footer gave other values without an error.
A small JSON file has its seal as its last entry: sha256 of all bytes before it.

A digest in the file itself cannot be lost, left behind or written too late: the file is linked into place with it.
What lacks a seal was written before there were any: it is read, and `verify` names it.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

SMALL = 8 << 20  # bytes of a part that is read whole to look at some columns
_SEAL = b"POLYLMS1"
_SEAL_BYTES = len(_SEAL) + 2 * 32
_END = 8  # the footer's length and Parquet's magic
_FIRST_READ = 64 << 10  # holds most footers, so that one read is enough
_JSON_KEY = b'\n "seal": "'
_JSON_END = b'"\n}'
_JSON_SEAL = 64 + len(_JSON_END)


class SealBroken(ValueError):
    """Bytes of a file are not those that were written."""


def seal_part(path: Path) -> None:
    """Put the seal before the footer of a Parquet file that nobody reads yet."""
    with path.open("r+b") as file:
        _, footer = _tail(file)
        body = file.seek(-len(footer), 2)
        file.truncate()
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").digest()
        file.seek(body)
        file.write(_SEAL + digest + hashlib.sha256(footer).digest() + footer)


def read_footer(path: Path) -> bytes:
    """A part's footer to its end, checked against its seal if there is one."""
    with path.open("rb") as file:
        before, footer = _tail(file)
    if before.startswith(_SEAL) and before[-32:] != hashlib.sha256(footer).digest():
        raise SealBroken("its footer is not what was written")
    return footer


def check_part(path: Path, *, strict: bool = True) -> None:
    """Read a part whole; SealBroken where any byte is not what was written, or a seal lacks and is asked for."""
    with path.open("rb") as file:
        _check(file, strict=strict)


def read_small(path: Path) -> bytes | None:
    """A part of at most `SMALL` bytes, whole and checked; None of one that is larger, or has no seal.

    For small files this costs a third of hashing the values that they hold: labels and verdicts shrink most.
    """
    with path.open("rb") as file:
        data = file.read(SMALL + 1)
    if len(data) > SMALL or not _check(io.BytesIO(data), strict=False):
        return None
    return data


def seal_json(value: Mapping[str, Any]) -> bytes:
    """A small JSON file that ends with its seal."""
    text = json.dumps({**value, "seal": ""}, ensure_ascii=False, indent=1, default=str)
    whole = text.encode("utf-8", "replace")  # a byte of a command line that is not UTF-8 is a lone surrogate here
    told = whole.removesuffix(_JSON_END)
    return told + hashlib.sha256(told).hexdigest().encode() + _JSON_END


def open_json(data: bytes, *, strict: bool = False) -> dict[str, Any]:
    """What a small JSON file tells, without its seal; SealBroken where that does not match, or lacks and is asked for."""
    told, seal = data[:-_JSON_SEAL], data[-_JSON_SEAL:]
    if told.endswith(_JSON_KEY):
        if seal != hashlib.sha256(told).hexdigest().encode() + _JSON_END:
            raise SealBroken("its seal does not match")
    elif strict:
        raise SealBroken("it has no seal")
    value = json.loads(data)
    if not isinstance(value, dict):
        raise SealBroken("it holds no JSON object")
    return {name: entry for name, entry in value.items() if name != "seal"}


def _check(file: IO[bytes], *, strict: bool) -> bool:
    """Compare a part with its seal; False where it has none."""
    before, footer = _tail(file)
    if not before.startswith(_SEAL):
        if strict:
            raise SealBroken("it has no seal")
        return False
    if before[-32:] != hashlib.sha256(footer).digest():
        raise SealBroken("its footer is not what was written")
    end = file.seek(-len(footer) - _SEAL_BYTES, 2)
    if _digest(file, end) != before[-64:-32]:
        raise SealBroken("its pages are not what was written")
    return True


def _tail(file: IO[bytes]) -> tuple[bytes, bytes]:
    """The bytes where a seal would be, and the footer with its length and magic."""
    size = file.seek(0, 2)
    start = max(0, size - _FIRST_READ)
    file.seek(start)
    data = file.read()
    length = int.from_bytes(data[-_END:-4], "little") + _END
    if size < 4 + _END or data[-4:] != b"PAR1" or length > size - 4:
        raise SealBroken("it does not end as a Parquet file does")
    if length + _SEAL_BYTES > len(data):
        file.seek(max(0, size - length - _SEAL_BYTES))
        data = file.read()
    return data[:-length][-_SEAL_BYTES:], data[-length:]


def _digest(file: IO[bytes], end: int) -> bytes:
    """sha256 of a file's first `end` bytes."""
    hasher = hashlib.sha256()
    file.seek(0)
    while left := end - file.tell():
        if not (block := file.read(min(left, 1 << 20))):
            break
        hasher.update(block)
    return hasher.digest()
