"""Ranges of a file, wherever they are cut, join to the whole."""

import json
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from input_files import read_all, write

from polylm.tasks.documents.readers import detect, split

LINES = [
    {"id": "a", "text": "Guten Tag", "url": "https://example.org/a", "date": "2024-05-01", "lang_declared": "de"},
    {"id": 7, "text": "สวัสดี", "date": "yesterday", "licence": "CC0", "align": None},
    {"text": "你好", "kind": "doc", "zeta": [1, {"b": 2}], "alpha": True},
]


TEXTS = st.text(alphabet="ab ä\u2028😀", max_size=12)
JSON_LINES = st.one_of(
    TEXTS.map(lambda text: json.dumps({"text": text}).encode()),
    st.sampled_from(
        [b"", b"  ", b"bad", b'{"id": 1}', b'\xef\xbb\xbf{"text": "x"}', b"\xff", b'{"text": "\xc3\xa4"}\r']
    ),
)


@settings(deadline=None, max_examples=60)
@given(lines=st.lists(JSON_LINES, max_size=30), target=st.integers(1, 200), limit=st.sampled_from([20, 1 << 20]))
def test_ranges_of_jsonl_join_to_the_whole(tmp_path_factory, lines, target, limit):
    content = b'{"text": "first"}\n' + b"\n".join(lines)
    check_ranges(tmp_path_factory.getbasetemp() / "ranges.jsonl", content, target, "file", limit)


@settings(deadline=None, max_examples=120)
@given(
    lines=st.lists(st.sampled_from(["", "", " ", "\r", " \t", "a", "b c", "ä\r", "x" * 20]), max_size=30),
    target=st.integers(1, 60),
    documents=st.sampled_from(["line", "blank-line", "file"]),
    limit=st.sampled_from([10, 1 << 20]),
)
def test_ranges_of_text_join_to_the_whole(tmp_path_factory, lines, target, documents, limit):
    content = ("x\n" + "\n".join(lines)).encode()
    check_ranges(tmp_path_factory.getbasetemp() / "ranges.txt", content, target, documents, limit)


def check_ranges(path, content, target, documents, limit):
    path.write_bytes(content)
    ranges = split(path, detect(path), target, documents=documents)
    assert ranges[0].start == 0
    assert all(before.stop == after.start for before, after in pairwise(ranges))
    options = {"documents": documents, "max_record_bytes": limit}
    assert read_all(path, ranges=ranges, **options) == read_all(path, **options)


def test_ranges_of_parquet_join_to_the_whole(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["t" * i for i in range(100)], "n": range(100)}), path, row_group_size=7)
    ranges = split(path, "parquet", 400)
    assert 2 < len(ranges) < 15
    assert read_all(path, ranges=ranges) == read_all(path)


def test_a_document_between_blank_lines_may_cross_many_ranges(tmp_path):
    path = write(tmp_path, "x.txt", "one\nstill one\n" * 50 + "\n" + "two\n\n" + "three")
    good, bad = read_all(path, ranges=split(path, "text", 10, documents="blank-line"), documents="blank-line")
    assert [row["text"][:5] for row in good] == ["one\ns", "two", "three"]
    assert bad == []
