"""Plain JSON Lines are read many at once; what comes of them is what comes of each line alone."""

import json
from itertools import pairwise

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.kernels.json_lines import strings
from polylm.tasks.documents.readers import Range, read

LONGEST = 1 << 20
PLAIN_STRINGS = st.sampled_from(
    [
        b"", b"a", b"plain words, more than eight bytes of them", "größer ไทย 日本 😀".encode(), b'\\"\\\\\\/\\b\\f\\n\\r\\t',
        b"\\u00e4\\u0E44\\ud83d\\uDE00", b"\\u0000", b"\x7f", b"1234567\\n", b"12345678\\n", "1234567ä".encode(), b"{[,]}:",
    ]
)  # fmt: skip
ODD_STRINGS = st.sampled_from(
    [b"\\ud800", b"\\ud800\\u0041", b"\\udc00", b"\\u12g4", b"\\u12", b"\\x", b"\t", b"\0", b"\xff", b"\xed\xa0\x80",
     b"\xc0\xaf", b"\xe4\xb8", b"\\", b'"']
)  # fmt: skip
VALUES = st.sampled_from(
    [b"1", b"-0.0", b"1e400", b"18446744073709551616", b"01", b"null", b"true", b"nul", b"", b"[]", b'[{"text": "in]ner"}, [1]]',
     b'{"a": "}\\""}', b"{]", b'"2024-05-01"', b'"x\xff"', b'"\\ud800"', b"[" * 300 + b"]" * 300, b'"un', b"NaN"]
)  # fmt: skip
SPACE = st.sampled_from([b"", b" ", b"\t\r ", b"\x0b", b"\xef\xbb\xbf"])
KEYS = st.sampled_from([b'"id"', b'"url"', b'"date"', b'"zeta"', b'"text"', b'"te\\u0078t"', b'""', b"text"])


@st.composite
def objects(draw, odd):
    """One line, more or less an object with a text."""
    chosen = st.one_of(PLAIN_STRINGS, ODD_STRINGS) if odd else PLAIN_STRINGS
    space = (lambda: draw(SPACE) if draw(st.integers(0, 9)) == 0 else b"") if odd else (lambda: b"")
    text = b'"' + b"".join(draw(st.lists(chosen, max_size=4))) + b'"'
    members = [(b'"text"', text)]
    for _ in range(draw(st.integers(0, 3)) if odd else 0):
        members.insert(draw(st.integers(0, len(members))), (draw(KEYS), draw(VALUES)))
    written = [space() + key + space() + b":" + space() + value + space() for key, value in members]
    line = space() + b"{" + b",".join(written) + b"}" + space()
    return line[: draw(st.integers(0, len(line)))] if odd and draw(st.integers(0, 19)) == 0 else line


def documents_and_bad(path, **options):
    batches = list(read(path, "jsonl", Range(0, path.stat().st_size), **options))
    return [[row for batch in batches for row in getattr(batch, name).to_pylist()] for name in ("documents", "bad")]


