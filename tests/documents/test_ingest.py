"""Parts are cut by rows and bytes alone, and records = documents + bad, whatever is in a file."""

import json
from itertools import accumulate, pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.tasks.documents.ingest import IngestParams, cut, ingest
from polylm.tasks.documents.places import Place
from polylm.tasks.documents.readers import detect, split
from polylm.tasks.documents.schema import BAD_RECORD, DOCUMENT
from polylm.tasks.documents.sources import Piece, Source, list_local


def piece_of(path, range_=None, **reading):
    format = detect(path)
    source = Source(path=str(path), **reading)
    place = Place(str(path), path.name, path.stat().st_size, "")
    return Piece("source", place, format, range_ or split(path, format, 1 << 40)[0], source)


def read_all(piece, params):
    """Parts and bad records of one job."""
    jobs, parts = ingest(piece, params), []
    while True:
        try:
            parts.append(next(jobs))
        except StopIteration as stop:
            return parts, stop.value


@pytest.mark.parametrize("change", ["rewritten", "grown", "gone"])
@pytest.mark.parametrize("when", ["before", "between"])
def test_a_file_that_changed_since_it_was_listed_is_not_kept_as_what_it_was(tmp_path, change, when):
    """Parts are known by the digest that the file had: what it has now would stand under that for good."""
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"{i} {'x' * 1_000}"}) + "\n" for i in range(20_000)))
    (place,) = list_local("s", str(path))
    jobs = ingest(
        Piece("s", place, "jsonl", split(path, "jsonl", 1 << 40)[0], Source(path=str(path))), IngestParams(part_rows=10)
    )
    if when == "between":
        next(jobs)
    if change == "rewritten":
        path.write_text('{"text": "other"}\n' * 20_000)
    elif change == "grown":
        with path.open("a") as more:
            more.write('{"text": "more"}\n')
    else:
        path.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=r"a\.jsonl( changed since it was listed; run again|')"):
        list(jobs)


def tables_of(texts, cuts):
    table = pa.table({"text": pa.array(texts, pa.string())})
    bounds = [0, *accumulate(cuts), len(texts)]
    return [table.slice(first, max(0, last - first)) for first, last in pairwise(bounds)]


def slow_cut(texts, rows, size):
    parts = [[]]
    for text in texts:
        held = sum(len(other.encode()) for other in parts[-1])
        if parts[-1] and (len(parts[-1]) == rows or held + len(text.encode()) > size):
            parts.append([])
        parts[-1].append(text)
    return [part for part in parts if part]


@settings(deadline=None)
@given(
    st.lists(st.text("aé語", max_size=6), max_size=25), st.lists(st.integers(0, 8), max_size=5),
    st.integers(1, 6), st.integers(1, 20),
)  # fmt: skip
def test_parts_are_full_and_do_not_depend_on_how_a_file_was_read(texts, cuts, rows, size):
    parts = [part["text"].to_pylist() for part in cut(iter(tables_of(texts, cuts)), rows, size)]
    assert parts == slow_cut(texts, rows, size)


def test_records_are_documents_and_bad_ones(tmp_path):
    path = tmp_path / "some.jsonl"
    good = [json.dumps({"text": f"text {i}", "id": i}).encode() for i in range(10)]
    bad = [b"{", b"[1]", b'{"id": 3}', b'{"text": null}', b'{"text": "\xff"}']
    path.write_bytes(b"\n".join([*good[:5], *bad, *good[5:]]) + b"\n")
    parts, rejects = read_all(piece_of(path), IngestParams(part_rows=4))
    assert [part.num_rows for part in parts] == [4, 4, 2]
    assert [text for part in parts for text in part["text"].to_pylist()] == [f"text {i}" for i in range(10)]
    assert all(part.schema == DOCUMENT for part in parts)
    assert rejects.schema == BAD_RECORD
    assert rejects.num_rows == len(bad)
    assert set(rejects["file"].to_pylist()) == {"some.jsonl"}


def test_ranges_of_a_file_give_what_the_whole_file_gives(tmp_path):
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({"text": "x" * (i % 97), "id": str(i)}) + "\n" for i in range(500)))
    whole, _ = read_all(piece_of(path), IngestParams())
    ranges = split(path, "jsonl", 4_000)
    assert len(ranges) > 5
    pieces = [part for range_ in ranges for part in read_all(piece_of(path, range_), IngestParams())[0]]
    assert pa.concat_tables(pieces).equals(pa.concat_tables(whole))


def test_a_record_that_is_too_long_is_a_bad_one(tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"text": "x" * 500}) + "\n" + json.dumps({"text": "short"}) + "\n")
    parts, rejects = read_all(piece_of(path), IngestParams(max_record_bytes=100))
    assert [part["text"].to_pylist() for part in parts] == [["short"]]
    assert rejects["reason"].to_pylist() == ["longer than 100 bytes"]


def test_fields_of_a_source_are_mapped(tmp_path):
    path = tmp_path / "other.jsonl"
    path.write_text(json.dumps({"content": "hello", "text": "no"}) + "\n")
    parts, _ = read_all(piece_of(path, fields={"text": "content"}), IngestParams())
    assert parts[0]["text"].to_pylist() == ["hello"]


def test_parameters_have_bounds():
    with pytest.raises(ValueError, match="part_rows"):
        IngestParams(part_rows=0)
