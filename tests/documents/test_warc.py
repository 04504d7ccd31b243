"""WARC and WET: pages become documents, whatever crawlers write around them."""

import gzip

import pytest
from input_files import html, page, read_all, warc, write


@pytest.mark.parametrize("name", ["x.warc", "x.warc.gz"])
def test_reads_the_main_content_of_html_responses(tmp_path, name):
    content = (
        warc("warcinfo", b"software: test")
        + warc("request", b"GET / HTTP/1.1\r\n\r\n")
        + warc("response", page(html("Grüße aus Köln"), more="Content-Language: de\r\n"), "http://example.org/1")
        + warc("response", page(b"\x89PNG", "image/png"), "http://example.org/2")
        + warc("response", page(html("gone"), status="404 Not Found"), "http://example.org/3")
    )
    good, bad = read_all(write(tmp_path, name, content))
    assert len(good) == 1
    assert good[0] == {
        "text": "Grüße aus Köln",
        "id": "urn:uuid:http://example.org/1",
        "url": "http://example.org/1",
        "date": "2024-01-02T03:04:05Z",
        "licence": None,
        "kind": None,
        "extra": None,
    }
    assert [row["reason"] for row in bad] == ["not html: image/png", "HTTP status 404"]
    assert content[bad[0]["offset"] :].startswith(
        b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://example.org/2"
    )


@pytest.mark.parametrize(
    ("body", "media"),
    [
        ("Grüße aus Köln".encode("latin-1"), "text/html; charset=iso-8859-1"),
        ("<meta charset='windows-1252'>Grüße aus Köln".encode("cp1252"), "text/html; charset=utf-8"),
        ("Grüße aus Köln".encode(), "text/html; charset=nonsense"),
    ],
)
def test_decodes_pages_by_header_meta_tag_or_content(tmp_path, body, media):
    path = write(tmp_path, "x.warc", warc("response", page(b"<html><body><p>" + body + b"</p></body></html>", media)))
    assert [row["text"] for row in read_all(path)[0]] == ["Grüße aus Köln"]


def test_undoes_the_content_encoding_of_a_response_within_the_limit(tmp_path):
    small = page(gzip.compress(html("hello")), more="Content-Encoding: gzip\r\n")
    bomb = page(gzip.compress(b"x" * (50 << 20)), more="Content-Encoding: gzip\r\n")
    good, bad = read_all(
        write(tmp_path, "x.warc", warc("response", small) + warc("response", bomb)), max_record_bytes=1 << 20
    )
    assert [row["text"] for row in good] == ["hello"]
    assert [row["reason"] for row in bad] == [f"longer than {1 << 20} bytes"]


@pytest.mark.parametrize("name", ["x.wet", "x.warc.wet.gz"])
def test_reads_wet_conversions(tmp_path, name):
    more = "WARC-Identified-Content-Language: deu\r\n"
    content = (
        warc("warcinfo", b"x") + warc("conversion", "Grüße\nzwei".encode(), more=more) + warc("conversion", b"\xff")
    )
    good, bad = read_all(write(tmp_path, name, content))
    assert [(row["text"], row["extra"]) for row in good] == [
        ("Grüße\nzwei", '{"WARC-Identified-Content-Language":"deu"}')
    ]
    assert [row["reason"] for row in bad] == ["not UTF-8: byte 0xff at 0"]


def test_a_record_of_unknown_type_is_bad(tmp_path):
    _, bad = read_all(write(tmp_path, "x.warc", warc("respXnse", page(html("hello")))))
    assert [row["reason"] for row in bad] == ["unknown WARC-Type 'respXnse'"]


