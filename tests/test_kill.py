"""The command is killed, terminated and interrupted at seeded moments; the same command then goes on from there."""

import json
import random
import signal
import subprocess
import time

import psutil
import pytest
from samples import (
    call,
    command,
    environment,
    half_written,
    is_alive,
    snapshot,
    third_options,
    wait_until,
    workers_of,
)

pytestmark = pytest.mark.serial
KILLS = 8


@pytest.fixture
def words(third, tmp_path):
    return command(
        "run", "sample", *third_options(third), "--store", tmp_path / "store", "--workers", 2, "--no-prefect"
    )


def begin(words):
    return subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(store):
    """How many jobs have left something."""
    return sum(1 for _ in (store / "parts").rglob("*.parquet")) + len(list((store / "folders").glob("*/*")))


def at_work(command):
    """The worker processes of a command, without multiprocessing's helper that tracks resources."""
    return [process for process in workers_of(command.pid) if "spawn_main" in " ".join(_cmdline(process))]


def _cmdline(process):
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended meanwhile
        return []


def stop_when(running, store, jobs, pause, with_signal):
    """Send a signal once so many more jobs have ended; the processes that there were, workers among them."""
    before = finished(store)
    assert wait_until(lambda: finished(store) >= before + jobs or running.poll() is not None, 120, pause=0.005)
    time.sleep(pause)
    workers = at_work(running)
    everything = workers_of(running.pid)
    running.send_signal(with_signal)
    return workers, everything


def test_a_run_that_is_killed_eight_times_ends_with_the_content_of_an_undisturbed_one(words, tmp_path, third_store):
    store, chance = tmp_path / "store", random.Random(20_230_706)
    total, in_flight, kills = finished(third_store), [], 0
    (store / "parts").mkdir(parents=True)
    for left in range(KILLS, 0, -1):
        running = begin(words)
        # At most a share of what is left, so that half of it is still to do at the last kill, on the fastest machine too.
        jobs = chance.randint(1, max(1, (total - finished(store)) // (left + 1)))
        workers, everything = stop_when(running, store, jobs, chance.random() * 0.05, signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL, "it ended before it was killed"
        kills += 1
        in_flight.append(len(workers))
        killed = time.monotonic()
        assert wait_until(lambda alive=everything: not any(map(is_alive, alive)), 10), [
            _cmdline(process) for process in everything
        ]
        assert time.monotonic() - killed < 10
        assert half_written(store) == []
    assert kills == KILLS
    assert sum(count >= 2 for count in in_flight) >= KILLS // 2, in_flight
    said = json.loads(call([*words, "--json"]))
    held = snapshot(store)
    assert held == snapshot(third_store)
    assert sum(len(stage["built"]) for stage in said["stages"]) < sum(stage["jobs"] for stage in said["stages"])
    states = [json.loads(path.read_text())["state"] for path in (store / "runs").glob("*.json")]
    assert len(states) == KILLS + 1
    # A kill can hit a run that has saved its end and not yet ended.
    assert set(states) == {"completed", "running"}
    assert list((store / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("with_signal", "code", "said"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
    ids=["SIGTERM", "Ctrl-C"],
)
def test_a_run_that_is_asked_to_end_does_so_and_the_next_goes_on_from_there(
    words, tmp_path, third_store, with_signal, code, said
):
    store = tmp_path / "store"
    (store / "parts").mkdir(parents=True)
    running = begin(words)
    # Past the 13 files of the one job of `ingest`: then both workers have parts to clean.
    workers, everything = stop_when(running, store, 16, 0.1, with_signal)
    assert len(workers) >= 2
    asked = time.monotonic()
    _, err = running.communicate(timeout=60)
    assert time.monotonic() - asked < 15
    assert running.returncode == code
    assert f"{said}; the same command goes on from here" in err
    assert "Traceback" not in err
    assert wait_until(lambda: not any(map(is_alive, everything)), 10)
    assert half_written(store) == []
    record = json.loads(next((store / "runs").glob("*.json")).read_text())
    assert record["state"] == "stopped"
    done = finished(store)
    again = json.loads(call([*words, "--until", "identify_language", "--json"]))
    reused = sum(stage["reused"] for stage in again["stages"])
    assert reused >= done - 13  # an ingest job leaves several files
    whole, held = snapshot(third_store), snapshot(store)
    assert held == {name: whole[name] for name in held}