@settings(deadline=None, max_examples=400)
@given(lines=st.lists(st.one_of(objects(odd=False), objects(odd=True), st.just(b" ")), max_size=6))
def test_lines_at_once_are_the_same_documents_as_line_by_line(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "together.jsonl"
    content = b'{"text": "first"}\n' + b"\n".join(lines) + b"\n"
    path.write_bytes(content)
    documents, bad = documents_and_bad(path)
    path.write_bytes(content + b"no JSON")  # beside which nothing is read at once
    assert documents_and_bad(path)[0] == documents
    assert documents_and_bad(path)[1][:-1] == bad


@settings(deadline=None, max_examples=200)
@given(lines=st.lists(objects(odd=False), min_size=1, max_size=6), shift=st.integers(0, 9))
def test_plain_strings_are_what_a_parser_reads(lines, shift):
    data = b"\n".join([b'{"text":"' + b"x" * shift + b'"}', *lines])  # words of eight bytes start elsewhere
    texts, offsets, spans = strings(data, b"text", LONGEST)
    found = [bytes(texts[start:end]).decode() for start, end in pairwise(offsets.tolist())]
    assert found == [orjson.loads(line)["text"] for line in data.split(b"\n")]
    for (start, value, after, end), text in zip(spans.tolist(), found, strict=True):
        assert orjson.loads(data[value:after]) == text
        assert data[start:end] in data.split(b"\n")


@pytest.mark.parametrize(
    "line",
    [
        b"{}", b"[]", b'{"text": 1}', b'{"text": "a", "text": "b"}', b'{"te\\u0078t": "b", "text": "a"}', b'{"id": "text"}',
        b'{"a": {"text": "b"}}', b'{"text": "a"', b'{"text": "a', b'{"text": "\\ud800"}', b'{"text": "a\tb"}', b'{"text": "a"} x',
        b'{"text": "a"}{"text": "b"}', b'"text"', b'{"text"', b'{"text":', b"{",
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_the_parser(line):
    assert strings(line, b"text", LONGEST) is None
    assert strings(b'{"text": "a"}\n' + line + b'\n{"text": "b"}', b"text", LONGEST) is None


def test_blank_lines_are_none_and_long_ones_are_not_plain():
    assert strings(b'\n  \n{"text": "a"}\r\n\n', b"text", LONGEST)[2].tolist() == [[4, 13, 16, 18]]
    assert strings(b'{"text": "abc"}', b"text", 15) is not None
    assert strings(b'{"text": "abc"}', b"text", 14) is None
    assert len(strings(b"", b"text", LONGEST)[2]) == 0


def test_a_text_that_is_also_the_id_is_both(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"text": "a"}\n')
    assert [row["id"] for row in documents_and_bad(path, fields={"id": "text"})[0]] == ["a"]


BIG = [2**53 + 1, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 123456789012345678901234567890, 10**40 + 1]


@pytest.mark.parametrize("number", BIG)
@pytest.mark.parametrize("beside", [b"", b"no JSON\n"])  # at once, and line by line
def test_integers_of_any_size_are_kept_to_their_last_digit(tmp_path, number, beside):
    path = tmp_path / "x.jsonl"
    extra = {"deep": [{"x": [number, True, 0.5]}], "n": number}
    lines = [{"text": "a " + "7" * 30, **extra}, {"text": "b", "id": number, "ratio": 0.1234567890123456789}]
    path.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines) + beside)
    documents, _ = documents_and_bad(path)
    assert json.loads(documents[0]["extra"]) == extra
    assert str(number) in documents[0]["extra"]
    assert (documents[1]["id"], json.loads(documents[1]["extra"])) == (str(number), {"ratio": 0.1234567890123456789})


def test_batches_of_many_lines_end_where_they_are_full(tmp_path):
    path = tmp_path / "x.jsonl"
    lines = [json.dumps({"text": "x" * 100}).encode()] * 25
    path.write_bytes(b"\n".join(lines))
    sizes = [len(batch.documents) for batch in read(path, "jsonl", Range(0, 1 << 20), batch_rows=12)]
    assert sizes == [12, 12, 1]
    sizes = [len(batch.documents) for batch in read(path, "jsonl", Range(0, 1 << 20), batch_bytes=500)]
    assert sizes == [5, 5, 5, 5, 5]


@pytest.mark.parametrize("size", [100, 700_000, 3_000_000])
def test_blocks_of_any_number_of_lines_join_to_the_file(tmp_path, size):
    path = tmp_path / "x.jsonl"
    texts = [f"{number} " + "ä\n" * (number * 7919 % size // 3) for number in range(7)]
    path.write_bytes(b"\n".join(json.dumps({"text": text}, ensure_ascii=False).encode() for text in texts))
    limit = size // 2
    whole = [[row["text"] for row in documents_and_bad(path)[0]], documents_and_bad(path, max_record_bytes=limit)]
    assert whole[0] == texts
    borders = [0, 1, 50, 1_000_000, path.stat().st_size]
    parts = [
        batch
        for start, stop in pairwise(borders)
        for batch in read(path, "jsonl", Range(start, stop), max_record_bytes=limit)
    ]
    assert [row for batch in parts for row in batch.documents.to_pylist()] == whole[1][0]
    assert [row for batch in parts for row in batch.bad.to_pylist()] == whole[1][1]
    assert len(whole[1][0]) + len(whole[1][1]) == 7
