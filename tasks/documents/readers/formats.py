"""Which format a file has: its name says so, and its first bytes must agree."""

import re
from pathlib import Path

from polylm.tasks.documents.readers.batches import Damaged
from polylm.tasks.documents.readers.streams import NEEDS_DICTIONARY, chunks, compression
from polylm.tasks.documents.schema import other_unicode

_NAMES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "text",
    ".csv": "csv",
    ".tsv": "tsv",
    ".warc": "warc",
    ".wet": "warc",
    ".xml": "wikipedia",
}
_COMPRESSIONS = ("", ".gz", ".zst", ".bz2", ".xz")
SUFFIXES = {name + packed: format + packed for name, format in _NAMES.items() for packed in _COMPRESSIONS} | {
    ".parquet": "parquet",
    ".arrow": "arrow",
}
FORMATS = tuple(dict.fromkeys(SUFFIXES.values()))
KNOWN = f"{' '.join(sorted([*_NAMES, '.parquet', '.arrow']))}, most of them with {' '.join(_COMPRESSIONS[1:])} too"
_LONGEST_FIRST = sorted(SUFFIXES, key=len, reverse=True)

_MAGIC = {
    "gz": b"\x1f\x8b",
    "zst": b"\x28\xb5\x2f\xfd",
    "bz2": b"BZh",
    "xz": b"\xfd7zXZ\0",
    "parquet": b"PAR1",
}
_OTHERS = {
    b"\x1f\x8b": "gzip data",
    b"\x28\xb5\x2f\xfd": "zstd data",
    b"PAR1": "Parquet",
    b"BZh": "bzip2 data",
    b"\xfd7zXZ": "xz data",
    b"PK\x03\x04": "a zip archive",
    b"%PDF-": "a PDF",
}
_HEAD_BYTES = 4096
_CONTROLS = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]")
_MAX_CONTROL_SHARE = 0.05  # a stray NUL spoils its record only; binaries and UTF-16 without a mark have 10 to 50 %


def detect(path: Path | str) -> str:
    """Name the format of a file, one of `FORMATS`.

    Raises ValueError for a name that says nothing, and where the content contradicts the name: empty, binary, compressed
    otherwise, UTF-16, a Parquet without its footer, one JSON array.
    """
    path = Path(path)
    format = by_name(path.name)
    if format is None:
        raise ValueError(f"{path}: the name does not say which format it has; known are {KNOWN}")
    check(path, format)
    return format


def check(path: Path, format: str) -> None:
    """Raise ValueError where a file's content contradicts its format."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
        raise ValueError(f"{path}: expected a {format} file, but it {found}")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise ValueError(f"{path}: the file is empty; remove it from the source")
    _check_magic(path, format, head)
    if format == "parquet":
        _check_footer(path)
    elif format != "arrow":
        _check_text(path, format, _first_bytes(path, format) if compression(format) else head)


def by_name(name: str) -> str | None:
    """The format that a file's name promises; None where it says nothing."""
    lower = name.lower()
    return next((SUFFIXES[suffix] for suffix in _LONGEST_FIRST if lower.endswith(suffix)), None)


def _check_magic(path: Path, format: str, head: bytes) -> None:
    """Compare the first bytes with those that the format demands."""
    expected = _MAGIC.get(compression(format) or format)
    if expected is not None and not head.startswith(expected) and not _is_skipped(format, head):
        raise ValueError(f"{path}: the name says {format}, but it begins with {head[:8]!r} instead of {expected!r}")


def _is_skipped(format: str, head: bytes) -> bool:
    """Does a zstd file begin with a frame that holds no data, as `pzstd` writes?"""
    return compression(format) == "zst" and head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5


def _check_footer(path: Path) -> None:
    """A Parquet file ends as it begins; nothing in it can be found without its footer."""
    with path.open("rb") as file:
        file.seek(-4, 2)
        tail = file.read()
    if tail != _MAGIC["parquet"]:
        raise ValueError(f"{path}: truncated Parquet: it ends with {tail!r} instead of b'PAR1', so its footer is lost")


def _first_bytes(path: Path, format: str) -> bytes:
    """The first decompressed bytes; none where the data is damaged before them, which the reader reports."""
    try:
        return next(chunks(path, format), b"")[:_HEAD_BYTES]
    except Damaged as damage:
        if damage.reason == NEEDS_DICTIONARY:
            raise ValueError(f"{path}: {damage.reason}") from damage
        return b"\n"


def _check_text(path: Path, format: str, content: bytes) -> None:
    """Refuse what is not UTF-8 text at all; single wrong records are the reader's business."""
    if not content:
        raise ValueError(f"{path}: the file holds no data; remove it from the source")
    meanings = [meaning for magic, meaning in _OTHERS.items() if content.startswith(magic)]
    if meaning := other_unicode(content) or "".join(meanings[:1]):
        raise ValueError(f"{path}: the name says {format}, but the content is {meaning}")
    if format.startswith("warc"):
        return  # their pages may be in any encoding; the headers are checked one by one
    most = _MAX_CONTROL_SHARE * len(content)
    if content.count(0) > most or len(_CONTROLS.findall(content)) > max(1, most):
        raise ValueError(f"{path}: the name says {format}, but the content is binary: {content[:16]!r}")
    if format.startswith("jsonl") and re.match(rb"\s*\[\s*(\{|$)", content):
        raise ValueError(f"{path}: one JSON array; expected one JSON object a line (jq -c '.[]' converts it)")
