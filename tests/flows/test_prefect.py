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
from contextlib import contextmanager
from pathlib import Path

import prefect
import prefect_toys as toys
import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from samples import HELPERS, ROOT, command, environment, half_written, is_alive, snapshot, third_options, wait_until
from toy_stages import Piece, Pieces, ReadParams, read

from polylm.flows.deployed import RunLog
from polylm.flows.prefect_server import OFFLINE, prefect_server
from polylm.tasks.prefect_runs import PrefectObserver, PrefectOrchestrator, boxed
from polylm.tasks.run import run, session
from polylm.tasks.settings import Settings
from polylm.tasks.stage import NoParams

pytestmark = [pytest.mark.prefect, pytest.mark.serial]
DELAYS = (0.1, 0.1, 0.1)  # seconds before the retries of a stage, which are minutes outside tests


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
        with prefect_server(home / "server.log") as url, temporary_settings({PREFECT_API_URL: url}):
            yield url


def ask(url, path, body=None):
    """What the API answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def flow_runs(url, **where):
    """Flow runs by name: those whose `field` is one of some values."""
    wanted = {field: {"any_": values} for field, values in where.items()}
    return {found["name"]: found for found in ask(url, "/flow_runs/filter", {"flow_runs": wanted})}


def task_runs(url, flow_run, count):
    """The task runs of a flow run, once the server has noted all of them; it lags seconds behind."""
    query = {"flow_runs": {"id": {"any_": [flow_run]}}, "sort": "EXPECTED_START_TIME_ASC"}

    def found():
        return ask(url, "/task_runs/filter", query)

    assert wait_until(lambda: len([t for t in found() if t["end_time"]]) >= count, 30, 0.3), found()
    return found()


def states(url, task_run):
    """The names of the states that a task run went through, in order."""
    history = ask(url, f"/task_run_states/?task_run_id={task_run['id']}")
    return [state["name"] for state in sorted(history, key=lambda state: state["timestamp"])]


def edges(url, flow_run):
    """(from, to) of the run graph of one flow run, by name."""
    graph = ask(url, f"/flow_runs/{flow_run}/graph-v2")
    nodes = {key: node for key, node in graph["nodes"]}
    return {(nodes[parent["id"]]["label"], node["label"]) for node in nodes.values() for parent in node["parents"]}


def lineage(record):
    """(from, to) among the stages of a run, as its manifests have it."""
    stage_of = {entry["artifact"]: entry["stage"] for entry in record["stages"]}
    return {(stage_of[ref], entry["stage"]) for entry in record["stages"] for ref in entry["reads"] if ref in stage_of}


def record_of(store, state="completed"):
    """The record of a store's latest run that ended in a state."""
    records = [json.loads(path.read_text()) for path in sorted((Path(store) / "runs").glob("*.json"))]
    return [record for record in records if record["state"] == state][-1]


def artifacts(store):
    """The artifacts of a store's last finished run, with their stages, in the order of the flow."""
    return [(entry["stage"], entry["artifact"]) for entry in record_of(store)["stages"]]


# ---- the command line's own server


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
        words = [prefect_command, "--no-prompt", "deploy", "--all"]
        done = subprocess.run(words, env=variables, cwd=folder, capture_output=True, text=True, timeout=120)
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


@pytest.fixture
def toy(server, toy_folder, tmp_path, monkeypatch):
    """Runs flows of toy stages in one Prefect flow; gives that flow run, its error, and the store."""
    monkeypatch.setenv("PYTHONPATH", str(HELPERS))  # for ranks

    def run_in_prefect(flow, *texts):
        store, seen = tmp_path / "store", {}
        pieces = Pieces(*(Piece("toy", f"toy:{i}", (text,)) for i, text in enumerate(texts)))

        @prefect.flow(name="toy", persist_result=False)
        def body():
            seen["id"] = str(prefect.context.FlowRunContext.get().flow_run.id)
            return boxed(inside)

        def inside():
            settings = Settings(store=store, workers=2)
            observer = PrefectObserver(RunLog(), every_seconds=0)
            with session(settings, observer=observer, orchestrator=PrefectOrchestrator(DELAYS)):
                return flow(run(read, ReadParams(), pieces))

        seen["state"] = body(return_state=True)
        seen["store"] = store
        return seen

    return run_in_prefect


def words_and_model(docs):
    """Two sub-flows, the second of which reads what the first made."""
    return toys.train_on_words(toys.build_words(docs))


