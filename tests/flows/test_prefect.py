"""Runs through a real Prefect server and a real worker: the same artifacts, the manifests' edges, retries, no orphans.

The server of the module keeps its database where the command line's own servers kept theirs, and is started after them:
what it shows of them is what a person sees who starts a server later.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import prefect
import prefect_toys as toys
import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_api import artifacts, ask, edges, flow_runs, lineage, record_of, states, task_runs
from samples import HELPERS, ROOT, command, environment, half_written, is_alive, snapshot, third_options, wait_until
from toy_stages import Piece, Pieces, ReadParams, read

from polylm.deployments.settings import Settings
from polylm.flows.deployed import RunLog, drain
from polylm.flows.prefect_artifacts import PrefectObserver
from polylm.flows.prefect_runs import PrefectOrchestrator, boxed
from polylm.flows.prefect_server import OFFLINE, prefect_server
from polylm.tasks.run import StageFailed, run
from polylm.tasks.session import session
from polylm.tasks.store import read_columns

pytestmark = [pytest.mark.prefect, pytest.mark.serial]
RETRY_DELAYS = (0.1, 0.1, 0.1)  # seconds before the retries of a stage, which are minutes outside tests


# ---- the server, and what it says


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder for Prefect's database."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="module")
def server(home, ended_runs):
    """The address of a server, started after the command line's own servers have ended."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            patch.delenv(name)
        patch.setenv("PREFECT_HOME", str(home))
        with prefect_server(home / "server.log") as (url, _), temporary_settings({PREFECT_API_URL: url}):
            yield url
            drain()


class Command:
    """`polylm run ... --prefect` in the background, with a Prefect home of the tests."""

    def __init__(self, home, store, third):
        words = command("run", "sample", *third_options(third), "--store", store, "--workers", 2, "--prefect")
        self.process = subprocess.Popen(
            words, env=environment(PREFECT_HOME=home), stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def read_until(self, begins):
        """Read what it says up to a line that begins so."""
        said = []
        for line in self.process.stderr:
            said.append(line)
            if line.startswith(begins):
                return
        raise AssertionError(f"the run ended without a line {begins!r}:\n{''.join(said)}")

    def busy(self, workers=2):
        """What it has started, once that is a server and two workers at least."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return found if len(found) > workers and self.served(found) else []

    @staticmethod
    def served(processes):
        return [process for process in processes if "polylm.flows.prefect_server" in process.cmdline()]

    def stop(self, number):
        """Send a signal in the middle of the run; returns exit code, seconds to the end, and what was left after 10 s."""
        started = self.busy()
        assert started, "the server and two workers were to be running"
        begun = time.monotonic()
        self.process.send_signal(number)
        self.process.stderr.read()
        code, seconds = self.process.wait(60), time.monotonic() - begun
        wait_until(lambda: not any(map(is_alive, started)), 10)
        return code, seconds, [process.cmdline() for process in started if is_alive(process)]


@pytest.fixture(scope="module")
def ended_runs(home, third, tmp_path_factory):
    """One run on a store of its own, killed, started again and terminated, and started again to its end."""
    store = tmp_path_factory.mktemp("killed") / "store"
    ends = {}
    for name, number, line in (("killed", signal.SIGKILL, "clean "), ("terminated", signal.SIGTERM, "measure_text ")):
        begun = Command(home, store, third)
        begun.read_until(line)
        ends[name] = begun.stop(number)
    last = Command(home, store, third)
    said = last.process.stderr.read()
    ends["last"] = last.process.wait(60), said
    return store, ends


def test_a_kill_leaves_no_process(ended_runs):
    _, _, left = ended_runs[1]["killed"]
    assert left == []


def test_sigterm_ends_the_run_in_time_with_its_code(ended_runs):
    code, seconds, left = ended_runs[1]["terminated"]
    assert code == 128 + signal.SIGTERM
    assert seconds < 15
    assert left == []


def test_ctrl_c_while_the_server_starts_ends_it_too(home, third, tmp_path):
    begun = Command(home, tmp_path / "store", third)
    assert wait_until(lambda: begun.served(psutil.Process(begun.process.pid).children()), 30)
    started = psutil.Process(begun.process.pid).children()
    begun.process.send_signal(signal.SIGINT)
    assert begun.process.wait(15) == 128 + signal.SIGINT
    assert not any(map(is_alive, started))


def test_the_next_run_ends_with_the_content_of_an_undisturbed_one(ended_runs, third_store):
    store, ends = ended_runs
    code, said = ends["last"]
    assert code == 0, said
    assert half_written(store) == []
    assert artifacts(store) == artifacts(third_store)
    assert snapshot(store) == snapshot(third_store)


def test_a_server_that_is_started_later_shows_the_run(ended_runs, server):
    runs = ask(server, "/flow_runs/filter", {"flow_runs": {"name": {"any_": ["sample"]}}})
    assert sorted(found["state_name"] for found in runs) == ["Completed", "Crashed", "Running"]
    completed = next(found for found in runs if found["state_name"] == "Completed")
    inner = flow_runs(server, parent_flow_run_id=[completed["id"]])
    assert list(inner) == ["build_corpus"]
    stages = [stage for stage, _ in artifacts(ended_runs[0])]
    shown = task_runs(server, inner["build_corpus"]["id"], len(stages))
    assert sorted(found["name"] for found in shown) == sorted(stages)


def test_our_server_refuses_nothing_where_two_write_at_once(server):
    """Prefect's own refuses with 503 a transaction that read before another wrote; its client comes back after 2 s."""
    flow = ask(server, "/flows/", {"name": "at once"})["id"]
    run = ask(server, "/flow_runs/", {"flow_id": flow, "state": {"type": "RUNNING"}})["id"]

    def create(number):
        task = {"flow_run_id": run, "task_key": "at once", "dynamic_key": str(number), "state": {"type": "PENDING"}}
        return ask(server, "/task_runs/", task)["id"]  # raises where it is refused

    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(create, range(60)))) == 60


