"""One file over several workers: its ranges join to the whole, whatever their number, in bounded memory."""

import gzip
import json
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from input_files import read_all

from polylm.deployments.settings import Settings
from polylm.tasks.documents.ingest import IngestParams, ingest
from polylm.tasks.documents.readers import Range, read, split
from polylm.tasks.documents.sources import Source, Sources
from polylm.tasks.run import run
from polylm.tasks.session import session
from polylm.tasks.store import read_columns


def wet(count, size=200, number=0):
    records = []
    for i in range(number, number + count):
        block = f"text {i} ".encode() + b"x" * (i * 31 % size)
        head = f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Record-ID: <urn:{i}>\r\nContent-Length: {len(block)}\r\n\r\n"
        records.append(head.encode() + block + b"\r\n\r\n")
    return records


@pytest.mark.parametrize("target", [300, 1_000, 5_000])
def test_ranges_of_warc_join_to_the_whole(tmp_path, target):
    records = wet(200)
    records[50] = records[50].replace(b"Content-Length: ", b"Content-Length: x")
    inner = b"".join(wet(2, number=900))  # a page that shows what a record looks like
    records[60] = (
        b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: %d\r\n\r\n" % len(inner + b"!") + inner + b"!\r\n\r\n"
    )
    path = tmp_path / "x.wet"
    path.write_bytes(b"".join(records))
    ranges = split(path, "warc", target)
    assert len(ranges) > 5
    good, bad = read_all(path, ranges=ranges)
    assert (good, bad) == read_all(path)
    assert len(good) + len(bad) == 200


def test_ranges_of_warc_whose_records_are_gzip_members_join_to_the_whole(tmp_path):
    path = tmp_path / "x.wet.gz"
    members = [gzip.compress(record, mtime=0) for record in wet(200)]
    members[70] = members[70][:-4] + b"\xff\xff\xff\xff"
    path.write_bytes(b"".join(members))
    ranges = split(path, "warc.gz", 2_000)
    assert len(ranges) > 5
    good, bad = read_all(path, ranges=ranges)
    assert good == read_all(path)[0]
    assert (len(good), len(bad)) == (199, 1)


def test_a_warc_that_is_one_gzip_member_is_one_range(tmp_path):
    path = tmp_path / "x.wet.gz"
    path.write_bytes(gzip.compress(b"".join(wet(500)), mtime=0))
    assert split(path, "warc.gz", 500) == [Range(0, path.stat().st_size)]
    assert len(read_all(path)[0]) == 500


def folder_of_all_kinds(folder):
    """Files that are split, each with a bad record; how many records they have."""
    folder.mkdir()
    lines = [json.dumps({"text": f"line {i} " + "x" * (i % 90)}).encode() for i in range(400)] + [b"{"]
    (folder / "a.jsonl").write_bytes(b"\n".join(lines))
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines), mtime=0))
    (folder / "b.wet").write_bytes(b"".join([*wet(99), wet(1)[0].replace(b"conversion", b"nonsense")]))
    (folder / "b.wet.gz").write_bytes(b"".join(gzip.compress(record, mtime=0) for record in wet(100)))
    table = pa.table({"text": [None, *(f"row {i}" for i in range(199))]})
    pq.write_table(table, folder / "c.parquet", row_group_size=20)
    return 401 * 2 + 100 * 2 + 200


def test_records_are_documents_and_bad_ones_and_equal_for_1_2_and_7_workers(tmp_path):
    records = folder_of_all_kinds(tmp_path / "source")
    found = {}
    for workers in (1, 2, 7):
        settings = Settings(store=tmp_path / f"store{workers}", workers=workers)
        with session(settings, name="x") as here:
            artifact = run(
                ingest,
                IngestParams(part_rows=50, split_bytes=2_000),
                Sources({"s": Source(path=str(tmp_path / "source"))}),
            )
            manifest = here.store
        tables = [read_columns(manifest.part_path("ingest", part.key)) for part in artifact.parts]
        bad = [path for path in (settings.store / "parts/ingest").rglob("*.parquet") if "." not in path.stem]
        documents, lost = sum(t.num_rows for t in tables), sum(read_columns(path).num_rows for path in bad)
        assert documents + lost == records
        assert lost == 4
        assert len(bad) > 30
        found[workers] = [(part.key, part.label, sorted(part.columns.items())) for part in artifact.parts]
    assert found[1] == found[2] == found[7]


def test_a_gzip_that_cannot_be_split_streams(tmp_path):
    """A member of 64 MB, in the memory of its batches."""
    path = tmp_path / "x.jsonl.gz"
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    line = json.dumps({"text": "x" * 10_000}).encode() + b"\n"
    with path.open("wb") as file:
        for _ in range(6_400):
            file.write(packer.compress(line))
        file.write(packer.flush())
    batches = 0
    for batch in read(path, "jsonl.gz", split(path, "jsonl.gz", 1_000)[0], batch_bytes=1 << 20):
        batches += 1
        assert batch.documents.nbytes < 2 << 20
    assert batches > 50
