"""Files of every kind before anything is wrong with them: a list of records, as bytes, from a random state."""

import bz2
import csv
import gzip
import io
import json
import lzma
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

WORDS = ["Haus", "été", "дом", "บ้าน", "家", "집", "😀", "a\tb", '"quoted"', "<b>", "x" * 300]
MARKUP = [
    "[[Haus|Häuser]]",
    "{{Vorlage|a=b}}",
    "{|\n|x\n|}",
    "[[Datei:x.jpg|thumb]]",
    "'''fett'''",
    "[[",
    "{{{{",
    "<ref>x</ref>",
]


def texts(rng, count):
    """Texts of several scripts, each with its number in front."""
    return [f"{i} " + " ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for i in range(count)]


def build_jsonl(rng):
    """Lines of JSON, some with escapes and some without."""
    return [
        json.dumps({"text": text, "n": i}, ensure_ascii=rng.random() < 0.5).encode() + b"\n"
        for i, text in enumerate(texts(rng, 30))
    ]


def build_text(rng):
    """Lines of text."""
    return [text.encode() + b"\n" for text in texts(rng, 30)]


def build_wet(rng):
    """Records of extracted text."""
    return [_warc_record("conversion", text.encode(), "text/plain") for text in texts(rng, 30)]


def build_warc(rng):
    """Records of pages."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    pages = [head + f"<html><body><p>{text}</p></body></html>".encode() for text in texts(rng, 10)]
    return [_warc_record("response", page, "application/http; msgtype=response") for page in pages]


def build_parquet(rng, rows=120, group=30):
    """One file of several row groups; the whole file is the record."""
    buffer = io.BytesIO()
    table = pa.table({"text": texts(rng, rows), "n": range(rows)})
    pq.write_table(table, buffer, row_group_size=group, write_page_checksum=True)
    return [buffer.getvalue()]


def build_csv(rng):
    """A table with quotes, separators and line ends in its fields, and records of one line."""
    rows = [["id", "text"]] + [
        [i, text + rng.choice(["", ", and", '\n"more"'])] for i, text in enumerate(texts(rng, 30))
    ]
    buffers = [io.StringIO(newline="") for _ in rows]
    for buffer, row in zip(buffers, rows, strict=True):
        csv.writer(buffer, lineterminator="\n").writerow(row)
    return [buffer.getvalue().encode() for buffer in buffers]


def build_tsv(rng):
    """A table whose records are lines."""
    return [b"id\ttext\n"] + [f"{i}\t{text.replace(chr(9), ' ')}\n".encode() for i, text in enumerate(texts(rng, 30))]


def build_xml(rng):
    """A dump of articles, talk pages and redirects."""
    pages = [
        f"<page><title>T {i}</title><ns>{rng.choice([0, 0, 0, 1])}</ns><id>{i}</id>{rng.choice(['', '', '<redirect/>'])}"
        f"<revision><id>{i}</id><text>{escape(text)} {rng.choice(MARKUP)}</text></revision></page>\n".encode()
        for i, text in enumerate(texts(rng, 20))
    ]
    head = b'<mediawiki xml:lang="de"><siteinfo><base>https://de.example/wiki/Start</base></siteinfo>\n'
    return [head, *pages, b"</mediawiki>\n"]


def build_arrow(rng):
    """A stream or a file of record batches; the whole file is the record."""
    buffer = io.BytesIO()
    table = pa.table({"text": texts(rng, 120), "n": range(120), "l": [[i] * (i % 3) for i in range(120)]})
    new = rng.choice([pa.ipc.new_file, pa.ipc.new_stream])
    options = pa.ipc.IpcWriteOptions(compression=rng.choice([None, "zstd", "lz4"]))
    with new(buffer, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=30)
    return [buffer.getvalue()]


BUILDERS = {
    "csv": build_csv,
    "tsv": build_tsv,
    "xml": build_xml,
    "arrow": build_arrow,
    "jsonl": build_jsonl,
    "txt": build_text,
    "wet": build_wet,
    "warc": build_warc,
    "parquet": build_parquet,
}


def compress(data, suffix, records=None):
    """Compress as one stream, or (WARC as it is in the wild) each record alone."""
    if suffix == "gz":
        return b"".join(gzip.compress(piece, mtime=0) for piece in (records or [data]))
    packers = {"zst": zstandard.compress, "bz2": bz2.compress, "xz": lzma.compress}
    return packers[suffix](data) if suffix else data


def _warc_record(kind, block, media):
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Date: 2024-01-02T03:04:05Z\r\nContent-Type: {media}\r\n"
    return head.encode() + f"Content-Length: {len(block)}\r\n\r\n".encode() + block + b"\r\n\r\n"
