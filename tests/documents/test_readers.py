"""Files of every format become documents and bad records, whatever is wrong with them."""

import gzip
import json
import tracemalloc
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from input_files import jsonl, read_all, write

from polylm.tasks.documents.ingest import IngestParams
from polylm.tasks.documents.readers import Range, by_name, detect, options, read, read_code, split
from polylm.tasks.documents.sources import Source, Sources
from polylm.tasks.store import Store

LINES = [
    {"id": "a", "text": "Guten Tag", "url": "https://example.org/a", "date": "2024-05-01", "lang_declared": "de"},
    {"id": 7, "text": "สวัสดี", "date": "yesterday", "licence": "CC0", "align": None},
    {"text": "你好", "kind": "doc", "zeta": [1, {"b": 2}], "alpha": True},
]


# JSON Lines


@pytest.mark.parametrize("name", ["x.jsonl", "x.ndjson", "x.jsonl.gz", "x.json.gz", "x.jsonl.zst"])
def test_maps_fields_and_keeps_the_others_in_extra(tmp_path, name):
    good, bad = read_all(write(tmp_path, name, jsonl(LINES)))
    assert bad == []
    assert [row["text"] for row in good] == ["Guten Tag", "สวัสดี", "你好"]
    assert [row["id"] for row in good] == ["a", "7", None]
    assert [row["date"] for row in good] == ["2024-05-01", None, None]
    assert [row["extra"] for row in good] == [
        '{"lang_declared":"de"}',
        '{"date":"yesterday"}',
        '{"alpha":true,"zeta":[1,{"b":2}]}',
    ]


def test_a_mapping_names_the_sources_fields(tmp_path):
    path = write(tmp_path, "x.jsonl", jsonl([{"content": "hello", "docid": "1", "text": 5}]))
    good, _ = read_all(path, fields={"text": "content", "id": "docid"})
    assert (good[0]["text"], good[0]["id"], good[0]["extra"]) == ("hello", "1", '{"text":5}')


def test_one_field_may_fill_two_columns(tmp_path):
    path = write(tmp_path, "x.jsonl", jsonl([{"text": "hello", "url": "u:1"}]))
    good, _ = read_all(path, fields={"id": "url"})
    assert (good[0]["id"], good[0]["url"], good[0]["extra"]) == ("u:1", "u:1", None)


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_a_wrong_text_field_is_one_error_that_lists_the_fields(tmp_path, name):
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.table({"content": ["a"], "docid": ["b"]}), path)
    else:
        write(tmp_path, name, jsonl([{"content": "a"}, {"docid": "b"}]))
    with pytest.raises(ValueError, match=r"text field 'text'; the fields found are content, docid; name the right one"):
        read_all(path)


def test_a_wrong_field_of_another_column_of_a_table_is_an_error_too(tmp_path):
    pq.write_table(pa.table({"text": ["a"], "docid": ["b"]}), tmp_path / "x.parquet")
    write(tmp_path, "x.csv", "text,docid\na,b\n")
    for name in ("x.parquet", "x.csv"):
        with pytest.raises(ValueError, match=r"no column is called 'doc', .* for id; the fields found are text, docid"):
            read_all(tmp_path / name, fields={"id": "doc"})
        assert read_all(tmp_path / name, fields={"id": "docid"})[0][0]["id"] == "b"


def test_a_mapping_of_an_unknown_column_is_an_error(tmp_path):
    path = write(tmp_path, "x.jsonl", jsonl(LINES))
    with pytest.raises(ValueError, match="no column is called txt; the columns are text, id, url"):
        read(path, "jsonl", Range(0, 1), fields={"txt": "text"})


