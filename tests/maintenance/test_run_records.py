"""Run records that other versions wrote, that people copied and that were cut short stop nobody from reading the others."""

import json
import math
import os
import subprocess
import sys

import pytest
import toy_stages as toys
from samples import command, environment

from polylm.deployments.settings import Settings
from polylm.tasks.maintenance.files import read_json, write_json
from polylm.tasks.maintenance.needs import Needs, Policy
from polylm.tasks.maintenance.processes import is_alive
from polylm.tasks.maintenance.run_records import read_run, read_runs
from polylm.tasks.maintenance.verify import damaged
from polylm.tasks.session import session
from polylm.tasks.store import StoreError

STAGE = {"stage": "s", "jobs": 1, "reused": 0, "built": 1, "seconds": 0, "rows": 0, "reasons": {}, "artifact": "s/ab"}
ODD = {
    "empty": {},
    "only a state": {"state": "running"},
    "no stages": {"name": "toys", "state": "completed", "stages": None},
    "a stage of nothing": {"name": "toys", "state": "completed", "stages": [{}]},
    "a pid that is none": {"name": "toys", "state": "running", "pid": "abc"},
    "endless": {"name": "toys", "state": "completed", "seconds": math.inf},
    "no path": {"name": "toys", "state": "completed", "stages": [{**STAGE, "artifact": "../../../etc/passwd"}]},
}
KINDS = [*ODD, "a folder", "cut short", "deep", "no text", "a link to nowhere", "a pipe"]


@pytest.fixture
def store(tmp_path):
    with session(Settings(store=tmp_path / "store", workers=0), name="toys") as here:
        toys.toy_flow(toys.toy_pieces(1))
    return here.store


def spoil(store, kind):
    """Put an odd record into the store."""
    path = store.root / "runs" / f"20300101T000000000-{kind.replace(' ', '_')}.json"
    if kind == "a folder":
        path.mkdir()
    elif kind == "cut short":
        path.write_bytes(next((store.root / "runs").glob("*-toys.json")).read_bytes()[:200])
    elif kind == "deep":
        path.write_text("[" * 200_000)
    elif kind == "no text":
        path.write_text('{"name": "\\ud800", "state": "completed"}')
    elif kind == "a link to nowhere":
        path.symlink_to("nowhere")
    elif kind == "a pipe":
        os.mkfifo(path)
    else:
        write_json(path, ODD[kind])
    return path


@pytest.fixture(params=KINDS)
def odd(request, store):
    return spoil(store, request.param)


def test_an_odd_record_is_a_damaged_run_and_the_others_are_read(odd, store):
    good, bad = read_runs(store.root)
    assert (good.name, good.state) == ("toys", "completed")
    assert (bad.id, bad.name, bad.state, bad.stages) == (odd.stem, odd.stem.partition("-")[2], "damaged", ())
    assert f"{odd} is damaged (" in bad.error


def test_gc_does_not_guess_what_a_run_needs_whose_record_is_odd(odd, store):
    with pytest.raises(StoreError, match=r"what a run needs is unknown: .*\.json is damaged"):
        _ = Needs(store, Policy(keep_runs=1, older_than_days=0)).kept_runs


@pytest.mark.parametrize(
    ("words", "code"),
    [(["status"], 0), (["show", "count_words"], 0), (["verify"], 5), (["gc"], 2)],
    ids=lambda it: str(it),
)
def test_no_command_that_reads_ends_with_a_traceback(store, words, code):
    for kind in KINDS:
        spoil(store, kind)
    done = subprocess.run(command(*words, "--store", store.root), env=environment(), capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr


def test_a_file_name_that_is_no_text_is_shown_as_what_can_be_written(store):
    (store.root / "runs" / os.fsdecode(b"20300101T000000000-\xff.json")).write_text("{}")
    [_, bad] = read_runs(store.root)
    assert (bad.id.encode(), bad.state) == (b"20300101T000000000-\\udcff", "damaged")


def test_verify_names_a_record_that_cannot_be_read(store):
    (store.root / "runs" / "d.json").mkdir()
    [found] = damaged(store.root).damage
    assert (found.path, found.what) == ("runs/d.json", "is damaged (it is no file)")


def test_a_record_tells_what_was_written(store):
    [path] = (store.root / "runs").glob("*.json")
    run, record = read_run(path), read_json(path)
    assert [entry.stage for entry in run.stages] == [entry["stage"] for entry in record["stages"]]
    assert run.artifact("write_model") == [e["artifact"] for e in record["stages"] if e["stage"] == "write_model"][-1]
    assert run.artifact("nosuch") == ""
    assert run.started.timestamp() == pytest.approx(path.stat().st_mtime, abs=60)


def test_a_run_whose_process_is_gone_or_only_a_zombie_was_interrupted(store):
    [path] = (store.root / "runs").glob("*.json")
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is not reaped
    assert not is_alive(child.pid)
    write_json(path, {**read_json(path), "state": "running", "pid": child.pid})
    assert read_runs(store.root)[0].state == "interrupted"
    child.wait()
    assert read_runs(store.root)[0].state == "interrupted"
    write_json(path, {**read_json(path), "pid": os.getpid()})
    assert read_runs(store.root)[0].state == "running"
    write_json(path, {**read_json(path), "host": "elsewhere", "pid": child.pid})
    assert read_runs(store.root)[0].state == "running", "of another host nobody here knows"


def test_a_pid_that_was_given_out_again_is_not_the_run(store):
    [path] = (store.root / "runs").glob("*.json")
    older = path.with_name("20200101T000000000-toys.json")
    write_json(older, {**read_json(path), "state": "running", "pid": os.getpid()})
    assert read_runs(store.root)[0].state == "interrupted", "this process began years after that run"


def test_bytes_that_are_no_text_do_not_keep_a_record_from_being_written(tmp_path):
    write_json(tmp_path / "a.json", {"reason": os.fsdecode(b"known \xff noise")})
    assert read_json(tmp_path / "a.json") == {"reason": "known ? noise"}
    assert json.loads((tmp_path / "a.json").read_bytes())["reason"] == "known ? noise"
