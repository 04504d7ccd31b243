"""Sources at URLs: listed once and pinned, fetched once, the same documents as from this machine's disk."""

import io
import json

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hosts import COMMITS, Bucket, Hub, Web, served

from polylm.tasks.documents.ingest import IngestParams, ingest
from polylm.tasks.documents.sources import Source, Sources
from polylm.tasks.keys import digest
from polylm.tasks.store import Store

LINES = b"".join(json.dumps({"text": f"document {i}", "id": i}).encode() + b"\n" for i in range(50))
THAI = "data/tha_Thai"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store").open()


@pytest.fixture
def listed(store, tmp_path):
    """The pieces of a source, and what was noticed."""

    def pieces(path, split_bytes=1 << 30, **reading):
        told = []
        sources = Sources({"s": Source(path=path, **reading)}, cache=tmp_path / "cache", notice=told.append)
        return sources.pieces(IngestParams(split_bytes=split_bytes), store), told

    return pieces


def texts(pieces):
    found = []
    for piece in pieces:
        found += [text for part in ingest(piece, IngestParams()) for text in part["text"].to_pylist()]
    return found


def parquet(count, first=0):
    buffer = io.BytesIO()
    table = pa.table({"text": [f"ข้อความ {first + i}" for i in range(count)], "url": ["https://a.example/"] * count})
    pq.write_table(table, buffer, row_group_size=10)
    return buffer.getvalue()


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    fs.pipe(
        {"/m/a.jsonl": LINES, "/m/deep/b.jsonl": LINES[: len(LINES) // 2], "/m/NOTICE.md": b"about", "/m/c.xyz": b"?"}
    )
    yield fs
    fs.rm("/m", recursive=True)


def test_a_folder_a_glob_and_a_file_of_any_file_system_are_read(memory, listed):
    pieces, told = listed("memory://m")
    assert [piece.label for piece in pieces] == ["s:a.jsonl", "s:b.jsonl"]
    assert told == ["source s: skipped, because they hold no documents: NOTICE.md, c.xyz"]
    assert [len(texts(listed(path)[0])) for path in ("memory://m/a.jsonl", "memory://m/*.jsonl")] == [50, 50]
    assert len(texts(listed("memory://m/**/*.jsonl")[0])) == len(texts(pieces)) > 70


def test_the_content_is_the_identity_where_no_host_pins_it(memory, listed, tmp_path):
    (tmp_path / "x.jsonl").write_bytes(LINES)
    remote, local = listed("memory://m/a.jsonl")[0][0], listed(str(tmp_path / "x.jsonl"))[0][0]
    assert digest(remote.identity) == digest(local.identity)
    memory.pipe("/m/a.jsonl", LINES + LINES)
    assert digest(listed("memory://m/a.jsonl")[0][0].identity) != digest(local.identity)


def test_what_is_not_there_or_of_no_known_protocol_is_the_users_mistake(memory, listed):
    with pytest.raises(ValueError, match=r"^source s: memory://nothing has no files"):
        listed("memory://nothing")
    with pytest.raises(ValueError, match=r"^source s: nonsense://x cannot be opened: .*nonsense"):
        listed("nonsense://x")
    with pytest.raises(
        ValueError, match=r"^source s: memory://m/\*.xyz has no file that can be read; found c.xyz; known are"
    ):
        listed("memory://m/*.xyz")


def test_a_file_of_the_web_is_pinned_by_its_etag_and_fetched_once_for_all_ranges(listed):
    with served(Web, {"x/some%20file.jsonl": LINES, "x/some file.jsonl": LINES}) as host:
        pieces, _ = listed(f"{host.url}/x/some%20file.jsonl?signature=secret", split_bytes=500)
        assert host.downloads() == []
        assert len(pieces) > 3
        pin = pieces[0].identity["file"]
        assert pin["etag"]
        assert "secret" not in json.dumps(pin)
        assert texts(pieces) == [f"document {i}" for i in range(50)]
        assert len(host.downloads()) == 1


def test_a_folder_of_the_web_is_its_links(listed):
    with served(Web, {"x/a.jsonl": LINES, "x/b.jsonl.gz": b"", "x/c.html": b"<p>"}) as host:
        pieces, told = listed(f"{host.url}/x/")
        assert [piece.label for piece in pieces] == ["s:a.jsonl"]
        assert "c.html" in told[0]


def test_a_file_that_changes_after_it_was_listed_is_not_read_as_if_it_had_not(listed):
    with served(Web, {"a.jsonl": LINES}) as host:
        before, _ = listed(f"{host.url}/a.jsonl")
        host.files["a.jsonl"] = LINES.replace(b"document", b"DOCUMENT")
        with pytest.raises(ValueError, match="changed since it was listed; run again"):
            texts(before)
        after, _ = listed(f"{host.url}/a.jsonl")
        assert digest(before[0].identity) != digest(after[0].identity)
        assert texts(after)[0] == "DOCUMENT 0"


def test_a_host_that_goes_away_is_an_error_of_the_machine(listed):
    with served(Web, {"a.jsonl": LINES}) as host:
        pieces, _ = listed(f"{host.url}/a.jsonl")
        url = host.url
    with pytest.raises(OSError, match=r"a.jsonl could not be fetched"):
        texts(pieces)
    with pytest.raises(OSError, match=r"cannot be listed"):
        listed(f"{url}/a.jsonl")


def test_the_content_of_a_file_elsewhere_must_be_what_its_name_says(listed):
    with served(Web, {"a.jsonl": bytes(range(256)) * 20}) as host:
        pieces, _ = listed(f"{host.url}/a.jsonl")
        with pytest.raises(ValueError, match=r"a.jsonl: the name says jsonl, but the content is binary"):
            texts(pieces)


@pytest.fixture
def bucket(monkeypatch):
    pytest.importorskip("s3fs")
    files = {
        "corpus/th/a.jsonl": LINES,
        "corpus/th/b.parquet": parquet(40),
        "corpus/th/_SUCCESS": b"",
        "corpus/x.txt": b"no",
    }
    with served(Bucket, files) as host:
        for name, value in {
            "AWS_ENDPOINT_URL": host.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield host
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_a_bucket_is_listed_pinned_and_read(bucket, listed):
    pieces, told = listed("s3://corpus/th")
    assert told == ["source s: skipped, because they hold no documents: _SUCCESS"]
    assert [piece.label for piece in pieces] == ["s:a.jsonl", "s:b.parquet"]
    assert pieces[0].identity["file"]["url"] == "s3://corpus/th/a.jsonl"
    assert bucket.downloads() == []
    assert texts(pieces) == [f"document {i}" for i in range(50)] + [f"ข้อความ {i}" for i in range(40)]
    before = len(bucket.downloads())
    assert texts(listed("s3://corpus/th/*.jsonl")[0]) == texts(pieces[:1])
    assert len(bucket.downloads()) == before, "what is pinned and cached is not fetched again"


def test_a_large_parquet_elsewhere_is_split_by_its_footer_alone(bucket, listed):
    bucket.files["corpus/th/b.parquet"] = parquet(2_000)
    pieces, _ = listed("s3://corpus/th/*.parquet", split_bytes=4_000)
    assert len(pieces) > 5
    assert texts(pieces) == [f"ข้อความ {i}" for i in range(2_000)]


@pytest.fixture
def hub(monkeypatch):
    """A data set with the layout of FineWeb2."""
    import huggingface_hub.constants as constants
    from huggingface_hub import HfFileSystem

    files = {
        "README.md": b"# About",
        f"{THAI}/train/000_00000.parquet": parquet(30),
        f"{THAI}/train/000_00001.parquet": parquet(20, 30),
        f"{THAI}/test/000_00000.parquet": parquet(5, 90),
        f"{THAI}/train/README.md": b"# About",
        "data/swe_Latn/train/000_00000.parquet": parquet(3),
        "small/x.jsonl": LINES,
    }
    with served(Hub, files) as host:
        monkeypatch.setattr(constants, "ENDPOINT", host.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", host.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        HfFileSystem.clear_instance_cache()
        yield host
        HfFileSystem.clear_instance_cache()


def test_a_language_of_a_data_set_on_the_hub_is_read_at_the_commit_of_the_moment(hub, listed):
    pieces, told = listed(f"hf://datasets/{Hub.name}/{THAI}")
    assert [piece.place.name for piece in pieces] == [
        "test/000_00000.parquet",
        "train/000_00000.parquet",
        "train/000_00001.parquet",
    ]
    assert told == ["source s: skipped, because they hold no documents: train/README.md"]
    assert all(f"@{COMMITS[0]}/" in piece.place.where for piece in pieces)
    assert not any("/resolve/" in path for _, path in hub.asked)
    assert texts(pieces) == [f"ข้อความ {i}" for i in [*range(90, 95), *range(50)]]


def test_a_new_commit_with_the_same_content_is_the_same_source(hub, listed, tmp_path):
    glob = f"hf://datasets/{Hub.name}/{THAI}/train/*.parquet"
    before, _ = listed(glob)
    hub.commit = COMMITS[1]
    hub.files["README.md"] = b"# About, mended"
    after, _ = listed(glob)
    assert before[0].place.where != after[0].place.where
    assert [digest(piece.identity) for piece in before] == [digest(piece.identity) for piece in after]
    (tmp_path / "copy.parquet").write_bytes(hub.files[f"{THAI}/train/000_00000.parquet"])
    local, _ = listed(str(tmp_path / "copy.parquet"))
    assert local[0].identity["file"] == after[0].identity["file"]


def test_a_small_file_of_the_hub_is_pinned_as_git_does(hub, listed):
    pieces, _ = listed(f"hf://datasets/{Hub.name}/small/x.jsonl")
    assert set(pieces[0].identity["file"]) == {"git"}
    assert len(texts(pieces)) == 50


def test_a_data_set_that_is_not_there_is_the_users_mistake(hub, listed):
    with pytest.raises(ValueError, match=r"^source s: hf://datasets/nobody/nothing.* does not exist, or needs a token"):
        listed("hf://datasets/nobody/nothing/data")
    with pytest.raises(ValueError, match=r"^source s: .*data/xxx_Xxxx.*has no files"):
        listed(f"hf://datasets/{Hub.name}/data/xxx_Xxxx")