BAD_LINES = [
    (b'{"text": "caf\xe9"}', "not UTF-8: byte 0xe9 at 13"),
    (b'{"text": "a\x00b"}', "not JSON: a NUL byte at character 11"),
    (b'{"text": "\\ud800"}', "not Unicode: a lone surrogate before character"),
    (b'["text"]', "not a JSON object"),
    (b'{"text": 5}', "'text' is a number, not a string"),
    (b'{"text": null}', "'text' is null, not a string"),
    (b'{"text": true}', "'text' is a boolean, not a string"),
    (b'{"id": "x"}', "no field 'text'"),
    (b'{"text": "a"', "not JSON at character 12"),
    (b'{"text": "a", "b": ' + b"[" * 500 + b"]" * 500 + b"}", "fields nested too deeply"),
    (b"[" * 5000 + b"]" * 5000, "not JSON at character"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_a_bad_line_is_a_bad_record_with_reason_offset_and_first_bytes(tmp_path, line, reason):
    content = jsonl(LINES) + line + b"\n" + jsonl(LINES)
    good, bad = read_all(write(tmp_path, "x.jsonl", content))
    assert len(good) == 6
    assert len(bad) == 1
    assert bad[0]["reason"].startswith(reason)
    assert (bad[0]["file"], bad[0]["unit"], bad[0]["offset"]) == ("x.jsonl", "byte", len(jsonl(LINES)))
    assert bad[0]["found"].startswith(line[:5].decode())
    assert bad[0]["found"].isprintable()


def test_blank_lines_and_byte_order_marks_are_no_records(tmp_path):
    content = b"\xef\xbb\xbf" + jsonl(LINES[:1]) + b"\n  \r\n" + b"\xef\xbb\xbf" + jsonl(LINES[1:])[:-1]
    good, bad = read_all(write(tmp_path, "x.jsonl", content))
    assert (len(good), bad) == (3, [])


def test_a_line_longer_than_the_limit_is_bad_and_never_held(tmp_path):
    path = tmp_path / "x.jsonl"
    with path.open("wb") as file:
        file.write(jsonl(LINES) + b'{"text": "')
        for _ in range(200):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n' + jsonl(LINES))
    tracemalloc.start()
    good, bad = read_all(path, max_record_bytes=4 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(good) == 6
    assert [row["reason"] for row in bad] == [f"longer than {4 << 20} bytes"]
    assert len(bad[0]["found"]) == 200
    assert peak < 16 << 20


def test_a_batch_ends_at_its_rows_or_bytes(tmp_path):
    path = write(tmp_path, "x.jsonl", jsonl([{"text": "x" * 100}] * 25) + b"bad\n" * 5)
    sizes = [len(b.documents) + len(b.bad) for b in read(path, "jsonl", Range(0, 1 << 20), batch_rows=12)]
    assert sizes == [12, 12, 6]
    sizes = [len(b.documents) for b in read(path, "jsonl", Range(0, 1 << 20), batch_bytes=500)]
    assert sizes == [5, 5, 5, 5, 5, 0]


# Plain text


def test_a_text_file_is_one_document_or_one_a_line_or_one_a_paragraph(tmp_path):
    path = write(tmp_path, "x.txt.gz", "\ufeffone\ntwo\n \n\nthree\r\n")
    assert [row["text"] for row in read_all(path)[0]] == ["one\ntwo\n \n\nthree"]
    assert [row["text"] for row in read_all(path, documents="line")[0]] == ["one", "two", "three"]
    assert [row["text"] for row in read_all(path, documents="blank-line")[0]] == ["one\ntwo", "three"]


@pytest.mark.parametrize("documents", ["file", "line", "blank-line"])
def test_a_text_of_the_limit_is_whole_and_a_longer_one_is_bad(tmp_path, documents):
    path = write(tmp_path, "x.txt", "y" * 999 + "\n")
    for limit, texts in ((1000, ["y" * 999]), (998, [])):
        good, bad = read_all(path, documents=documents, max_record_bytes=limit)
        assert [row["text"] for row in good] == texts
        assert [row["reason"] for row in bad] == ["longer than 998 bytes"] * (1 - len(texts))


def test_an_unknown_unit_of_text_is_an_error(tmp_path):
    path = write(tmp_path, "x.txt", "a")
    with pytest.raises(ValueError, match="found 'page', expected one of file, blank-line, line"):
        read(path, "text", Range(0, 1), documents="page")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"Gr\xfc\xdfe", "not UTF-8: byte 0xfc at 2"), (b"a\0b" + b"c" * 99, "not text: a NUL byte at 1")],
)
def test_text_in_another_encoding_is_a_bad_record(tmp_path, content, reason):
    good, bad = read_all(write(tmp_path, "x.txt", content))
    assert (good, [row["reason"] for row in bad]) == ([], [reason])


# Parquet


def test_reads_all_kinds_of_parquet_columns(tmp_path):
    path = tmp_path / "x.parquet"
    when = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    table = pa.table(
        {
            "text": pa.array(["a", None, "c"], pa.large_string()),
            "id": [1, 2, 3],
            "date": pa.array([when] * 3, pa.timestamp("s", "Europe/Berlin")),
            "licence": pa.array(["CC0", "CC0", None]).dictionary_encode(),
            "scores": [[0.5], [], None],
            "raw": [b"\xffx", b"", None],
        }
    )
    pq.write_table(table, path)
    good, bad = read_all(path)
    assert [(row["unit"], row["offset"], row["reason"]) for row in bad] == [("row", 1, "'text' is null, not a string")]
    assert good[0]["id"] == "1"
    assert good[0]["date"] == "2024-05-06T07:08:09.000Z"
    assert good[0]["licence"] == "CC0-1.0"
    assert good[0]["extra"] == '{"raw":"\\\\xffx","scores":[0.5]}'
    assert good[1]["extra"] is None


