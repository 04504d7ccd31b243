"""Small files that unpack to very large ones, and what it costs to read them.

    python -P bombs.py PATH MEGABYTES

makes the bomb that PATH's name says, reads it in this process and prints one line of JSON: the file's bytes, those that
it unpacks to, documents and bad records as read and as expected, and by how much reading made the process grow.
"""

import bz2
import gzip
import json
import lzma
import resource
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from polylm.tasks.documents.readers import detect, read, split

MEGABYTE = 1 << 20
LIMIT = MEGABYTE  # bytes that a record may have
_BEGINNING = b'{"text": "'
_END = b'"}\n'


def lines(path, megabytes):
    """Lines of 100 kB, each a document."""
    line = _BEGINNING + b"a" * (100_000 - len(_BEGINNING + _END)) + _END
    count = megabytes * MEGABYTE // len(line) + 1
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(count):
            file.write(line)
    return count * len(line), (count, 0)


def one_line(path, megabytes):
    """One line without an end, after one that is well."""
    with path.open("wb") as raw, zstandard.ZstdCompressor().stream_writer(raw) as file:
        file.write(_BEGINNING + b"well" + _END + _BEGINNING)
        for _ in range(megabytes):
            file.write(b"a" * MEGABYTE)
    return megabytes * MEGABYTE, (1, 1)


def record(path, megabytes):
    """A WARC record of that length, and one that is well after it."""
    head = b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: %d\r\n\r\n"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(head % (megabytes * MEGABYTE))
        for _ in range(megabytes):
            file.write(b"\0" * MEGABYTE)
        file.write(b"\r\n\r\n" + head % 4 + b"well\r\n\r\n")
    return megabytes * MEGABYTE, (1, 1)


def rows(path, megabytes):
    """One long text in a dictionary, and many rows that name it."""
    count = megabytes * 10
    column = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array(["a" * (MEGABYTE // 10)]))
    pq.write_table(pa.table({"text": column}), path, compression="zstd")
    return count * (MEGABYTE // 10), (count, 0)


def dump(path, megabytes):
    """A page of that length in a dump, and one that is well after it."""
    page = b"<page><title>T</title><ns>0</ns><revision><text>%s</text></revision></page>"
    with bz2.open(path, "wb") as file:
        file.write(b"<mediawiki>" + page[: page.index(b"%s")])
        for _ in range(megabytes):
            file.write(b"a" * MEGABYTE)
        file.write(page[page.index(b"%s") + 2 :] + page % b"well" + b"</mediawiki>")
    return megabytes * MEGABYTE, (1, 1)


def table(path, megabytes):
    """A quoted field without an end, and a record that is well after it."""
    with lzma.open(path, "wb", preset=0) as file:
        file.write(b'text,n\n"')
        for _ in range(megabytes):
            file.write(b"a" * MEGABYTE)
        file.write(b"\nwell,1\n")
    return megabytes * MEGABYTE, (1, 1)


BOMBS = {"lines": lines, "one-line": one_line, "record": record, "rows": rows, "dump": dump, "table": table}


def main():
    """Make it, read it, tell."""
    path, megabytes = Path(sys.argv[1]), int(sys.argv[2])
    unpacked, expected = BOMBS[path.name.partition(".")[0]](path, megabytes)
    small = path.with_name(f"small-{path.name}")
    BOMBS[path.name.partition(".")[0]](small, 1)
    _read(small)  # what the libraries take once is not the bomb's
    before = _peak()
    found = _read(path)
    told = {"packed_bytes": path.stat().st_size, "unpacked_bytes": unpacked, "read": found, "expected": expected}
    sys.stdout.write(json.dumps({**told, "grown_bytes": _peak() - before}) + "\n")


def _read(path):
    """Documents and bad records."""
    format = detect(path)
    good = bad = 0
    for range_ in split(path, format, 1 << 30):
        for batch in read(path, format, range_, max_record_bytes=LIMIT):
            good, bad = good + len(batch.documents), bad + len(batch.bad)
    return good, bad


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


if __name__ == "__main__":
    main()
