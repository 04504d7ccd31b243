"""The store: what is committed is whole, the first writer wins, and damage is named."""

import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import half_written

from polylm.tasks import keys
from polylm.tasks.maintenance import seal
from polylm.tasks.maintenance.files import read_json, write_json, write_parquet
from polylm.tasks.store import Artifact, Part, Record, Store, StoreError, read_columns, read_record

KEY = "ab" + "0" * 62


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store").open()


def table(*texts):
    return pa.table({"text": pa.array(texts, pa.string())})


def record(rows, key=KEY, **more):
    return Record("stage", 1, key, "toy.0", {"params": {}}, keys.contents(rows), rows.num_rows, **more)


def test_a_part_is_read_back_with_its_record_in_its_footer(store):
    rows = table("é", None, "\U00020000")
    committed = store.commit_table(rows, record(rows, reasons={"empty": 1}))
    path = store.part_path("stage", KEY)
    assert path == store.root / "parts" / "stage" / "ab" / f"{KEY}.parquet"
    assert read_columns(path).equals(rows)
    assert store.record("table", "stage", KEY) == read_record(path) == committed


@pytest.mark.parametrize(("stage", "key"), [("stage", "cd" * 16), ("other", KEY)])
def test_the_part_of_another_job_is_damage_however_whole_it_is(store, stage, key):
    """As a restore or a copy that went wrong leaves it: every seal is right."""
    rows = table("one")
    store.commit_table(rows, record(rows))
    wrong = store.part_path(stage, key)
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(store.part_path("stage", KEY).read_bytes())
    with pytest.raises(StoreError, match=rf"{wrong} is damaged \(it holds the part {KEY[:16]} of stage\): delete it"):
        store.record("table", stage, key)


def test_what_is_not_there_has_no_record(store):
    assert store.record("table", "stage", KEY) is None
    assert store.record("folder", "stage", KEY) is None


def test_the_first_writer_wins_and_the_second_gets_its_record(store):
    rows = table("same")
    first = store.commit_table(rows, record(rows, facts={"host": "first"}))
    inode = store.part_path("stage", KEY).stat().st_ino
    second = store.commit_table(rows, record(rows, facts={"host": "second"}))
    assert second == first
    assert store.part_path("stage", KEY).stat().st_ino == inode
    assert list((store.root / "tmp").iterdir()) == []


def test_the_same_key_with_other_content_is_an_error_that_names_both(store):
    rows, other = table("one"), table("other")
    store.commit_table(rows, record(rows, facts={"host": "here"}))
    with pytest.raises(StoreError, match=r"stage: .* was made twice with different content: .*here.*there"):
        store.commit_table(other, record(other, facts={"host": "there"}))
    assert read_columns(store.part_path("stage", KEY)).equals(rows)


def _commit_when_told(root, start, number, results):
    store = Store(Path(root))
    rows = table("from all")
    start.wait()
    results.put(store.commit_table(rows, record(rows, facts={"number": number})).facts["number"])


def test_of_many_writers_at_once_all_get_the_same_record(store):
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(4), context.Queue()
    writers = [context.Process(target=_commit_when_told, args=(store.root, start, i, results)) for i in range(4)]
    for writer in writers:
        writer.start()
    numbers = [results.get(timeout=30) for _ in writers]
    for writer in writers:
        writer.join(30)
    assert len(set(numbers)) == 1
    assert read_record(store.part_path("stage", KEY)).facts["number"] == numbers[0]


def test_a_folder_is_there_only_when_its_manifest_is(store, tmp_path):
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "sub" / "model.bin").write_bytes(b"weights")
    made = store.commit_folder(out, record(pa.table({}), metrics={"loss": 1.5}))
    path = store.folder_path("stage", KEY)
    assert made.columns == {"sub/model.bin": keys.file_digest(path / "sub" / "model.bin")}
    assert store.record("folder", "stage", KEY) == made
    (path / "manifest.json").unlink()
    assert store.record("folder", "stage", KEY) is None


def test_a_second_folder_under_a_key_gives_way_to_the_first(store, tmp_path):
    for text in ("first", "second"):
        (tmp_path / text).mkdir()
        (tmp_path / text / "a.txt").write_text(text)
    first = store.commit_folder(tmp_path / "first", record(pa.table({})))
    assert store.commit_folder(tmp_path / "second", record(pa.table({}))) == first
    assert (store.folder_path("stage", KEY) / "a.txt").read_text() == "first"
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("kept", [0, 3, -1, -40], ids=["empty", "only a few bytes", "one byte short", "40 bytes short"])
def test_a_truncated_part_is_named_with_the_way_out(store, kept):
    rows = table(*(f"text {i}" for i in range(100)))
    store.commit_table(rows, record(rows))
    path = store.part_path("stage", KEY)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreError, match=rf"stage: {path} is damaged .*: delete it, and the next run makes it again"):
        store.record("table", "stage", KEY)


