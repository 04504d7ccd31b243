"""Damage of every kind, seeded: no reader crashes, none loses a record that the damage did not touch."""

import gzip
import io
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from polylm.tasks.documents.readers import detect, read, split

CASES = 300
WORDS = ["Haus", "été", "дом", "บ้าน", "家", "집", "😀", "a\tb", '"quoted"', "<b>", "x" * 300]


def texts(rng, count):
    return [f"{i} " + " ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for i in range(count)]


def warc_record(kind, block, media):
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Date: 2024-01-02T03:04:05Z\r\nContent-Type: {media}\r\n"
    return head.encode() + f"Content-Length: {len(block)}\r\n\r\n".encode() + block + b"\r\n\r\n"


def build_jsonl(rng):
    return [
        json.dumps({"text": text, "n": i}, ensure_ascii=rng.random() < 0.5).encode() + b"\n"
        for i, text in enumerate(texts(rng, 30))
    ]


def build_text(rng):
    return [text.encode() + b"\n" for text in texts(rng, 30)]


def build_wet(rng):
    return [warc_record("conversion", text.encode(), "text/plain") for text in texts(rng, 30)]


def build_warc(rng):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    pages = [head + f"<html><body><p>{text}</p></body></html>".encode() for text in texts(rng, 10)]
    return [warc_record("response", page, "application/http; msgtype=response") for page in pages]


BUILDERS = {"jsonl": build_jsonl, "txt": build_text, "wet": build_wet, "warc": build_warc}


def truncate(rng, data):
    return data[: rng.randrange(len(data))]


def flip_bits(rng, data):
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 3, 20])):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def insert_nul(rng, data):
    return insert(rng, data, b"\0" * rng.choice([1, 1, 50]))


def insert_long_line(rng, data):
    return insert(rng, data, b"y" * 5000)


def insert_wrong_encoding(rng, data):
    return insert(
        rng, data, rng.choice(["Größe".encode("latin-1"), "мир".encode("cp1251"), b"\xed\xa0\x80", b"\\ud800"])
    )


def insert_mark(rng, data):
    return (
        rng.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"]) + data
        if rng.random() < 0.5
        else insert(rng, data, b"\xef\xbb\xbf")
    )


def break_header(rng, data):
    old, new = rng.choice(
        [(b"Content-Length: ", b"Content-Length: -"), (b"WARC/1.0", b"WARC/"), (b"\r\n\r\n", b"\r\n"), (b":", b"")]
    )
    at = data.find(old, rng.randrange(len(data)))
    return data if at < 0 else data[:at] + new + data[at + len(old) :]


def drop_piece(rng, data):
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randint(1, 400) :]


def insert(rng, data, piece):
    at = rng.randrange(len(data) + 1)
    return data[:at] + piece + data[at:]


DAMAGES = [
    truncate,
    flip_bits,
    insert_nul,
    insert_long_line,
    insert_wrong_encoding,
    insert_mark,
    break_header,
    drop_piece,
]


def read_file(path, options):
    """Documents and bad records of all ranges."""
    format = detect(path)
    documents = options["documents"]
    batches = [
        batch
        for range_ in split(path, format, options.pop("target"), documents=documents)
        for batch in read(path, format, range_, **options)
    ]
    good = [text for batch in batches for text in batch.documents["text"].to_pylist()]
    for batch in batches:
        batch.documents.validate(full=True)
        batch.bad.validate(full=True)
        assert all(reason and "\n" not in reason for reason in batch.bad["reason"].to_pylist())
    return good, [row for batch in batches for row in batch.bad.to_pylist()]


def compress(data, suffix, records):
    """Compress as one stream, or (WARC as it is in the wild) each record alone."""
    if suffix == "gz":
        return (
            b"".join(gzip.compress(record, mtime=0) for record in records) if records else gzip.compress(data, mtime=0)
        )
    return zstandard.compress(data) if suffix == "zst" else data


def one_case(seed, folder):
    """Build, damage and read one file; returns the damage, the records, their bytes after it, and what was read."""
    rng = random.Random(seed)
    kind = rng.choice(list(BUILDERS))
    suffix = rng.choice(["", "", "gz"] + (["zst"] if kind in ("jsonl", "txt") else []))
    records = BUILDERS[kind](rng)
    damage = rng.choice(DAMAGES)
    damaged_before = suffix == "" or rng.random() < 0.5
    data = damage(rng, b"".join(records)) if damaged_before else b"".join(records)
    members = records if kind in ("wet", "warc") and not damaged_before else None
    stored = compress(data, suffix, members)
    if not damaged_before:
        stored = damage(rng, stored)
    path = folder / f"{seed}.{kind}{'.' + suffix if suffix else ''}"
    path.write_bytes(stored)
    documents = rng.choice(["line", "line", "blank-line", "file"]) if kind == "txt" else "file"
    options = {
        "documents": documents,
        "target": rng.choice([100, 1000, 1 << 20]),
        "batch_rows": rng.choice([1, 7, 10_000]),
        "max_record_bytes": rng.choice([4000, 1 << 20]),
    }
    limit = options["max_record_bytes"]
    try:
        good, bad = read_file(path, options)
    except ValueError as error:
        check_refusal(path, error)
        return "refused"
    check(kind, documents, data if damaged_before else None, records, limit, good, bad)
    if kind in ("wet", "warc") and damage not in (
        truncate,
        drop_piece,
    ):  # these may take a whole record and leave no trace
        assert len(good) >= len(records) or bad
    return "read"


def check_refusal(path, error):
    """The one line of a ValueError names the file."""
    assert str(path) in str(error), error
    assert "\n" not in str(error), error


def check(kind, documents, data, records, limit, good, bad):
    """Every line is a document or a bad record; what the damage did not touch is read."""
    if data is not None and kind in ("jsonl", "txt") and documents != "blank-line" and kind + documents != "txtfile":
        assert len(good) + len(bad) == sum(1 for line in data.split(b"\n") if line and not line.isspace())
    if data is not None and kind in ("wet", "warc") and limit > 4000:
        touched = sum(record not in data for record in records)
        assert len(good) >= len(records) - touched - 1, (len(good), touched, bad)


def test_damaged_files_of_every_format_are_read_or_refused_by_name(tmp_path):
    outcomes = {"read": 0, "refused": 0}
    for seed in range(CASES):
        try:
            outcomes[one_case(seed, tmp_path)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    assert outcomes["read"] > CASES / 2
    assert outcomes["refused"] > 0


@pytest.mark.parametrize("damage", [truncate, flip_bits, drop_piece])
def test_damaged_parquet_loses_no_row_uncounted(tmp_path, damage):
    rng = random.Random(7)
    buffer = io.BytesIO()
    rows = texts(rng, 120)
    pq.write_table(pa.table({"text": rows, "n": range(120)}), buffer, row_group_size=30, write_page_checksum=True)
    path = tmp_path / "x.parquet"
    read_whole = 0
    for _ in range(40):
        path.write_bytes(damage(rng, buffer.getvalue()))
        try:
            options = {"documents": "file", "target": rng.choice([1, 1 << 20])}
            good, bad = read_file(path, options)
        except ValueError as error:
            check_refusal(path, error)
            continue
        lost = sum(int(row["reason"].split()[2]) for row in bad if row["reason"].startswith("damaged Parquet"))
        others = sum(not row["reason"].startswith("damaged Parquet") for row in bad)
        assert len(good) + others + lost == 120
        read_whole += not bad
    assert read_whole < 40
