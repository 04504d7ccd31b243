"""Sources become pieces in order, known by content; what is missing or empty is named, with the way out."""

import json
import os
import sys

import pytest

from polylm.tasks.documents.ingest import IngestParams
from polylm.tasks.documents.sources import Source, Sources, list_local
from polylm.tasks.keys import digest
from polylm.tasks.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store").open()


def write(path, count=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": f"{path.name} {i}"}) + "\n" for i in range(count)))
    return path


def pieces(store, split_bytes=1 << 30, **paths):
    sources = Sources({name: Source(path=str(path)) for name, path in paths.items()})
    return sources.pieces(IngestParams(split_bytes=split_bytes), store)


def bases(path):
    return [place.base for place in list_local("s", str(path))]


def test_pieces_are_in_order_of_source_path_and_range(store, tmp_path):
    for name in ("b.jsonl", "a.jsonl", "deep/c.jsonl"):
        write(tmp_path / "many" / name)
    lone = write(tmp_path / "z.jsonl", 40)
    found = pieces(store, 200, zeta=tmp_path / "many", alpha=lone)
    assert [piece.label for piece in found[:3]] == ["zeta:a.jsonl", "zeta:b.jsonl", "zeta:c.jsonl"]
    starts = [piece.range.start for piece in found[3:]]
    assert starts == sorted(starts)
    assert len(starts) > 3
    assert found[4].label == f"alpha:z.jsonl@{starts[1]}"


def test_a_source_is_a_file_a_folder_or_a_glob_without_what_is_hidden(tmp_path):
    for name in ("a.jsonl", "b.txt", ".hidden.jsonl", ".git/c.jsonl", "deep/d.jsonl"):
        write(tmp_path / name)
    assert bases(tmp_path / "a.jsonl") == ["a.jsonl"]
    assert bases(tmp_path) == ["a.jsonl", "b.txt", "d.jsonl"]
    assert bases(tmp_path / "*.jsonl") == ["a.jsonl"]
    assert bases(tmp_path / "**/*.jsonl") == ["a.jsonl", "d.jsonl"]
    assert bases(f"file://{tmp_path / 'a.jsonl'}".removeprefix("file://")) == ["a.jsonl"]


def test_a_hidden_folder_above_a_source_hides_nothing(tmp_path):
    write(tmp_path / ".cache" / "a.jsonl")
    assert bases(tmp_path / ".cache") == ["a.jsonl"]


def test_a_folder_is_read_through_links_and_once_where_they_go_round(tmp_path):
    write(tmp_path / "elsewhere" / "b.jsonl")
    write(tmp_path / "folder" / "a.jsonl")
    (tmp_path / "folder" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(tmp_path / "folder")
    assert bases(tmp_path / "folder") == ["a.jsonl", "b.jsonl"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_named(tmp_path):
    write(tmp_path / "folder" / "a.jsonl")
    write(tmp_path / "folder" / "closed" / "b.jsonl").parent.chmod(0)
    try:
        with pytest.raises(
            ValueError, match=r"closed cannot be listed \(Permission denied\); what is in it would be missi"
        ):
            bases(tmp_path / "folder")
    finally:
        (tmp_path / "folder" / "closed").chmod(0o700)


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system refuses such names")
def test_a_name_that_is_not_utf8_is_named_with_the_way_out(tmp_path):
    write(tmp_path / "folder" / "bad\udcff.jsonl")
    with pytest.raises(ValueError, match=r"bad\\udcff\.jsonl': its name is not UTF-8; rename it$"):
        bases(tmp_path / "folder")


def test_what_is_neither_a_file_nor_a_folder_is_said_to_be_so(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is neither a file nor a folder; give --source s=PATH"):
        bases(tmp_path / "pipe")


def test_identity_is_content_and_how_it_is_read_and_no_path(store, tmp_path):
    first, second = write(tmp_path / "one" / "a.jsonl"), tmp_path / "two" / "b.jsonl"
    second.parent.mkdir()
    second.write_bytes(first.read_bytes())
    one, two = pieces(store, x=first, y=second)
    assert digest(one.identity) == digest(two.identity)
    assert str(tmp_path) not in json.dumps(one.identity)
    mapped = Sources({"x": Source(path=str(first), fields={"text": "body"})}).pieces(IngestParams(), store)
    assert digest(mapped[0].identity) != digest(one.identity)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (None, None, r"source mine: .*nothing does not exist; give --source mine=PATH"),
        ("empty.jsonl", b"", r"source mine: .*empty.jsonl: the file is empty"),
        ("binary.jsonl", bytes(range(256)) * 9, r"source mine: .*binary.jsonl.*binary"),
        ("odd.xyz", b"text", r"source mine: .*odd.xyz.*format"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_source(store, tmp_path, name, content, message):
    path = tmp_path / (name or "nothing")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        pieces(store, mine=path)


def test_an_empty_folder_and_an_empty_file_of_a_given_format_are_named(store, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"source mine: .*folder has no files; give --source mine=PATH"):
        pieces(store, mine=tmp_path / "folder")
    (tmp_path / "nothing").touch()
    given = Sources({"mine": Source(path=str(tmp_path / "nothing"), format="jsonl")})
    with pytest.raises(ValueError, match=r"source mine: .*nothing is empty"):
        given.pieces(IngestParams(), store)


def test_a_source_has_no_fields_that_mean_nothing():
    with pytest.raises(ValueError, match="rolle"):
        Source(path="x", rolle="corpus")


@pytest.fixture
def told():
    return []


def noticed(store, path, told, **reading):
    sources = Sources({"mine": Source(path=str(path), **reading)}, notice=told.append)
    return [piece.place.name for piece in sources.pieces(IngestParams(), store)]


def test_what_holds_no_documents_does_not_stop_a_folder_and_is_named_once(store, tmp_path, told):
    folder = tmp_path / "inbox"
    write(folder / "a.jsonl")
    for name in ("NOTICE.md", "deep/README.txt", "LICENSE", "_SUCCESS", "model.bin", ".gitattributes"):
        write(folder / name)
    (folder / "part-2.jsonl").touch()
    assert noticed(store, folder, told) == ["a.jsonl"]
    assert told == [
        "source mine: skipped, because they hold no documents: LICENSE, NOTICE.md, _SUCCESS, deep/README.txt, model.bin "
        "and 1 more"
    ]


def test_a_folder_without_a_readable_file_is_an_error_that_lists_what_is_there(store, tmp_path, told):
    write(tmp_path / "inbox" / "NOTICE.md")
    write(tmp_path / "inbox" / "data.lance")
    with pytest.raises(
        ValueError, match=r"source mine: .*inbox has no file that can be read; found NOTICE.md, data.lance; known"
    ):
        noticed(store, tmp_path / "inbox", told)


def test_a_file_that_is_named_is_read_whatever_it_is_called(store, tmp_path, told):
    path = tmp_path / "README.txt"
    path.write_text("a text")
    assert noticed(store, path, told) == ["README.txt"]
    assert told == []


def test_a_given_format_reads_files_of_any_name(store, tmp_path, told):
    write(tmp_path / "inbox" / "part-0001")
    write(tmp_path / "inbox" / "part-0002.log")
    assert noticed(store, tmp_path / "inbox", told, format="jsonl") == ["part-0001", "part-0002.log"]
    with pytest.raises(ValueError, match=r"no format is called 'json'; there are jsonl"):
        Source(path="x", format="json")