GOOD = [warc("conversion", f"text {i}".encode(), f"http://example.org/{i}") for i in range(4)]


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        (b"rubbish " * 20000, "broken WARC header"),
        (GOOD[1].replace(b"WARC/1.0", b"WARX/1.0"), "broken WARC header"),
        (
            warc("conversion", b"text 1").replace(b"Content-Length: ", b"Content-Length: x"),
            "broken WARC header: Content-Length is 'x6'",
        ),
        (GOOD[1].replace(b"Content-Length", b"Content-Width"), "broken WARC header: Content-Length is ''"),
        (warc("conversion", b"text 1", length=3), "Content-Length ends inside the record"),
        (warc("conversion", b"text 1", length=9000), "truncated WARC record"),
        (warc("conversion", b"text 1", length=60), "Content-Length ends inside the record"),
    ],
)
def test_a_broken_record_costs_itself_only(tmp_path, middle, reason):
    good, bad = read_all(write(tmp_path, "x.wet", GOOD[0] + middle + GOOD[2] + GOOD[3]))
    assert [row["text"] for row in good] == ["text 0", "text 2", "text 3"]
    assert len(bad) == 1
    assert bad[0]["reason"].startswith(reason)
    assert bad[0]["offset"] == len(GOOD[0])


def test_a_damaged_gzip_member_costs_itself_only(tmp_path):
    members = [bytearray(gzip.compress(record, mtime=0)) for record in GOOD]
    members[1][-6] ^= 1  # its checksum
    path = tmp_path / "x.warc.gz"
    path.write_bytes(b"".join(members))
    good, bad = read_all(path)
    assert [row["text"] for row in good] == ["text 0", "text 2", "text 3"]
    assert [row["reason"] for row in bad] == [f"damaged gzip near byte {len(members[0])} of the file"]


def test_a_warc_cut_anywhere_keeps_its_whole_records_and_reports_the_cut(tmp_path):
    for name in ("x.wet", "x.wet.gz"):
        records = [gzip.compress(record, mtime=0) for record in GOOD[:2]] if name.endswith("gz") else GOOD[:2]
        first, second = records
        for cut in range(1, len(second) - (0 if name.endswith("gz") else 4), 5):
            (tmp_path / name).write_bytes(first + second[:cut])
            good, bad = read_all(tmp_path / name)
            texts = [row["text"] for row in good]
            assert texts[:1] == ["text 0"]
            assert len(bad) == 1, (name, cut)


LATIN = "Ein Absatz, der lang genug ist, um Inhalt zu sein. " * 5


def with_lf_only(record: bytes) -> bytes:
    head, _, block = record.partition(b"\r\n\r\n")
    return head.replace(b"\r\n", b"\n") + b"\n\n" + block


@pytest.mark.parametrize(
    "record",
    [
        warc("response", page(html(LATIN), "Text/HTML; charset=UTF-8")),
        warc("response", page(html(LATIN), "TEXT/HTML")),
        with_lf_only(warc("response", page(html(LATIN)))),
        warc("response", with_lf_only(page(html(LATIN)))),
        warc("response", page(html(LATIN))).replace(b"WARC-Type:", b"warc-type:"),
        warc("response", page(html(LATIN))).replace(b"WARC-Type: response", b"WARC-Type: Response"),
        warc("response", page(html(LATIN))).replace(b"application/http", b"Application/HTTP"),
    ],
    ids=["media", "MEDIA", "LF in the record", "LF in the message", "name", "type", "message"],
)
def test_a_page_is_one_however_its_headers_are_spelt(tmp_path, record):
    good, bad = read_all(write(tmp_path, "x.warc", record))
    assert ([row["text"] for row in good], bad) == ([LATIN.strip()], [])


def test_a_gzip_body_without_its_end_is_a_bad_record_and_no_shorter_document(tmp_path):
    whole = gzip.compress(html(LATIN * 40))
    more = "Content-Encoding: gzip\r\n"
    records = warc("response", page(whole, more=more)) + warc("response", page(whole[:-20], more=more))
    good, bad = read_all(write(tmp_path, "x.warc", records))
    assert len(good) == 1
    assert [row["reason"] for row in bad] == ["broken HTTP message: its gzip data ends early"]


def test_a_page_of_tags_in_tags_is_a_bad_record_at_once(tmp_path):
    """The parser takes the square of their depth: a minute for 40,000. Pages whose tags stand side by side are none."""
    deep, wide = b"<div>" * 40_000 + b"x", b"<div>x</div>" * 40_000
    good, bad = read_all(write(tmp_path, "x.warc", warc("response", page(deep)) + warc("response", page(wide))))
    assert [row["reason"] for row in bad] == ["html whose tags are nested more than 3,000 deep"]
    assert len(good) == 1