SERVED = """
import sys
from pathlib import Path
from polylm.flows.prefect_server import prefect_server
with prefect_server(Path(sys.argv[1])):
    print("served")
"""


def test_two_servers_that_make_a_database_at_once_both_do(tmp_path):
    words = [sys.executable, "-P", "-c", SERVED]
    variables = environment(PREFECT_HOME=tmp_path / "prefect")
    both = [
        subprocess.Popen([*words, tmp_path / name], env=variables, stdout=subprocess.PIPE, text=True) for name in "ab"
    ]
    assert [process.communicate(timeout=120)[0] for process in both] == ["served\n"] * 2


# ---- the deployment


@contextmanager
def worker(url, folder):
    """A Prefect worker of the pool `cpu`, which it makes, in a folder with our `prefect.yaml`."""
    (folder / "prefect.yaml").write_text((ROOT / "prefect.yaml").read_text())
    variables = environment(
        PREFECT_API_URL=url, PREFECT_HOME=folder, PREFECT_WORKER_QUERY_SECONDS=1, PWD=folder, **OFFLINE
    )
    prefect_command = str(Path(sys.executable).parent / "prefect")
    with (folder / "worker.log").open("w") as log:
        words = [prefect_command, "worker", "start", "--pool", "cpu", "--type", "process", "--name", "test"]
        process = subprocess.Popen(
            words, env=variables, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        assert wait_until(lambda: ask(url, "/work_pools/filter", {}), 90, 0.5), (folder / "worker.log").read_text()
        for words in (["work-pool", "create", "gpu", "--type", "process"], ["--no-prompt", "deploy", "--all"]):
            done = subprocess.run(
                [prefect_command, *words], env=variables, cwd=folder, capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, done.stdout + done.stderr
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def deployed_run(server, third, tmp_path_factory):
    """The deployment, started through the API and run by a worker: the flow run, and the store, which is the default."""
    folder = tmp_path_factory.mktemp("worker")
    request = {"recipe": "sample", "changes": [word for word in third_options(third) if word != "--set"], "workers": 2}
    with worker(server, folder):
        deployment = ask(server, "/deployments/name/polylm/sample")["id"]
        with pytest.raises(urllib.error.HTTPError, match="409"):
            start(server, deployment, {"recipe": "simple"})
        run_id = start(server, deployment, request)["id"]

        def ended():
            return ask(server, f"/flow_runs/{run_id}")["state_type"] not in ("SCHEDULED", "PENDING", "RUNNING")

        assert wait_until(ended, 180, 0.5), (folder / "worker.log").read_text()
    found = ask(server, f"/flow_runs/{run_id}")
    assert found["state_type"] == "COMPLETED", (folder / "worker.log").read_text()
    return found, folder / "store"


def start(url, deployment, request):
    return ask(url, f"/deployments/{deployment}/create_flow_run", {"parameters": {"request": request}})


def test_the_deployment_makes_the_artifacts_of_the_command_line(deployed_run, third_store):
    _, store = deployed_run
    assert len(artifacts(store)) > 15
    assert artifacts(store) == artifacts(third_store)


def test_the_run_graph_is_the_lineage_of_the_manifests(deployed_run, server):
    found, store = deployed_run
    record = record_of(store)
    inner = flow_runs(server, parent_flow_run_id=[found["id"]])["build_corpus"]
    shown = task_runs(server, inner["id"], len(record["stages"]))
    assert sorted(task["name"] for task in shown) == sorted(entry["stage"] for entry in record["stages"])
    assert len(lineage(record)) > 40
    assert edges(server, inner["id"]) == lineage(record)


def test_one_table_says_what_every_stage_did(deployed_run, server):
    found, store = deployed_run
    wanted = {"artifacts": {"flow_run_id": {"any_": [found["id"]]}, "key": {"any_": ["funnel"]}}}
    (funnel,) = ask(server, "/artifacts/filter", wanted)
    rows = json.loads(funnel["data"])
    assert [row["stage"] for row in rows] == [entry["stage"] for entry in record_of(store)["stages"]]
    text = next(row for row in rows if row["stage"] == "filter_text")
    reasons = record_of(store)["stages"][[row["stage"] for row in rows].index("filter_text")]["reasons"]
    assert text["rejected"] == ", ".join(f"{reason} {count}" for reason, count in reasons.items())


# ---- toy stages in this process


@pytest.fixture(scope="module")
def toy(server, tmp_path_factory):
    """Runs a flow of toy stages, one document a part, in one Prefect flow; says how that went."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HELPERS))  # for ranks

        def run_in_prefect(function, *texts, store=None):
            folder = tmp_path_factory.mktemp("toy")
            patch.setenv("TOY_FOLDER", str(folder))
            return run_toy(function, texts, folder, store or folder / "store")

        yield run_in_prefect


@dataclass
class ToyRun:
    """A run of toy stages: its flow run, the state that it ended in, its marks and its store."""

    id: str
    state: prefect.State
    folder: Path
    store: Path

    def times(self, name):
        """How often something ran."""
        return toys.times(self.folder / name)


def run_toy(function, texts, folder, store):
    pieces = Pieces(*(Piece("toy", f"toy:{i}", (text,)) for i, text in enumerate(texts)))
    ids = []

    @prefect.flow(name="toy", persist_result=False)
    def body():
        ids.append(str(prefect.context.FlowRunContext.get().flow_run.id))
        return boxed(inside)

    def inside():
        observer = PrefectObserver(RunLog(), every_seconds=0)
        with session(
            Settings(store=store, workers=2), observer=observer, orchestrator=PrefectOrchestrator(RETRY_DELAYS)
        ):
            return function(run(read, ReadParams(), pieces))

    state = body(return_state=True)
    return ToyRun(ids[0], state, folder, store)


def words_and_model(docs):
    """Two sub-flows, the second of which reads what the first made."""
    return toys.train_on_words(toys.build_words(docs))


@pytest.fixture(scope="module")
def retried(toy):
    return toy(words_and_model, "calm weather", "unsteady weather", "fair weather")


def inner_tasks(url, flow_run, name, count):
    """The sub-flow run of a name in a flow run, and its task runs by name."""
    inner = flow_runs(url, parent_flow_run_id=[flow_run])[name]
    return inner, {task["name"]: task for task in task_runs(url, inner["id"], count)}


def test_a_stage_is_retried_after_what_may_pass_and_only_what_is_missing_runs_again(retried, server):
    assert retried.state.is_completed()
    _, shown = inner_tasks(server, retried.id, "build_words", 3)
    assert states(server, shown["count_words"])[-4:] == ["Running", "AwaitingRetry", "Retrying", "Completed"]
    assert states(server, shown["filter_short"])[-2:] == ["Running", "Completed"]
    assert retried.times("count_words-calm") == retried.times("count_words-fair") == 1
    assert retried.times("count_words-unsteady") == toys.OWN_TRIES + 1


def test_a_preempted_trainer_is_started_again(retried, server):
    _, shown = inner_tasks(server, retried.id, "train_on_words", 2)
    assert states(server, shown["train_toy"])[-4:] == ["Running", "AwaitingRetry", "Retrying", "Completed"]
    assert retried.times("rank") == retried.times("train_toy") == 2


def test_edges_cross_between_sub_flows_where_an_artifact_does(retried, server):
    words, _ = inner_tasks(server, retried.id, "build_words", 3)
    model, _ = inner_tasks(server, retried.id, "train_on_words", 2)
    within = {("count_words", "filter_short"), ("filter_short", "look_for_prefect")}
    assert edges(server, retried.id) == {("read", "build_words"), ("build_words", "train_on_words")}
    assert edges(server, words["id"]) == within
    assert edges(server, model["id"]) == {("total", "train_toy")}
    across = {("read", "count_words"), ("read", "look_for_prefect"), ("count_words", "total")}
    assert lineage(record_of(retried.store)) == within | across | {("total", "train_toy")}


def test_progress_is_shown(retried, server):
    inner, _ = inner_tasks(server, retried.id, "build_words", 3)
    where = {"artifacts": {"flow_run_id": {"any_": [inner["id"]]}, "key": {"any_": ["count-words"]}}}
    found = ask(server, "/artifacts/filter", where)
    assert [(artifact["type"], artifact["data"]) for artifact in found] == [("progress", 100.0)] * 2  # one an attempt


def test_what_the_server_keeps_of_a_run_does_not_grow_with_its_jobs(toy, server):
    """One task run a stage and a line when it ends, whether a stage has three jobs or three hundred."""
    many = toy(toys.build_words, *(f"w{number} weather" for number in range(300)))
    assert many.state.is_completed()
    inner, shown = inner_tasks(server, many.id, "build_words", 3)
    assert len(shown) == 3
    assert sum(many.times(path.name) for path in many.folder.glob("count_words-*")) == 300
    runs = {"logs": {"flow_run_id": {"any_": [many.id, inner["id"]]}}, "limit": 200}
    assert wait_until(lambda: len(ask(server, "/logs/filter", runs)) >= 6, 20, 0.5)
    assert len(ask(server, "/logs/filter", runs)) <= 30


def test_workers_do_not_import_prefect(retried):
    parts = sorted((retried.store / "parts" / "look_for_prefect").rglob("*.parquet"))
    assert [read_columns(part)["imported"].to_pylist() for part in parts] == [[False]] * 3


def test_what_is_in_the_store_ends_as_reused(toy, retried, server):
    texts = "calm weather", "unsteady weather", "fair weather"
    again = toy(toys.build_words, *texts, store=retried.store)
    inner, shown = inner_tasks(server, again.id, "build_words", 3)
    assert {(task["state_name"], task["state_type"]) for task in shown.values()} == {("Reused", "COMPLETED")}
    assert edges(server, inner["id"]) == {("count_words", "filter_short"), ("filter_short", "look_for_prefect")}
    assert not again.times("count_words-calm")


def test_a_mistake_of_the_users_fails_at_once_with_its_own_message(toy, server):
    failed = toy(toys.build_numbers, "calm weather")
    message = "read_number toy.0: found 'calm', expected a number: mend the file"
    inner, shown = inner_tasks(server, failed.id, "build_numbers", 1)
    assert states(server, shown["read_number"]) == ["Pending", "Running", "Failed"]
    for found in (shown["read_number"], inner, ask(server, f"/flow_runs/{failed.id}")):
        assert (found["state"]["name"], found["state"]["message"]) == ("Failed", message)
    assert failed.times("read_number") == 1
    with pytest.raises(StageFailed, match="expected a number"):
        failed.state.result()


def test_workers_of_a_process_whose_main_module_is_prefects_do_not_import_it(tmp_path):
    script = tmp_path / "engine.py"  # as `python -m prefect.engine` is, in which a Prefect worker runs a flow
    script.write_text(
        "import multiprocessing, sys\n"
        "import prefect\n"
        "from polylm.flows.deployed import spare_workers\n"
        "def look():\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        return pool.apply(eval, [\"'prefect' in __import__('sys').modules\"])\n"
        "if __name__ == '__main__':\n"
        "    before = look()\n"
        "    spare_workers()\n"
        "    print(before, look())\n"
    )
    variables = environment(PYTHONPATH=tmp_path)
    words = [sys.executable, "-P", "-m", "engine"]
    done = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "True False", done.stderr