@pytest.fixture
def retried(toy):
    return toy(words_and_model, "calm weather", "unsteady weather", "fair weather")


def test_a_stage_is_retried_after_what_may_pass_and_only_what_is_missing_runs_again(retried, server, toy_folder):
    assert retried["state"].is_completed()
    inner = flow_runs(server, parent_flow_run_id=[retried["id"]])

    words = {task["name"]: task for task in task_runs(server, inner["build_words"]["id"], 3)}
    assert states(server, words["count_words"])[-4:] == ["Running", "AwaitingRetry", "Retrying", "Completed"]
    calm, unsteady = (toys.times(toy_folder / f"count_words-{word}") for word in ("calm", "unsteady"))
    assert (calm, unsteady) == (1, toys.OWN_TRIES + 1)

    model = {task["name"]: task for task in task_runs(server, inner["train_on_words"]["id"], 2)}
    assert states(server, model["train_toy"])[-4:] == ["Running", "AwaitingRetry", "Retrying", "Completed"]
    assert (toys.times(toy_folder / "train_toy"), toys.times(toy_folder / "rank")) == (2, 2)  # preempted once
    assert states(server, model["total"])[-1] == "Completed"

    # Edges cross from sub-flow to sub-flow in the graph of the flow around them, and follow the manifests within.
    assert edges(server, retried["id"]) == {("read", "build_words"), ("build_words", "train_on_words")}
    inside = {("count_words", "filter_short"), ("filter_short", "look_for_prefect")}
    assert edges(server, inner["build_words"]["id"]) == inside
    assert edges(server, inner["train_on_words"]["id"]) == {("total", "train_toy")}
    whole = {("read", "count_words"), ("read", "look_for_prefect"), ("count_words", "total"), ("total", "train_toy")}
    assert lineage(record_of(retried["store"])) == whole | inside


def test_progress_is_shown(toy, server):
    toy(toys.build_words, "calm weather", "fair weather", "wild weather")
    found = ask(server, "/artifacts/filter", {"artifacts": {"key": {"any_": ["count-words"]}}})
    assert {(artifact["type"], artifact["data"]) for artifact in found} == {("progress", 100.0)}


def test_what_is_in_the_store_ends_as_reused(toy, server):
    toy(toys.build_words, "calm weather", "fair weather")
    again = toy(toys.build_words, "calm weather", "fair weather")
    inner = flow_runs(server, parent_flow_run_id=[again["id"]])["build_words"]
    shown = task_runs(server, inner["id"], 3)
    assert {(task["name"], task["state_name"], task["state_type"]) for task in shown} == {
        (name, "Reused", "COMPLETED") for name in ("count_words", "filter_short", "look_for_prefect")
    }
    assert edges(server, inner["id"]) == {("count_words", "filter_short"), ("filter_short", "look_for_prefect")}


def test_a_mistake_of_the_users_fails_at_once_with_its_own_message(toy, server, toy_folder):
    failed = toy(toys.build_numbers, "calm weather")
    message = "read_number toy.0: found 'calm', expected a number: mend the file"
    inner = flow_runs(server, parent_flow_run_id=[failed["id"]])["build_numbers"]
    (task,) = task_runs(server, inner["id"], 1)
    assert states(server, task) == ["Pending", "Running", "Failed"]
    for found in (task, inner, ask(server, f"/flow_runs/{failed['id']}")):
        assert (found["state"]["name"], found["state"]["message"]) == ("Failed", message)
    assert toys.times(toy_folder / "read_number") == 1
    with pytest.raises(Exception, match="expected a number"):
        failed["state"].result()


# ---- workers know no Prefect


def test_workers_do_not_import_prefect(toy):
    done = toy(toys.build_words, "calm weather", "fair weather")
    with session(Settings(store=done["store"], workers=2)):
        texts = Pieces(*(Piece("toy", f"toy:{i}", (f"{word} weather",)) for i, word in enumerate(("calm", "fair"))))
        looked = run(toys.look_for_prefect, NoParams(), run(read, ReadParams(), texts))
    found = [value for column in columns_of(done["store"], looked) for value in column]
    assert found == [False, False]


def columns_of(store, artifact):
    from polylm.tasks.store import Store, read_columns

    held = Store(store)
    return [read_columns(held.part_path(artifact.stage, part.key))["imported"].to_pylist() for part in artifact.parts]


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
