"""The pool: workers that die, machines that stumble, and processes that never outlive their parent."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pyarrow as pa
import pytest
import toy_stages as toys
from samples import environment, is_alive, job, wait_until, workers_of

from polylm.tasks import keys
from polylm.tasks.build import Done, Failure
from polylm.tasks.pool import Pool
from polylm.tasks.stage import NoParams
from polylm.tasks.store import Record, Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store").open()


def parts(store, count):
    """Parts of one text each, `text 0`, `text 1`, ..."""
    found = []
    for i in range(count):
        table = pa.table({"text": [f"text {i}"]})
        key = keys.digest(["docs", i])
        store.commit_table(table, Record("docs", 1, key, f"toy.{i}", {}, keys.contents(table), 1))
        found.append((("docs", key, ("text",)),))
    return found


def jobs(stage, params, store, count):
    return [
        job(stage, params, store, files=files, rows=1, label=f"toy.{i}") for i, files in enumerate(parts(store, count))
    ]


@pytest.fixture
def pool():
    """Pools that are closed at the end, and what they gave notice of."""
    made = []

    def make(workers):
        notices = []
        made.append(Pool(workers, notices.append))
        return made[-1], notices

    yield make
    for pool in made:
        pool.close(kill=True)


def outcomes(pool, todo):
    return {job.label: outcome for job, outcome in pool.run(todo)}


def meet(pool, store, toy_folder):
    """Two jobs in flight at once, in two processes: their pids."""
    found = outcomes(pool, jobs(toys.meet, NoParams(), store, 2))
    assert all(isinstance(outcome, Done) for outcome in found.values())
    pids = {outcome.record.facts["pid"] for outcome in found.values()}
    assert len(pids) == 2
    return pids


def test_jobs_run_at_once_in_workers_that_are_used_again(pool, store, toy_folder):
    two, _ = pool(2)
    pids = meet(two, store, toy_folder)
    found = outcomes(two, jobs(toys.count, NoParams(), store, 9))
    assert len(found) == 9
    assert {outcome.record.facts["pid"] for outcome in found.values()} <= pids
    assert os.getpid() not in pids


def test_a_stage_has_new_workers_where_the_one_before_left_large_ones(pool, store, toy_folder):
    one, notices = pool(1)
    pids = [
        outcome.record.facts["pid"]
        for stage in (toys.count, toys.hold, toys.thirds, toys.sometimes)
        for outcome in outcomes(one, jobs(stage, NoParams(), store, 2)).values()
    ]
    assert pids[0] == pids[1] == pids[2] == pids[3]  # in a stage nobody is replaced, however large
    assert pids[4] == pids[5] != pids[0]
    assert pids[6] == pids[7] == pids[4]
    assert not psutil.pid_exists(pids[0])
    assert notices == []


def test_without_workers_everything_is_done_here(pool, store):
    none, _ = pool(0)
    found = outcomes(none, jobs(toys.count, NoParams(), store, 3))
    assert {outcome.record.facts["pid"] for outcome in found.values()} == {os.getpid()}


def test_at_most_two_jobs_a_worker_are_in_flight(pool, store, toy_folder):
    two, _ = pool(2)
    taken = []

    def source():
        for one in jobs(toys.count, NoParams(), store, 12):
            taken.append(one.label)
            yield one

    for ended, _ in enumerate(two.run(source())):
        assert len(taken) - ended <= 4 + 1
    assert len(taken) == 12


@pytest.mark.parametrize("deaths", [("text 3",), ("text 0", "text 5")], ids=["one", "two"])
def test_a_killed_worker_is_named_with_its_job_and_the_others_finish(pool, store, toy_folder, deaths):
    two, notices = pool(2)
    meet(two, store, toy_folder)
    found = outcomes(two, jobs(toys.fail, toys.FailParams(deaths=deaths), store, 8))
    guilty = {f"toy.{text[-1]}" for text in deaths}
    assert {label for label, outcome in found.items() if isinstance(outcome, Failure)} == guilty
    assert len(found) == 8
    for label in guilty:
        failure = found[label]
        assert failure.title == f"fail {label}"
        assert failure.message.startswith("killed its worker process")
        assert failure.lasting
        assert any(f"fail {label} killed its worker" in notice for notice in notices)
    assert any("a worker died; trying its jobs one by one" in notice for notice in notices)


def test_a_worker_killed_from_outside_costs_no_job(pool, store, toy_folder):
    two, _ = pool(2)
    victim = meet(two, store, toy_folder).pop()
    os.kill(victim, signal.SIGKILL)
    found = outcomes(two, jobs(toys.count, NoParams(), store, 6))
    assert len(found) == 6
    assert all(isinstance(outcome, Done) for outcome in found.values())


@pytest.mark.parametrize("workers", [0, 2])
def test_an_oserror_is_retried(pool, store, toy_folder, workers):
    some, _ = pool(workers)
    if workers:
        meet(some, store, toy_folder)
    found = outcomes(some, jobs(toys.fail, toys.FailParams(stumbles=("text 1",), times=2), store, 3))
    assert all(isinstance(outcome, Done) for outcome in found.values()), found
    assert (toy_folder / "mark-stumbled at text 1").stat().st_size == 3


def test_an_oserror_that_lasts_is_given_up_after_four_tries_and_hinders_no_other_job(pool, store, toy_folder):
    two, _ = pool(2)
    meet(two, store, toy_folder)
    found = outcomes(two, jobs(toys.fail, toys.FailParams(stumbles=("text 1",), times=99), store, 4))
    assert [label for label, outcome in found.items() if isinstance(outcome, Failure)] == ["toy.1"]
    assert found["toy.1"].lasting
    assert "the disk went away" in found["toy.1"].message
    assert (toy_folder / "mark-stumbled at text 1").stat().st_size == 4


@pytest.mark.parametrize("params", [toys.FailParams(mistakes=("text 1",)), toys.FailParams(crashes=("text 1",))])
def test_other_errors_are_not_retried(pool, store, toy_folder, params):
    none, _ = pool(0)
    found = outcomes(none, jobs(toys.fail, params, store, 2))
    assert isinstance(found["toy.1"], Failure)
    assert (toy_folder / "mark-tried").stat().st_size == 2


def test_a_flow_that_stops_listening_leaves_no_worker(pool, store, toy_folder):
    two, _ = pool(2)
    pids = meet(two, store, toy_folder)
    running = two.run(jobs(toys.count, NoParams(), store, 20))
    next(running)
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt)
    assert wait_until(lambda: not any(psutil.pid_exists(pid) and is_alive(psutil.Process(pid)) for pid in pids), 10)


def test_no_worker_outlives_a_killed_parent(tmp_path, toy_folder):
    """Two workers that wait for a third one, which never comes, while their parent is killed."""
    words = [sys.executable, "-m", "toy_run", tmp_path / "store", "2", "--meet"]
    parent = subprocess.Popen(words, env=environment(TOY_FOLDER=toy_folder, TOY_MEET=3))
    assert wait_until(lambda: len(list(toy_folder.glob("here-*"))) == 2)
    workers = workers_of(parent.pid)
    pids = {int(path.name.removeprefix("here-")) for path in toy_folder.glob("here-*")}
    assert pids <= {worker.pid for worker in workers}
    parent.kill()
    parent.wait()
    begun = time.monotonic()
    assert wait_until(lambda: not any(map(is_alive, workers)), 10), workers
    assert time.monotonic() - begun < 10
