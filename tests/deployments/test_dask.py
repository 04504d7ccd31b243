"""A Dask cluster of two separate worker processes: equal content, and what is lost with a worker, a run or a scheduler."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from samples import (
    HELPERS,
    call,
    command,
    environment,
    half_written,
    is_alive,
    job,
    records_of,
    snapshot,
    third_options,
    wait_until,
)

from polylm.tasks import keys
from polylm.tasks.build import Done, Failure
from polylm.tasks.pool import Pool
from polylm.tasks.store import Record, Store

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'polylm[dask]'")
sys.path.insert(0, str(Path(__file__).parent))  # as the workers of the clusters below have it

import slow_stages
import toy_stages

from polylm.deployments.dask_engine import DaskEngine
from polylm.deployments.dask_worker import NotShared


class Cluster:
    """`python -m polylm.deployments.dask local --workers 2`."""

    def __init__(self):
        words = [sys.executable, "-P", "-m", "polylm.deployments.dask", "local", "--workers", "2"]
        path = os.pathsep.join([str(HELPERS), str(Path(__file__).parent)])
        self.process = subprocess.Popen(words, env=environment(PYTHONPATH=path), stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()

    def workers(self):
        """The two processes that take jobs, which are those that have threads for it."""
        return [child for child in children(self.process.pid) if "resource_tracker" not in " ".join(child.cmdline())]

    def at_work(self):
        """The processes in which jobs are done or were."""
        found = [grandchild for worker in self.workers() for grandchild in children(worker.pid)]
        return [process for process in found if "spawn_main" in " ".join(process.cmdline())]

    def end(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


def children(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child for child in psutil.Process(pid).children() if is_alive(child)]
    return []


@pytest.fixture(scope="module")
def cluster():
    made = Cluster()
    yield made
    assert made.end() == 0


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store").open()


@pytest.fixture
def pool(cluster):
    """A pool on the cluster that is closed at the end, and what it gave notice of."""
    notices = []
    made = Pool(1, notices.append, lambda _, notice: DaskEngine(cluster.address, notice))
    yield made, notices
    made.close(kill=True)


def jobs(stage, params, store, count):
    found = []
    for i in range(count):
        table = pa.table({"text": [f"text {i}"]})
        key = keys.digest(["docs", i])
        store.commit_table(table, Record("docs", 1, key, f"toy.{i}", {}, keys.contents(table), 1))
        found.append(job(stage, params, store, files=(("docs", key, ("text",)),), rows=1, label=f"toy.{i}"))
    return found


def naps(store, count, seconds):
    marks = store.root / "marks"
    marks.mkdir()
    return marks, jobs(slow_stages.nap, slow_stages.NapParams(seconds=seconds, marks=str(marks)), store, count)


def words_on(cluster, third, store):
    words = command("run", "sample", *third_options(third), "--store", store, "--no-prefect", "--json")
    return words, {"POLYLM_ENGINE": "dask", "POLYLM_SCHEDULER": cluster.address}


def test_the_data_stages_give_the_content_of_a_run_on_one_machine(cluster, third, third_store, tmp_path):
    words, settings = words_on(cluster, third, tmp_path / "store")
    call(words, **settings)
    assert snapshot(tmp_path / "store") == snapshot(third_store)
    for stage in ("clean", "measure_text", "sign"):
        assert len({record.facts["pid"] for record in records_of(tmp_path / "store", stage)}) == 2, stage
    assert list((tmp_path / "store" / "tmp").iterdir()) == []


def test_a_run_that_loses_a_worker_in_the_middle_ends_with_the_same_content(cluster, third, third_store, tmp_path):
    store = tmp_path / "store"
    words, settings = words_on(cluster, third, store)
    words += ["--until", "measure_text"]
    running = subprocess.Popen(words, env=environment(**settings), stdout=subprocess.PIPE, text=True)
    # Past the 13 files of the one job of `ingest`: then both workers have parts to clean.
    assert wait_until(lambda: len(list((store / "parts").rglob("*.parquet"))) >= 16 and len(cluster.at_work()) == 2)
    before = {path: written(path) for path in (store / "parts").rglob("*.parquet")}
    victim = psutil.Process(cluster.at_work()[0].ppid())
    victim.kill()
    said = json.loads(running.communicate(timeout=120)[0])
    assert running.returncode == 0
    assert not is_alive(victim)
    whole, held = snapshot(third_store), snapshot(store)
    stages = {Path(name).parts[1] for name in held}
    assert {"clean", "measure_text"} <= stages
    assert held == {name: digests for name, digests in whole.items() if Path(name).parts[1] in stages}
    assert half_written(store) == []
    # What was there stays as it was: nothing but what had not ended is made again, and each job is counted once.
    assert {path: written(path) for path in before} == before
    assert all(len(stage["built"]) == stage["jobs"] for stage in said["stages"])


def written(path):
    return path.stat().st_ino, path.stat().st_mtime_ns


def test_only_the_job_of_a_lost_worker_runs_again(pool, cluster, store):
    some, _ = pool
    marks, todo = naps(store, 8, seconds=1.0)
    running = some.run(todo)
    found = [next(running)]

    def begun():  # just now: one that began with the first may be done before it is killed
        young = [path for path in marks.iterdir() if time.time() - path.stat().st_mtime < 0.4]
        return {path.name: path.read_text().split() for path in young if not store_has(store, todo, path.name)}

    seen = {}
    assert wait_until(lambda: seen.update({name: words for name, words in begun().items() if words}) or seen)
    text, (_, parent) = next(iter(seen.items()))
    psutil.Process(int(parent)).kill()
    found += list(running)
    assert all(isinstance(outcome, Done) for _, outcome in found)
    assert len(found) == 8
    tries = {path.name: len(path.read_text().splitlines()) for path in marks.iterdir()}
    assert tries == {f"text {i}": 2 if f"text {i}" == text else 1 for i in range(8)}


def store_has(store, todo, text):
    one = todo[int(text.split()[1])]
    return store.record("rows", one.stage.name, one.key) is not None


def test_two_jobs_are_in_flight_at_once_and_no_more_than_two_a_thread_are_sent(pool, store):
    some, _ = pool
    marks, todo = naps(store, 9, seconds=0.4)
    taken = []

    def source():
        for one in todo:
            taken.append(one.label)
            yield one

    together = 0
    for ended, _ in enumerate(some.run(source())):
        assert len(taken) - ended <= 4 + 1
        together = max(together, len(list(marks.iterdir())) - ended - 1)
    assert len(taken) == 9
    assert together >= 1  # beside the one that had just ended, another had begun


def test_a_job_that_kills_its_process_is_named_and_the_others_finish(pool, cluster, store):
    some, notices = pool
    workers = {worker.pid for worker in cluster.workers()}
    todo = jobs(toy_stages.fail, toy_stages.FailParams(deaths=("text 2",)), store, 5)
    found = {one.label: outcome for one, outcome in some.run(todo)}
    assert [label for label, outcome in found.items() if isinstance(outcome, Failure)] == ["toy.2"]
    assert len(found) == 5
    assert found["toy.2"].message.startswith("killed its worker process")
    assert found["toy.2"].lasting
    assert any("fail toy.2 killed its worker process" in notice for notice in notices)
    assert {worker.pid for worker in cluster.workers()} == workers  # Dask's own are spared


def test_a_flow_that_stops_listening_leaves_no_job_and_a_cluster_that_works(pool, cluster, store):
    some, _ = pool
    _, todo = naps(store, 6, seconds=0.2)
    long = todo[0].params.model_copy(update={"seconds": 600.0})
    running = some.run(
        [
            todo[0],
            *(job(slow_stages.nap, long, store, files=one.parts[0].files, rows=1, label=one.label) for one in todo[1:]),
        ]
    )
    next(running)
    assert wait_until(lambda: len(cluster.at_work()) == 2)
    at_work = cluster.at_work()
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt)
    assert wait_until(lambda: not any(map(is_alive, at_work)) and cluster.at_work() == [], 10)
    assert list((store.root / "tmp").iterdir()) == []
    assert all(isinstance(outcome, Done) for _, outcome in some.run(todo))


def test_a_job_finds_the_commands_folder_and_placement_and_only_these(cluster, store, tmp_path, monkeypatch):
    """So that relative paths of sources mean the same, and POLYLM_DEVICES is what the user set."""
    engine = DaskEngine(cluster.address, print)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POLYLM_DEVICES", "3")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    asked = [(os.getcwd,), (os.getenv, "POLYLM_DEVICES"), (os.getenv, "OPENAI_API_KEY")]
    answers = [engine.submit("ask", store.root, *words).result(60) for words in asked]
    engine.close(kill=False)
    assert answers == [str(tmp_path), "3", None]


def test_a_killed_run_leaves_no_job(cluster, store):
    marks, todo = naps(store, 2, seconds=600.0)
    keys_ = json.dumps([[one.label, one.key, one.parts[0].files] for one in todo])
    code = (
        "import json, sys; from pathlib import Path; from samples import job; import slow_stages as s\n"
        "from polylm.tasks.pool import Pool; from polylm.tasks.store import Store\n"
        "store, params = Store(Path(sys.argv[1])), s.NapParams(seconds=600.0, marks=sys.argv[2])\n"
        "list(Pool(1).run([job(s.nap, params, store, label=label, key=key, rows=1,\n"
        "    files=[(a, b, tuple(c)) for a, b, c in files]) for label, key, files in json.loads(sys.argv[3])]))\n"
    )
    path = os.pathsep.join([str(HELPERS), str(Path(__file__).parent)])
    own = environment(PYTHONPATH=path, POLYLM_ENGINE="dask", POLYLM_SCHEDULER=cluster.address)
    running = subprocess.Popen([sys.executable, "-c", code, store.root, marks, keys_], env=own)
    assert wait_until(lambda: len(list(marks.iterdir())) == 2)
    at_work = cluster.at_work()
    assert len(at_work) == 2
    running.kill()
    assert wait_until(lambda: not any(map(is_alive, at_work)), 10)


def test_a_cluster_of_this_machine_listens_to_this_machine_only(cluster):
    mine = [cluster.process.pid, *(worker.pid for worker in cluster.workers())]
    sockets = [one for pid in mine for one in psutil.Process(pid).net_connections() if one.status == "LISTEN"]
    assert len(sockets) >= 3
    assert {one.laddr.ip for one in sockets} == {"127.0.0.1"}


def test_a_worker_that_does_not_see_the_store_is_named_with_the_folder(pool, store):
    some, _ = pool
    (one,) = jobs(toy_stages.count, toy_stages.NoParams(), store, 1)
    descriptor = os.open(store.root, os.O_RDONLY)
    only_here = Store(Path(f"/proc/self/fd/{descriptor}"))  # of this process, as a mount of this machine only
    unseen = job(one.stage, one.params, only_here, files=one.parts[0].files, rows=1)
    with pytest.raises(NotShared, match=rf"{os.uname().nodename} does not see the store {only_here.root}: .* --store"):
        list(some.run([unseen]))
    os.close(descriptor)


@pytest.mark.serial
def test_a_scheduler_that_ends_in_the_middle_ends_the_run_with_a_line_that_says_so(store):
    own = Cluster()
    some = Pool(1, start=lambda _, notice: DaskEngine(own.address, notice, connect_seconds=2.0))
    _, todo = naps(store, 6, seconds=2.0)
    running = some.run(todo)
    next(running)
    assert own.end() == 0
    with pytest.raises(ConnectionError, match="the Dask scheduler is gone"):
        list(running)
    assert list((store.root / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        ("", "POLYLM_ENGINE=dask needs POLYLM_SCHEDULER: tcp://HOST:PORT, or the path of a scheduler file"),
        ("no.json", "POLYLM_SCHEDULER=no.json is neither an address"),
    ],
)
def test_a_scheduler_that_is_not_named_is_asked_for(monkeypatch, store, scheduler, said):
    monkeypatch.setenv("POLYLM_ENGINE", "dask")
    monkeypatch.setenv("POLYLM_SCHEDULER", scheduler)
    with pytest.raises(ValueError, match=said):
        list(Pool(1).run(jobs(toy_stages.count, toy_stages.NoParams(), store, 1)))


def test_workers_of_one_machine_know_nothing_of_dask():
    code = "import sys, polylm.tasks.run; print([name for name in ('dask', 'distributed') if name in sys.modules])"
    assert call([sys.executable, "-P", "-c", code]).strip() == "[]"
