"""Compressed files, dumps, saved datasets, parallel text, source code, pages of the web."""

import bz2
import gzip
import json
import lzma

import pyarrow as pa
import pytest
from input_files import ingested, read_all

from polylm.tasks.documents.ingest import IngestParams, ingest
from polylm.tasks.documents.readers.parallel import PAGE_PAIRS
from polylm.tasks.documents.readers.wikipedia import plain_text
from polylm.tasks.documents.sources import Source, Sources
from polylm.tasks.store import Store
from polylm.tasks.tokens.pairs import PairParams, cut_pairs


@pytest.mark.parametrize(("suffix", "pack"), [("bz2", bz2.compress), ("xz", lzma.compress)])
def test_bzip2_and_xz_are_streamed_stream_after_stream(tmp_path, suffix, pack):
    lines = b"".join(json.dumps({"text": f"document {i * 7919}"}).encode() + b"\n" for i in range(30_000))
    path = tmp_path / f"x.jsonl.{suffix}"
    path.write_bytes(pack(lines[:100_000]) + b"\0" * 8 + pack(lines[100_000:]))
    good, bad = read_all(path)
    assert (len(good), bad) == (30_000, [])
    path.write_bytes(path.read_bytes()[:-4_000])
    good, bad = read_all(path)
    assert 0 < len(good) < 30_000
    assert [row["reason"].split(":")[0] for row in bad] == [f"truncated {'bzip2' if suffix == 'bz2' else 'xz'}"]


def test_xz_that_needs_more_memory_than_allowed_is_a_bad_record(tmp_path):
    path = tmp_path / "x.jsonl.xz"
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 512 << 20}]
    path.write_bytes(lzma.compress(b'{"text": "a"}\n', filters=filters))
    good, bad = read_all(path)
    assert (good, [row["reason"][:36] for row in bad]) == ([], ["xz data that needs more than 128 MiB"])


