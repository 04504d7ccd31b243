"""CSV, TSV and other tables: quotes, line ends in fields, stray quotes, columns of one name or without a header."""

import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from input_files import ingested, read_all

from polylm.tasks.documents.sources import Source


def test_a_csv_has_quotes_and_line_ends_in_its_fields(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes('id,text,n\r\n1,"say ""yes"",\nand go",\r\n2,a 5" disk,7\r\n\r\n3,"ü\u2028y",\n'.encode())
    good, bad = read_all(path)
    assert [row["text"] for row in good] == ['say "yes",\nand go', 'a 5" disk', "ü\u2028y"]
    assert [row["extra"] for row in good] == [None, '{"n":"7"}', None]
    assert bad == []


def test_a_quote_that_never_ends_costs_its_record_only(tmp_path):
    path = tmp_path / "x.csv"
    content = b'id;text\n1;one\n2;"two\n3;three\n4;f;o;u;r\n5;\xff\n6;six\n'
    path.write_bytes(content)
    good, bad = read_all(path)
    assert [row["text"] for row in good] == ["one", "two", "three", "six"]
    assert [(row["offset"], row["reason"]) for row in bad] == [
        (content.index(b"4;f"), "5 columns, 2 expected"),
        (content.index(b"5;\xff"), "not UTF-8: byte 0xff at 2"),
    ]


def test_a_tsv_is_a_record_a_line_whatever_quotes_it_has(tmp_path):
    path = tmp_path / "x.tsv.gz"
    path.write_bytes(gzip.compress(b'text\turl\n"whole ""one"""\tu:1\n"stray\tu:2\nno url\n'))
    good, bad = read_all(path)
    assert [row["text"] for row in good] == ['whole "one"', '"stray']
    assert [row["reason"] for row in bad] == ["1 columns, 2 expected"]


def test_a_stray_quote_does_not_tear_the_quoted_field_after_it(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b'id,text,n\n1,a 5" disk,7\n2,"two\n\nlines, ""so""",8\n3,"open\n4,"x\ny",9\n')
    good, bad = read_all(path)
    assert [row["text"] for row in good] == ['a 5" disk', 'two\n\nlines, "so"', "x\ny"]
    assert [row["reason"] for row in bad] == ["2 columns, 3 expected"]


def test_a_quoted_field_of_a_tsv_may_hold_line_ends_and_tabs(tmp_path):
    path = tmp_path / "x.tsv"
    rows = [["id", "text", "n"], ["1", 'say "yes"\n\nand\r\ngo', "7"], ["2", "a\tb", "8"], ["3", "plain", "9"]]
    rows.append(["4", "the\nlast", "one\nof it"])
    with path.open("w", newline="") as file:
        csv.writer(file, dialect="excel-tab").writerows(rows)
    good, bad = read_all(path)
    assert bad == []
    assert [row["text"] for row in good] == [row[1] for row in rows[1:]]
    assert [json.loads(row["extra"])["n"] for row in good] == [row[2] for row in rows[1:]]


@pytest.mark.parametrize("header", ["id\ttext", "text\tid", "text"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_text_of_several_lines_may_stand_in_any_column_of_a_tsv(tmp_path, header, end):
    path = tmp_path / "x.tsv"
    cells = {"id": "5", "text": '"one""s' + end + 'second"'}
    written = "\t".join(cells[name] for name in header.split("\t"))
    path.write_bytes((header + end + (written + end) * 3).encode())
    good, bad = read_all(path)
    assert ([row["text"] for row in good], bad) == (['one"s' + end + "second"] * 3, [])


def test_quotes_of_a_tsv_that_are_not_quoting_stay_and_cost_no_record(tmp_path):
    path = tmp_path / "x.tsv"
    texts = ['"Open', "plain", 'He said "no"', '5" disk', 'ends with "', '"a" and "b"', '"', "last"]
    path.write_text("id\ttext\n" + "".join(f"{number}\t{text}\n" for number, text in enumerate(texts)))
    good, bad = read_all(path)
    assert ([row["text"] for row in good], bad) == (texts, [])


def test_every_line_of_a_damaged_table_is_in_a_record(tmp_path):
    """What was read ahead to find a quote's end is not lost where the file ends, or is damaged, before it comes."""
    lines = b'id\ttext\n1\t"open\n' + b"".join(b"%d\tx%d\n" % (i, i * 7919) for i in range(2, 40_000))
    for name in ("x.tsv.gz", "x.csv.gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(lines if "tsv" in name else lines.replace(b"\t", b","))[:-30_000])
        good, bad = read_all(path)
        assert 1_000 < len(good) < 40_000
        assert [row["id"] for row in good] == [str(i) for i in range(1, len(good) + 1)]
        assert [row["reason"][:14] for row in bad] == ["truncated gzip"]


def test_parallel_tsv_has_no_quoting(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text('"Go!\t"Geh!\nAnd then\tUnd dann\nthe end"\tdas Ende"\n')
    good, bad, _ = ingested(tmp_path, Source(path=str(path), languages=("en", "de")))
    assert bad == []
    assert [row["text"].split("\n") for row in good] == [
        ['"Go!', "And then", 'the end"'],
        ['"Geh!', "Und dann", 'das Ende"'],
    ]


# Columns of one name


def write_table(path, names, rows):
    """A CSV, TSV, Parquet or Arrow file of strings."""
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([names, *rows])
        return
    table = pa.Table.from_arrays([pa.array(column) for column in zip(*rows, strict=True)], names=names)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.parquet", "x.arrow"])
def test_of_columns_of_one_name_all_are_kept(tmp_path, name):
    names = ["n", "text", "n", "n.2", "n"]
    write_table(tmp_path / name, names, [["a", "one", "b", "c", "d"], ["e", "two", "f", "g", "h"]])
    good, bad = read_all(tmp_path / name)
    assert ([row["text"] for row in good], bad) == (["one", "two"], [])
    assert json.loads(good[0]["extra"]) == {"n": "a", "n.3": "b", "n.2": "c", "n.4": "d"}


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.parquet", "x.arrow"])
def test_a_column_of_documents_that_is_there_twice_is_an_error(tmp_path, name):
    for twice in ("text", "url"):
        write_table(tmp_path / name, ["text", "url", twice], [["a", "b", "c"]])
        with pytest.raises(ValueError, match=rf"{name}: more than one column is called '{twice}', which fills {twice}"):
            read_all(tmp_path / name)
    write_table(tmp_path / name, ["text", "n", "n"], [["a", "b", "c"]])
    with pytest.raises(ValueError, match="more than one column is called 'n', which fills id"):
        read_all(tmp_path / name, fields={"id": "n"})


def test_columns_of_a_table_without_a_header_have_numbers(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"7,some text\n8,more\n")
    good, _ = read_all(path, fields={"text": "#2", "id": "#1"})
    assert [(row["id"], row["text"]) for row in good] == [("7", "some text"), ("8", "more")]
    with pytest.raises(
        ValueError, match=r"x.csv: no column is the text field 'text'; the fields found are 7, some text"
    ):
        read_all(path)