def test_a_file_without_a_record_is_named(store):
    path = store.part_path("stage", KEY)
    path.parent.mkdir(parents=True)
    pq.write_table(table("x"), path)
    with pytest.raises(StoreError, match=f"{path} is damaged"):
        store.record("table", "stage", KEY)


def test_a_damaged_manifest_of_a_folder_is_named(store, tmp_path):
    (tmp_path / "out").mkdir()
    store.commit_folder(tmp_path / "out", record(pa.table({})))
    (store.folder_path("stage", KEY) / "manifest.json").write_text('{"stage": "sta')
    with pytest.raises(StoreError, match=r"manifest.json|is damaged"):
        store.record("folder", "stage", KEY)


@pytest.mark.parametrize("small", [seal.SMALL, 0], ids=["small", "large"])
def test_a_flipped_byte_in_a_page_is_found_when_it_is_read(store, monkeypatch, small):
    monkeypatch.setattr(seal, "SMALL", small)
    rows = table(*(f"text number {i * i}" for i in range(500)))
    path = store.part_path("stage", KEY)
    store.commit_table(rows, record(rows))
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises((OSError, ValueError), match=str(path)):
        read_columns(path)


@pytest.mark.parametrize("small", [seal.SMALL, 0], ids=["small", "large"])
@pytest.mark.parametrize(("stage", "key"), [("stage", "cd" * 16), ("other", KEY)])
def test_the_columns_of_a_part_in_anothers_place_are_not_read(store, monkeypatch, small, stage, key):
    monkeypatch.setattr(seal, "SMALL", small)
    rows = table("whole, and not what is asked for")
    store.commit_table(rows, record(rows))
    place = store.part_path(stage, key)
    place.parent.mkdir(parents=True)
    shutil.copy(store.part_path("stage", KEY), place)
    with pytest.raises(StoreError, match=f"{place} is damaged .it holds the part {KEY[:16]} of stage"):
        read_columns(place)


def test_a_store_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StoreError, match=r"the store .*file/store cannot be written \(.*\): choose another with --store"
    ):
        Store(tmp_path / "file" / "store").open()


def test_opening_sweeps_what_dead_processes_of_this_host_left_and_nothing_else(store):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = socket.gethostname()
    dead, alive, other = (
        store.root / "tmp" / name
        for name in (f"{gone.pid}@{host}@1@a.parquet", f"{os.getpid()}@{host}@1@b.parquet", f"{gone.pid}@elsewhere@1@c")
    )
    for path in (dead, alive, other):
        path.write_text("half")
    store.open()
    assert [path.exists() for path in (dead, alive, other)] == [False, True, True]


def test_opening_does_not_mind_files_of_others_in_tmp(store):
    (store.root / "tmp" / "prefect-server.log").write_text("a log")
    store.open()


def test_an_artifact_is_found_by_the_beginning_of_its_key(store):
    rows = table("x")
    made = store.commit_table(rows, record(rows, reasons={"empty": 1}))
    artifact = Artifact("stage", "rows", (Part(KEY, "toy.0", made, 7),), ("text",), ("toy",))
    store.write_manifest(artifact, {"params": {}})
    found = store.load_artifact("stage", artifact.key[:8])
    assert (found.parts, found.columns, found.sources) == (artifact.parts, ("text",), ("toy",))
    with pytest.raises(StoreError, match=r"0 artifacts stage/nothing\* in .*: `polylm status` lists those of a run"):
        store.load_artifact("stage", "nothing")


ODD_MANIFESTS = [
    "{}",
    "[]",
    "3",
    '{"parts": []}',
    '{"stage": "stage", "shape": "rows", "sources": [], "parts": [3]}',
    '{"stage": "stage", "shape": "rows", "sources": [], "parts": [{"key": "../../x", "label": "", "number": null}]}',
    '{"stage": "stage", "shape": "cube", "sources": [], "parts": []}',
    '{"stage": "other", "shape": "rows", "sources": [], "parts": []}',
    '{"stage": "stage", "shape": "rows", "sources": [], "parts": [], "jobs": [1]}',
]


