"""Files of every kind as bytes, and all that a reader makes of one."""

import gzip
import json
from pathlib import Path

import zstandard

from polylm.tasks.documents.ingest import IngestParams, ingest
from polylm.tasks.documents.readers import detect, read, split
from polylm.tasks.documents.schema import BAD_RECORD, DOCUMENT
from polylm.tasks.documents.sources import Sources
from polylm.tasks.store import Store


def read_all(path, *, ranges=None, documents="file", **options):
    """All documents and all bad records of a file, as lists of rows."""
    format = detect(path)
    batches = [
        batch
        for range_ in ranges or split(path, format, 1 << 40, documents=documents)
        for batch in read(path, format, range_, documents=documents, **options)
    ]
    assert all(batch.documents.schema == DOCUMENT and batch.bad.schema == BAD_RECORD for batch in batches)
    good = [row for batch in batches for row in batch.documents.to_pylist()]
    return good, [row for batch in batches for row in batch.bad.to_pylist()]


def ingested(tmp_path, source, **params):
    """Documents and bad records of a source, and what was noticed."""
    store, told = Store(tmp_path / "store").open(), []
    good, bad = [], []
    for piece in Sources({"s": source}, notice=told.append).pieces(IngestParams(**params), store):
        jobs = ingest(piece, IngestParams(**params))
        while True:
            try:
                good += next(jobs).to_pylist()
            except StopIteration as stop:
                bad += stop.value.to_pylist()
                break
    return good, bad, told


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    data = content.encode() if isinstance(content, str) else content
    if name.endswith(".gz"):
        data = gzip.compress(data, mtime=0)
    if name.endswith(".zst"):
        stream = zstandard.ZstdCompressor().compressobj()  # without the size in its header, as a pipe is compressed
        data = stream.compress(data) + stream.flush()
    path.write_bytes(data)
    return path


def jsonl(records) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


def warc(kind: str, block: bytes, url: str = "http://example.org/", length: int | None = None, more: str = "") -> bytes:
    media = "application/http; msgtype=response" if kind == "response" else "text/plain"
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2024-01-02T03:04:05Z\r\n"
        f"WARC-Record-ID: <urn:uuid:{url}>\r\nContent-Type: {media}\r\n{more}"
        f"Content-Length: {len(block) if length is None else length}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def page(body: bytes, media: str = "text/html; charset=utf-8", status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\n{more}\r\n".encode() + body


def html(text: str) -> bytes:
    return f"<html><body><nav><a href='/'>Home</a></nav><main><p>{text}</p></main></body></html>".encode()