def test_a_parquet_text_field_of_numbers_is_an_error(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": [1, 2]}), path)
    with pytest.raises(ValueError, match="the text field 'text' is of type int64; expected strings"):
        read_all(path)


def test_nested_and_impossible_values_of_parquet_stay_readable(tmp_path):
    path = tmp_path / "x.parquet"
    dates = pa.array([2**40, 0, None], pa.int64()).cast(pa.timestamp("s"))
    names = pa.ListArray.from_arrays([0, 1, 2, 2], pa.array([b"\xff", b"ok"]).view(pa.string()))
    nested = pa.StructArray.from_arrays([dates], ["when"])
    pq.write_table(pa.table({"text": ["a", "b", "c"], "nested": nested, "names": names}), path)
    good, bad = read_all(path)
    assert [row["text"] for row in good] == ["a", "b", "c"]
    assert bad == []
    assert json.loads(good[1]["extra"])["names"] == ["ok"]


def test_a_parquet_string_that_is_not_utf8_is_a_bad_record(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": pa.array([b"ok", b"\xffno", b"fine"]).view(pa.string())}), path)
    good, bad = read_all(path)
    assert [row["text"] for row in good] == ["ok", "fine"]
    assert [(row["offset"], row["reason"]) for row in bad] == [(1, "not UTF-8: byte 0xff at 0")]


def test_a_damaged_row_group_costs_its_rows_only_and_says_how_many(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": [f"document {i}" for i in range(300)]}), path, row_group_size=100)
    group = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = group.dictionary_page_offset or group.data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + group.total_compressed_size] = b"\xff" * group.total_compressed_size
    path.write_bytes(data)
    good, bad = read_all(path)
    assert len(good) == 200
    assert len(bad) == 1
    assert bad[0]["offset"] == 100
    assert bad[0]["reason"].startswith("damaged Parquet: 100 rows of row group 1 are lost")


# Names and contents


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.docx", b"PK", "the name does not say which format it has; known are .arrow .csv .json"),
        ("x.jsonl", b"", "the file is empty"),
        ("x.jsonl", gzip.compress(b"{}", mtime=0), "the name says jsonl, but the content is gzip data"),
        ("x.jsonl.gz", b'{"text": "a"}', "the name says jsonl.gz, but it begins with"),
        ("x.jsonl.gz", gzip.compress(b"", mtime=0), "the file holds no data"),
        ("x.jsonl.zst", b'{"text": "a"}', "the name says jsonl.zst, but it begins with"),
        ("x.txt", bytes(range(256)), "the content is binary"),
        ("x.txt", "hello".encode("utf-16"), r"the content is UTF-16 text \(iconv"),
        ("x.txt", "hello".encode("utf-16-le"), "the content is binary"),
        ("x.txt", b"\0", "the content is binary"),
        ("x.csv", b"a\0", "the content is binary"),
        ("x.jsonl", b"\0\0\n", "the content is binary"),
        ("x.txt.gz", gzip.compress(b"\x7fELF\0\0\0\0\1\1\1", mtime=0), "the content is binary"),
        ("x.json", b'[\n {"text": "a"}]', r"one JSON array; expected one JSON object a line \(jq"),
        ("x.parquet", b"PAR1xxxxxxxxxx", "truncated Parquet: it ends with b'xxxx'"),
        ("x.parquet", b"hello", "the name says parquet, but it begins with"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_an_error(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        detect(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["x.txt", "x.jsonl", "x.csv", "x.tsv.gz", "x.jsonl.zst"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
@pytest.mark.parametrize("order", ["le", "be"])
def test_a_file_of_wide_characters_is_named_by_its_encoding_with_the_way_out(tmp_path, name, encoding, order):
    path = write(tmp_path, name, ('\ufeff{"text": "Grüße"}\n' * 3).encode(f"{encoding}-{order}"))
    way_out = rf"the content is {encoding.upper()} text \(iconv -f {encoding.upper()} -t UTF-8 converts it\)"
    with pytest.raises(ValueError, match=way_out):
        detect(path)
    format = Source(path=str(path), format=by_name(name))
    with pytest.raises(ValueError, match=f"source s: .*{way_out}"):
        Sources({"s": format}).pieces(IngestParams(), Store(tmp_path / "store").open())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_wide_characters_in_the_midst_of_others_are_named_too(tmp_path, encoding):
    content = "int main() {}".encode(encoding)
    reason = f"not UTF-8: {encoding.upper()} text (iconv -f {encoding.upper()} -t UTF-8 converts it)"
    code = write(tmp_path, "x.c", content)
    (batch,) = read_code([code], ["x.c"], options())
    assert batch.bad["reason"].to_pylist() == [reason]
    text = write(tmp_path, "x.txt", content)
    (batch,) = read(text, "text", Range(0, 1))
    assert batch.bad["reason"].to_pylist() == [reason]


def test_a_missing_file_and_a_folder_are_errors(tmp_path):
    with pytest.raises(ValueError, match="expected a jsonl file, but it does not exist"):
        detect(tmp_path / "none.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ValueError, match="expected a jsonl file, but it is a folder"):
        detect(tmp_path / "folder.jsonl")


def test_a_parquet_with_a_broken_footer_is_an_error(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1" + b"\xff" * 60 + b"\x20\0\0\0" + b"PAR1")
    with pytest.raises(ValueError, match="the footer of the Parquet file cannot be read"):
        split(path, "parquet", 1)