@pytest.mark.parametrize("other", ODD_MANIFESTS)
def test_a_manifest_that_says_something_else_is_damaged_and_written_again(store, other):
    rows = table("x")
    artifact = Artifact(
        "stage", "rows", (Part(KEY, "toy.0", store.commit_table(rows, record(rows)), 7),), ("text",), ("toy",)
    )
    store.write_manifest(artifact, {})
    store.manifest_path("stage", artifact.key).write_text(other)
    with pytest.raises(StoreError, match=r"is damaged: the next run of the recipe writes it again$"):
        store.load_artifact("stage", artifact.key)
    store.write_manifest(artifact, {})
    assert store.load_artifact("stage", artifact.key).parts == artifact.parts


def test_an_artifact_whose_part_is_gone_names_it(store):
    rows = table("x")
    made = store.commit_table(rows, record(rows))
    artifact = Artifact("stage", "rows", (Part(KEY, "toy.0", made, 0),), ("text",), ("toy",))
    store.write_manifest(artifact, {})
    store.part_path("stage", KEY).unlink()
    with pytest.raises(StoreError, match=r"stage: part toy.0 \(ab0+\) is gone: run again"):
        store.load_artifact("stage", artifact.key)


HOLD = """
import sys, time
from pathlib import Path
from polylm.tasks.store import Store
with Store(Path(sys.argv[1])).locked("k"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def test_a_lock_is_waited_for_and_its_holder_named_and_any_death_frees_it(store, capfd):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, store.root, "60"], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    begun = time.monotonic()
    waiter = subprocess.Popen(
        [sys.executable, "-c", HOLD, store.root, "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert f"held by {socket.gethostname()} pid {holder.pid}" in waiter.stdout.readline()
    assert waiter.poll() is None
    holder.kill()
    holder.wait()
    assert waiter.stdout.readline() == "held\n"
    assert waiter.wait(30) == 0
    assert time.monotonic() - begun < 50


def test_an_input_is_digested_again_only_when_size_or_time_changed(store, tmp_path):
    path = tmp_path / "input"
    path.write_text("one")
    os.utime(path, (1e9, 1e9))
    first = store.input_digest(path)
    assert first == keys.file_digest(path)
    [seen] = (store.root / "seen").iterdir()
    write_json(seen, {**read_json(seen), "sha256": "remembered"})
    assert store.input_digest(path) == "remembered"
    path.write_text("two")
    os.utime(path, (1e9, 1e9))
    assert store.input_digest(path) == keys.file_digest(path) != first, "the same size and mtime, another ctime"


def test_the_digest_of_a_file_that_was_just_written_is_not_remembered(store, tmp_path):
    path = tmp_path / "input"
    path.write_text("one")
    store.input_digest(path)
    path.write_text("two")
    assert store.input_digest(path) == keys.file_digest(path)


def test_small_files_are_replaced_whole(tmp_path):
    path = tmp_path / "run.json"
    write_json(path, {"a": "é"})
    with path.open() as reader:
        write_json(path, {"a": "b" * 10_000})
        assert json.load(reader)["a"] == "é"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_about_a_small_file_names_it_and_not_the_temporary_one(tmp_path):
    with pytest.raises(OSError, match=r"No such file or directory: '.*nosuch/file\.json'$"):
        write_json(tmp_path / "nosuch" / "file.json", {})


def test_parts_have_page_checksums_and_no_dictionaries_for_text(tmp_path):
    label = pa.array(["a", "b"] * 50).dictionary_encode()
    write_parquet(pa.table({"text": [f"t{i}" for i in range(100)], "label": label}), tmp_path / "x.parquet")
    group = pq.read_metadata(tmp_path / "x.parquet").row_group(0)
    text, label = group.column(0), group.column(1)
    assert (text.compression, text.has_dictionary_page, label.has_dictionary_page) == ("ZSTD", False, True)
    assert text.has_column_index


def test_the_check_for_half_written_things_finds_them(store, tmp_path):
    """Of the test helper itself, on which the tests of kills stand."""
    rows = table("x", "y")
    store.commit_table(rows, record(rows))
    assert half_written(store.root) == []
    (store.root / "folders" / "stage" / "half").mkdir(parents=True)
    stray = store.root / "parts" / "stage" / "ab" / "x.tmp"
    shutil.copy(store.part_path("stage", KEY), stray)
    assert sorted(half_written(store.root)) == sorted([stray, store.root / "folders" / "stage" / "half"])