# Wikipedia

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="de"><siteinfo>
<base>https://de.wikipedia.org/wiki/Wikipedia:Hauptseite</base>
<namespaces><namespace key="0" case="first-letter" /><namespace key="6" case="first-letter">Datei</namespace>
<namespace key="14" case="first-letter">Kategorie</namespace></namespaces></siteinfo>
"""


def page(title, text, ns=0, more="", model="wikitext"):
    return (
        f"<page><title>{title}</title><ns>{ns}</ns><id>{len(title)}</id>{more}<revision><id>9</id>"
        f"<timestamp>2024-01-02T03:04:05Z</timestamp><model>{model}</model><text>{text}</text></revision></page>\n"
    )


def test_a_dump_gives_its_articles_without_markup_redirects_and_talk(tmp_path):
    article = (
        "'''Köln''' ({{IPA|x}}) ist eine [[Stadt]] am [[Rhein|großen Fluss]].&lt;ref&gt;Quelle&lt;/ref&gt;\n"
        "[[Datei:Dom.jpg|mini|Der [[Dom]]]]\n{| class=x\n| Tabelle\n|}\n== Lage ==\n* eben\n[[Kategorie:Ort]] 5 &lt; 6"
    )
    path = tmp_path / "dewiki-pages-articles-multistream.xml.bz2"
    pages = [
        page("Köln am Rhein", article),
        page("Alt", "#WEITERLEITUNG [[Köln]]", more='<redirect title="Köln" />'),
        page("Diskussion:Köln", "Na ja", ns=1),
        page("Skript", "return 1", model="Scribunto"),
        page("Ende", "Schluss."),
    ]
    path.write_bytes(bz2.compress(HEAD.encode()) + bz2.compress("".join([*pages, "</mediawiki>"]).encode()))
    good, bad = read_all(path)
    assert bad == []
    assert good[1]["text"] == "Schluss."
    assert good[0]["text"].startswith("Köln ist eine Stadt am großen Fluss.\n")
    assert not {"Quelle", "Dom", "Tabelle", "Ort", "IPA"} & set(good[0]["text"].replace(".", " ").split())
    assert good[0]["text"].endswith("eben\n5 < 6")
    assert good[0]["url"] == "https://de.wikipedia.org/wiki/K%C3%B6ln_am_Rhein"
    assert (good[0]["date"], good[0]["id"]) == ("2024-01-02T03:04:05Z", "13")
    assert json.loads(good[0]["extra"]) == {"title": "Köln am Rhein", "revision": "9"}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (page("B", "x").replace("</text>", ""), "not XML: mismatched tag"),
        (page("B", "x").replace("</page>", ""), "a page that does not end"),
        (page("B", "x").replace("<page>", ""), "a page that does not begin"),
        (page("B", "<!DOCTYPE x>"), "not XML of a dump: a declaration"),
        (page("B", "y" * 5_000), "longer than 2000 bytes"),
    ],
)
def test_a_broken_page_costs_itself_only(tmp_path, broken, reason):
    path = tmp_path / "x.xml"
    content = (HEAD + page("A", "one") + broken + page("C", "three") + "</mediawiki>").encode()
    path.write_bytes(content)
    good, bad = read_all(path, max_record_bytes=2_000)
    assert [row["text"] for row in good] == ["one", "three"]
    assert len(bad) == 1
    assert bad[0]["reason"].startswith(reason)
    assert content[bad[0]["offset"] :].lstrip().startswith(broken.strip()[:12].encode())


def test_a_dump_that_ends_inside_a_page_says_so(tmp_path):
    path = tmp_path / "x.xml"
    path.write_bytes((HEAD + page("A", "one") + page("B", "two")).encode()[:-30])
    good, bad = read_all(path)
    assert [row["text"] for row in good] == ["one"]
    assert [row["reason"] for row in bad] == ["a page that does not end"]


def test_xml_that_is_no_dump_is_an_error(tmp_path):
    path = tmp_path / "sitemap.xml"
    path.write_text("<urlset><url/></urlset>")
    with pytest.raises(ValueError, match=r"sitemap.xml: expected a dump of MediaWiki"):
        read_all(path)


def test_markup_without_an_end_leaves_what_can_be_read():
    assert plain_text("a [[b") == "a [[b"
    assert "deep" in plain_text("{{" * 200 + "deep")
    assert plain_text("(lat. {{x}}; {{y}}) z ({{x}}; )") == "(lat. ; ) z"


# Data sets that Hugging Face's library saved


def test_a_saved_data_set_is_read_from_its_arrow_files(tmp_path):
    datasets = pytest.importorskip("datasets")
    texts = [f"text {i}" for i in range(2_500)]
    saved = datasets.Dataset.from_dict({"text": texts, "id": list(range(2_500)), "tags": [["a"]] * 2_500})
    saved.save_to_disk(tmp_path / "saved" / "train", num_shards=2)
    (tmp_path / "saved" / "train" / "cache-0123.arrow").write_bytes(b"what a map left")
    good, bad, told = ingested(tmp_path, Source(path=str(tmp_path / "saved")))
    assert [row["text"] for row in good] == texts
    assert (good[7]["id"], good[7]["extra"], bad) == ("7", '{"tags":["a"]}', [])
    assert "dataset_info.json" in told[0]


def test_damaged_arrow_keeps_what_was_read_before(tmp_path):
    path = tmp_path / "x.arrow"
    table = pa.table({"text": [f"text {i}" for i in range(300)]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    path.write_bytes(path.read_bytes()[:-300])
    good, bad = read_all(path)
    assert len(good) == 200
    assert [(row["offset"], row["unit"]) for row in bad] == [(200, "row")]
    assert bad[0]["reason"].startswith("damaged Arrow: what follows row 200 is lost")
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"x.arrow: the Arrow file cannot be read"):
        read_all(path)


# Parallel text

ENGLISH = [f"The house number {i} is red." for i in range(PAGE_PAIRS + 8)]
GERMAN = [f"Das Haus Nummer {i} ist rot." for i in range(PAGE_PAIRS + 8)]


def parallel_files(folder, form):
    folder.mkdir()
    pairs = list(zip(ENGLISH, GERMAN, strict=True))
    if form == "moses":
        (folder / "news.en.gz").write_bytes(gzip.compress("\n".join(ENGLISH).encode()))
        (folder / "news.de").write_text("\n".join(GERMAN))
    if form == "jsonl":
        (folder / "x.jsonl").write_text("".join(json.dumps({"en": a, "xx": b}) + "\n" for a, b in pairs))
    if form == "nested":
        rows = ({"id": "1", "translation": {"en": a, "de": b}} for a, b in pairs)
        (folder / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if form == "tsv":
        (folder / "x.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    if form == "csv":
        (folder / "x.csv").write_text("de,en\n" + "".join(f"{b},{a}\n" for a, b in pairs))


@pytest.mark.parametrize("form", ["moses", "jsonl", "nested", "tsv", "csv"])
def test_parallel_text_becomes_pages_from_which_the_same_pairs_are_cut(tmp_path, form):
    parallel_files(tmp_path / form, form)
    fields = {"src": "en", "tgt": "xx"} if form == "jsonl" else {}
    source = Source(path=str(tmp_path / form), languages=("en", "de"), fields=fields)
    good, bad, _ = ingested(tmp_path, source)
    assert bad == []
    assert [len(row["text"].split("\n")) for row in good] == [PAGE_PAIRS] * 2 + [8] * 2
    table = pa.Table.from_pylist(good).append_column("doc", pa.array(range(4), pa.int64()))
    columns = {name: table[name].combine_chunks() for name in ("text", "extra", "doc")}
    columns |= {"language": pa.array(["en", "de"] * 2), "split": pa.array(["train"] * 4)}
    pairs = cut_pairs([columns], PairParams()).to_pylist()
    assert [(pair["src"], pair["tgt"]) for pair in pairs] == list(zip(ENGLISH, GERMAN, strict=True))
    assert {(pair["src_language"], pair["tgt_language"]) for pair in pairs} == {("en", "de")}


def test_pairs_that_cleaning_would_tear_apart_are_bad_records(tmp_path):
    rows = [("one", "eins"), ("https://a.example/b", "eine Adresse"), ("", "leer"), ("two", None), ("three", "drei")]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"src": a, "tgt": b}) + "\n" for a, b in rows) + "{\n")
    good, bad, _ = ingested(tmp_path, Source(path=str(path), languages=("en", "de")))
    assert [row["text"] for row in good] == ["one\nthree", "eins\ndrei"]
    assert len(bad) == 4
    assert "a pair with nothing but an address" in bad[-1]["reason"]


def test_a_file_of_lines_without_its_other_side_or_its_end_is_named(tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    (folder / "a.en").write_text("one\ntwo\nthree\n")
    source = Source(path=str(folder), languages=("en", "de"))
    with pytest.raises(ValueError, match=r"source s: .*a.en: parallel text, but there is no a.de"):
        ingested(tmp_path, source)
    (folder / "a.de").write_text("eins\n")
    good, bad, _ = ingested(tmp_path, source)
    assert [row["text"] for row in good] == ["one", "eins"]
    assert [row["reason"] for row in bad] == [
        "a.de ends 2 lines before the other file: the files are not aligned to their end"
    ]


def test_a_side_of_wide_characters_is_named(tmp_path):
    (tmp_path / "a.en").write_text("one\ntwo\n")
    (tmp_path / "a.de").write_bytes("eins\nzwei\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"a.de: .* UTF-16 text \(iconv"):
        ingested(tmp_path, Source(path=str(tmp_path / "a.*"), languages=("en", "de")))


def test_wrong_fields_of_parallel_text_are_an_error_that_lists_them(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"from": "one", "to": "eins"}\n')
    with pytest.raises(ValueError, match=r"the fields found are from, to; expected src and tgt, or en and de"):
        ingested(tmp_path, Source(path=str(path), languages=("en", "de")))
    with pytest.raises(ValueError, match=r"languages: found en; parallel text has two"):
        Source(path="x", languages=("en",))


# Source code


def test_a_tree_of_code_is_a_document_a_file_with_its_path_and_language(tmp_path):
    tree = tmp_path / "tree"
    files = {
        "src/main.py": b"def f():\n    return 1\n",
        "src/deep/lib.rs": b"fn main() {}\n",
        "Makefile": b"all:\n\tcc x.c\n",
        "src/node_modules/x.js": b"x",
        "logo.png": b"\x89PNG",
        "src/empty.py": b"",
        "src/bad.c": b'char *x = "\xff";',
        ".git/config.py": b"hidden",
    }
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    good, bad, told = ingested(tmp_path, Source(path=str(tree), format="code"))
    assert [row["id"] for row in good] == ["Makefile", "src/deep/lib.rs", "src/main.py"]
    assert good[2]["text"] == "def f():\n    return 1\n"
    assert (good[2]["kind"], json.loads(good[2]["extra"])["programming_language"]) == ("code", "Python")
    assert [(row["file"], row["reason"]) for row in bad] == [("bad.c", "not UTF-8: byte 0xff at 11")]
    assert "logo.png" in told[0]


# Pages


def test_the_careful_extractor_drops_more_and_is_part_of_the_identity(tmp_path):
    prose = "<p>" + "The harbour was quiet that morning, and the boats lay still. " * 6 + "</p>"
    related = "<div class='related'><p>Related: <a href='/x'>another story</a></p></div>"
    html = f"<html><body><main><article><h1>Title</h1>{prose}{prose}</article></main>{related}</body></html>".encode()
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html
    head = f"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: {len(block)}\r\n\r\n"
    path = tmp_path / "x.warc"
    path.write_bytes(head.encode() + block + b"\r\n\r\n")
    store = Store(tmp_path / "store").open()
    texts, identities = {}, {}
    for extract in ("resiliparse", "trafilatura"):
        (piece,) = Sources({"s": Source(path=str(path), extract=extract)}).pieces(IngestParams(), store)
        (part,) = list(ingest(piece, IngestParams()))
        texts[extract], identities[extract] = part["text"][0].as_py(), piece.identity
    assert all("The harbour was quiet" in text for text in texts.values())
    assert "another story" not in texts["trafilatura"]
    assert identities["trafilatura"].keys() - identities["resiliparse"].keys() == {"libraries"}
