"""`gc` takes nothing that a kept run, a pin or a live run needs, whatever came before; the trash gives everything back."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import toy_stages as toys
from samples import environment, snapshot, wait_until
from toy_history import WORDS, replays, toy_run

from polylm.deployments.settings import Settings
from polylm.tasks.maintenance import pins
from polylm.tasks.maintenance.files import MANIFEST, read_json, write_json
from polylm.tasks.maintenance.gc import collect, empty_trash, plan, restore
from polylm.tasks.maintenance.lock import InUse, alone
from polylm.tasks.maintenance.needs import Policy
from polylm.tasks.maintenance.report import garbage
from polylm.tasks.maintenance.verify import damaged
from polylm.tasks.run import run
from polylm.tasks.session import Observer, session
from polylm.tasks.stage import NoParams, files
from polylm.tasks.store import Store, StoreError

ALL = Policy(keep_runs=1, older_than_days=0)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """Runs A, B and C, in this order."""
    root = tmp_path_factory.mktemp("pristine") / "store"
    for name in WORDS:
        toy_run(root, name)
    return root


@pytest.fixture
def store(pristine, tmp_path):
    shutil.copytree(pristine, tmp_path / "store")
    return Store(tmp_path / "store")


def test_a_plan_changes_nothing_and_says_what_would_go_by_stage(store):
    before = snapshot(store.root)
    found = plan(store, ALL)
    assert snapshot(store.root) == before
    sums = found.by_stage()
    assert {"keep_long", "choose", "collect_words"} <= set(sums)
    assert all(entry["files"] > 0 and entry["bytes"] > 0 for entry in sums.values())
    assert collect(store, ALL).by_stage() == sums


def test_what_was_freed_is_given_back_as_it_was(store):
    before = snapshot(store.root)
    freed = collect(store, ALL)
    assert 0 < len(snapshot(store.root)) < len(before)
    assert restore(store) == (sum(item.files for item in freed.free), 0)
    assert snapshot(store.root) == before
    assert list((store.root / "trash").iterdir()) == []


def test_what_was_made_again_meanwhile_stays(store):
    freed = collect(store, ALL)
    toy_run(store.root, "A")
    part = next((store.root / "parts" / "choose").rglob("*.parquet"))
    inode = part.stat().st_ino
    back, left = restore(store)
    assert left > 0
    assert back + left == sum(item.files for item in freed.free)
    assert part.stat().st_ino == inode
    assert all(replays(store.root, name) for name in WORDS)
    assert empty_trash(store).files > 0
    assert list((store.root / "trash").iterdir()) == []


def test_what_is_young_stays_unless_asked_for(store):
    assert plan(store, Policy(keep_runs=0)).free == []
    long_ago = time.time() - 8 * 86_400
    for path in [path for path in store.root.rglob("*") if path.is_file()]:
        os.utime(path, (long_ago, long_ago))
    assert plan(store, Policy(keep_runs=0)).free != []


def test_runs_that_failed_do_not_push_out_those_that_completed(store):
    for _ in range(3):
        with pytest.raises(RuntimeError), session(Settings(store=store.root, workers=0)):
            raise RuntimeError("at once")
    collect(store, ALL)
    assert replays(store.root, "C")


def test_a_pinned_artifact_stays_with_the_models_that_it_stands_on(store):
    toy_run(store.root, "A")
    [model] = [entry["artifact"] for entry in _last(store)["stages"] if entry["stage"] == "write_model"]
    ref = pins.pin(store, model)
    toy_run(store.root, "B")
    collect(store, ALL)
    folder = store.folder_path("write_model", read_json(store.root / "artifacts" / f"{ref}.json")["parts"][0]["key"])
    assert (folder / "sub" / "words.txt").exists()
    assert pins.unpin(store, "write_model") == ref
    collect(store, ALL)
    assert not folder.exists()


def _last(store):
    return read_json(max((store.root / "runs").glob("*.json")))


@files(writes={"text": pa.string()}, reproducible=False)
def generate(params: NoParams, model: Path) -> pa.Table:
    """Write what a model says, another thing each time."""
    return pa.table({"text": [str(time.time_ns())]})


def test_what_cannot_be_made_again_stays_with_its_models_unless_asked_for(tmp_path):
    for bands in (2, 3):
        with session(Settings(store=tmp_path / "store", workers=0)) as here:
            docs = run(toys.read, toys.ReadParams(), toys.Pieces(*toys.toy_pieces(1)))
            joined = run(toys.join, toys.BandParams(bands=bands), docs, run(toys.count, NoParams(), docs))
            model = run(toys.write_model, NoParams(), run(toys.collect_words, NoParams(), docs), joined)
            run(generate, NoParams(), model)
    spared = plan(here.store, ALL)
    assert set(spared.by_stage()) == {"join"}
    assert spared.spared["cannot be made again"] == 6  # a table, a folder of three files, and their manifests
    assert set(plan(here.store, replace(ALL, also_irreproducible=True)).by_stage()) == {
        "join",
        "write_model",
        "generate",
    }


def test_a_store_in_use_is_left_as_it_is(store):
    before = snapshot(store.root)
    with session(Settings(store=store.root, workers=0)) as here:
        with pytest.raises(InUse, match=f"a run is on: {here.record['id']}"):
            collect(store, ALL)
        assert plan(store, ALL).free  # only says what would go
    with alone(store.root / "work" / "gc.lock", ""), pytest.raises(InUse, match="another gc is at work"):
        collect(store, ALL)
    assert snapshot(store.root) == before
    assert collect(store, ALL).free


def test_a_run_that_starts_while_gc_moves_waits_until_it_is_done(store):
    said, ended = [], threading.Event()

    class Listener(Observer):
        def notice(self, text):
            said.append(text)

    def start():
        with session(Settings(store=store.root, workers=0), observer=Listener()):
            ended.set()

    with alone(store.root / "work" / "runs.lock", ""):
        thread = threading.Thread(target=start)
        thread.start()
        assert wait_until(lambda: said)
        assert not ended.wait(0.2)
    thread.join(30)
    assert ended.is_set()
    assert said == ["waiting for gc, which is moving what no run needs"]


def test_a_long_job_at_work_stops_gc(store):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from polylm.tasks.store import Store\n"
            "with Store(Path(sys.argv[1])).locked('training'): print('held', flush=True); sys.stdin.read()",
            store.root,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(InUse, match="a job is at work \\(training\\)"):
        collect(store, ALL)
    holder.communicate()
    assert collect(store, ALL).free


def test_a_run_of_another_host_counts_as_live_while_its_record_is_young(store):
    record = _last(store) | {"id": "29990101T000000000-far", "state": "running", "host": "elsewhere"}
    path = store.root / "runs" / f"{record['id']}.json"
    write_json(path, record)
    with pytest.raises(InUse, match="the run 29990101T000000000-far of the host elsewhere may be on"):
        collect(store, Policy(keep_runs=1, older_than_days=1))
    os.utime(path, (time.time() - 2 * 86_400,) * 2)
    collect(store, Policy(keep_runs=1, older_than_days=1))


@pytest.mark.parametrize("place", ["runs", "artifacts", "pins"])
def test_nothing_is_taken_where_what_names_the_needed_is_damaged(store, place):
    pins.pin(store, "choose")
    path = next((store.root / place).rglob("*.json"))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(StoreError, match=f"{path} is damaged"):
        collect(store, ALL)
    assert not any((store.root / "trash").iterdir())


def test_gc_killed_between_two_moves_is_gone_on_with_or_taken_back(store):
    before = snapshot(store.root)
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from polylm.tasks.maintenance.gc import Policy, collect; from polylm.tasks.store import Store\n"
        "moves, rename = iter(range(20)), Path.rename\n"
        "def dying(*args):\n"
        "    next(moves, None) is None and os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return rename(*args)\n"
        "Path.rename = dying\n"
        "collect(Store(Path(sys.argv[1])), Policy(1, 0))"
    )
    done = subprocess.run([sys.executable, "-c", program, store.root], env=environment(), check=False)
    assert done.returncode == -signal.SIGKILL
    assert replays(store.root, "C")
    assert damaged(store.root).damage == ()
    assert collect(store, ALL).free
    restore(store)
    assert snapshot(store.root) == before
    assert all(replays(store.root, name) for name in WORDS)


def test_the_report_is_values_and_lines(store):
    said = garbage(store.root, "plan", 1, 0)
    assert said["lines"][-1].endswith("could go: --delete moves them to the trash")
    assert json.loads(json.dumps(said))["stages"]["choose"]["files"] > 0
    moved = garbage(store.root, "delete", 1, 0)
    assert moved["deleted"]
    files = sum(sums["files"] for sums in moved["stages"].values())
    assert list((store.root / "trash").rglob(f"folders/*/*/{MANIFEST}")), "a folder of several files is among them"
    back = garbage(store.root, "restore")
    assert (back["restored"], back["left"], back["lines"]) == (files, 0, [f"{files} files put back"])
    garbage(store.root, "delete", 1, 0)
    assert garbage(store.root, "empty")["bytes"] > 0


@pytest.mark.parametrize("numbers", [(-1, 7), (3, -1)])
def test_numbers_below_zero_are_refused(store, numbers):
    with pytest.raises(ValueError, match="expected 0 or more"):
        garbage(store.root, "plan", *numbers)


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="is no store"):
        garbage(tmp_path, "plan")


@pytest.mark.parametrize("ref", ["choose/nothing", "nothing", "choose/"])
def test_a_pin_names_one_artifact(store, ref):
    with pytest.raises(StoreError, match=r"artifacts choose/|no stage"):
        pins.pin(store, ref)
    with pytest.raises(StoreError, match="pinned are none"):
        pins.unpin(store, ref)


def test_what_a_killed_writer_left_of_a_small_file_is_swept_and_what_is_being_written_is_not(store):
    old, young = (store.root / "runs" / f"a.json.123.0000000{digit}" for digit in (1, 2))
    for path in (old, young):
        path.write_text("{")
    os.utime(old, (time.time() - 7_200,) * 2)
    collect(store, ALL)
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize("told", [{}, {"artifact": 5}, {"artifact": "../../x"}, "[" * 200_000, None])
def test_a_pin_that_cannot_be_read_stops_gc_because_what_it_keeps_is_unknown(store, told):
    path = store.root / "pins" / "choose@aaaa.json"
    path.parent.mkdir(exist_ok=True)
    if told is None:
        path.mkdir()
    elif isinstance(told, str):
        path.write_text(told)
    else:
        write_json(path, told)
    with pytest.raises(StoreError, match=r"choose@aaaa.json is damaged: delete it, and pin choose/aaaa again"):
        collect(store, ALL)


@pytest.mark.parametrize("ref", ["choose//x", "choose/*", "*/*", "choose/../choose/aaaa", "*"])
def test_a_name_is_no_pattern(store, ref):
    kept = pins.pin(store, "choose")
    for ask in (pins.pin, pins.unpin):
        with pytest.raises(StoreError):
            ask(store, ref)
    assert pins.pinned(store) == [kept]


def test_a_run_that_waits_for_an_approval_keeps_what_it_has(store):
    path = sorted((store.root / "runs").glob("*.json"))[0]
    write_json(path, {**read_json(path), "state": "awaiting approval"})
    collect(store, ALL)
    assert replays(store.root, "A")


def test_where_the_list_cannot_be_written_nothing_is_moved_and_the_way_out_is_told(store, monkeypatch):
    def full(path, value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("polylm.tasks.maintenance.gc.write_json", full)
    before = snapshot(store.root)
    with pytest.raises(StoreError, match=r"nothing was moved: .*No space left on device.*--empty-trash"):
        collect(store, ALL)
    assert snapshot(store.root) == before
    assert list((store.root / "trash").iterdir()) == []


def test_a_part_that_has_become_a_link_to_itself_stops_nothing(store):
    """No content is behind it, so nothing is lost by taking it; verify names it, and restore gives it back as it was."""
    part = next((store.root / "parts" / "choose").glob("*/*.parquet"))
    part.unlink()
    part.symlink_to(part.name)
    toy_run(store.root, "B")
    collect(store, ALL)
    assert replays(store.root, "B")
