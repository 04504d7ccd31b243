"""`polylm up`, used as a person uses it: runs are started, refused, approved, cancelled and repeated through Prefect's API.

One server, one worker a pool and one dashboard serve all of these tests; at the end Ctrl-C must leave nothing.
"""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from samples import (
    command,
    environment,
    half_written,
    is_alive,
    snapshot,
    third_options,
    third_records,
    wait_until,
    write_jsonl,
)

from polylm.tasks.store import Store, read_columns, read_json

pytestmark = [pytest.mark.prefect, pytest.mark.serial]
STEPS = 150  # of the training that is cancelled
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED", "PAUSED")


@dataclass(frozen=True)
class Up:
    """A running `polylm up`."""

    process: subprocess.Popen
    folder: Path
    port: int

    @property
    def store(self):
        return self.folder / "store"

    def ask(self, path, body=None, port=None):
        """What the API answers."""
        data = None if body is None else json.dumps(body).encode()
        address = f"http://127.0.0.1:{port or self.port}{path}"
        request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
        for left in range(10, -1, -1):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code != 503 or not left:  # SQLite has one writer at a time; Prefect's clients try again too
                    raise
                time.sleep(1)

    def start(self, deployment, **request):
        """A flow run of a deployment, as "Run" on its page starts it; what the form does not say is the deployment's own."""
        found = self.ask(f"/api/deployments/name/polylm/{deployment}")
        form = {**found["parameters"]["request"], **request}
        return self.ask(f"/api/deployments/{found['id']}/create_flow_run", {"parameters": {"request": form}})["id"]

    def state(self, run):
        return self.ask(f"/api/flow_runs/{run}")["state"]

    def end_of(self, run, seconds=180):
        """The state that a flow run ends in, or waits in."""
        assert wait_until(lambda: self.state(run)["type"] in ENDED, seconds, 0.3), self.worker_log()
        return self.state(run)

    def run(self, deployment, **request):
        run = self.start(deployment, **request)
        return run, self.end_of(run)

    def record(self, run):
        """The record of a flow run's latest attempt."""
        records = [read_json(path) for path in sorted(self.store.glob("runs/*.json"))]
        return [found for found in records if found.get("started_by", "").endswith(run)][-1]

    def processes(self, run):
        """The processes of a flow run: the flow's own and its workers."""
        record = self.record(run)
        flow = psutil.Process(record["pid"])
        return [flow, *flow.children(recursive=True)]

    def at_work_on(self, run, stage):
        """Whether a flow run has begun to build a stage."""
        records = list(self.store.glob("runs/*.json"))
        return bool(records) and any(
            (found.get("now") or {}).get("stage") == stage
            for path in records
            if (found := read_json(path)) and found.get("started_by", "").endswith(run)
        )

    def worker_log(self):
        return (self.store / "work" / "worker-cpu.log").read_text()[-4_000:]


def free_ports():
    """A port whose next one is free too."""
    while True:
        with socket.socket() as one, socket.socket() as next_one:
            one.bind(("127.0.0.1", 0))
            try:
                next_one.bind(("127.0.0.1", one.getsockname()[1] + 1))
            except OSError:
                continue
            return one.getsockname()[1]


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    folder = tmp_path_factory.mktemp("up")
    (folder / "inbox").mkdir()
    port = free_ports()
    words = command("up", "--port", port, "--store", folder / "store")
    variables = environment(PREFECT_HOME=folder / "prefect", PREFECT_WORKER_QUERY_SECONDS=1)
    process = subprocess.Popen(
        words, env=variables, cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said = [process.stdout.readline() for _ in range(3)]
        assert said[0].split() == ["Prefect", f"http://127.0.0.1:{port}/deployments"], said
        yield Up(process, folder, port)
        started = psutil.Process(process.pid).children(recursive=True)
        assert len(started) >= 4
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 128 + signal.SIGINT
        assert wait_until(lambda: not any(map(is_alive, started)), 10), [p.cmdline() for p in started if is_alive(p)]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def changes(third):
    """The data stages over the third, as changes in the form."""
    return [word for word in third_options(third) if word != "--set"]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("changes", ["nosuch.field=1"], "does not match"),
        ("changes", ["text"], "does not match"),
        ("sources", ["no-path"], "does not match"),
        ("until", "nosuch", "is not one of"),
        ("on_alarm", "shout", "is not one of"),
        ("workers", -1, "less than the minimum"),
        ("recipes", "sample", "Additional properties"),
    ],
)
def test_a_bad_value_is_refused_in_the_form(up, field, value, reason):
    with pytest.raises(urllib.error.HTTPError) as refused:
        up.start("sample", **{field: value})
    assert refused.value.code == 409
    said = refused.value.read().decode()
    assert field in said
    assert reason in said


def test_a_field_that_only_the_recipe_knows_fails_before_any_work_with_one_line(up):
    _, state = up.run("sample", changes=["text.nosuch=1"])
    assert state["type"] == "FAILED"
    assert state["message"].startswith("--set text.nosuch=1: no field 'text.nosuch'; there are")


def test_there_is_a_deployment_for_every_way_to_run(up):
    found = {deployment["name"]: deployment for deployment in up.ask("/api/deployments/filter", {})}
    assert sorted(found) == ["corpus", "nightly", "sample", "train"]
    assert found["train"]["work_pool_name"] == "gpu"
    (schedule,) = found["nightly"]["schedules"]
    assert schedule["schedule"]["cron"] == "0 2 * * *"


def test_a_run_cancelled_in_a_data_stage_leaves_no_process_and_the_next_one_goes_on(up, changes, third_store):
    run = up.start("sample", changes=changes, workers=2)
    assert wait_until(lambda: up.at_work_on(run, "measure_text"), 120, 0.02), up.worker_log()
    cancel(up, run)
    assert half_written(up.store) == []
    assert up.record(run)["state"] == "stopped"
    again, state = up.run("sample", changes=changes, workers=2)
    assert state["type"] == "COMPLETED", up.worker_log()
    reused = {entry["stage"]: entry["built"] for entry in up.record(again)["stages"]}
    assert reused["clean"] == 0
    assert snapshot(up.store) == snapshot(third_store)


def cancel(up, run):
    """Cancel a flow run as the UI does; nothing of it may be alive 15 s later."""
    processes = up.processes(run)
    assert len(processes) >= 2, "there were to be workers or ranks"
    state = {"type": "CANCELLING", "name": "Cancelling"}
    up.ask(f"/api/flow_runs/{run}/set_state", {"state": state})
    asked = time.monotonic()
    assert wait_until(lambda: not any(map(is_alive, processes)), 15), [p.cmdline() for p in processes if is_alive(p)]
    assert time.monotonic() - asked < 15
    assert wait_until(lambda: up.state(run)["type"] == "CANCELLED", 30, 0.3), up.state(run)


def test_an_alarm_suspends_the_run_until_somebody_approves_it(up, changes):
    strict = [*changes, "alarms.max_source_loss=0.2", "alarms.min_documents=50"]
    run, state = up.run("sample", changes=strict, workers=2)
    assert (state["type"], state["name"]) == ("PAUSED", "Suspended"), state
    assert up.record(run)["state"] == "awaiting approval"
    assert wait_until(lambda: evidence(up, run), 10, 0.3), "the state comes first, then what the form shows"
    shown = evidence(up, run)
    assert "filter_text rejects" in shown
    address = f"http://127.0.0.1:{up.port + 1}/run/{up.record(run)['id']}"
    assert address in shown
    with urllib.request.urlopen(address, timeout=30) as page:
        assert "filter_text rejects" in page.read().decode()
    refused = up.ask(f"/api/flow_runs/{run}/resume", {"run_input": {"approve": True, "reason": ""}})
    assert refused["status"] == "REJECT", "an approval needs a reason"
    up.ask(f"/api/flow_runs/{run}/resume", {"run_input": {"approve": True, "reason": "help pages repeat themselves"}})
    assert up.end_of(run)["type"] == "COMPLETED", up.worker_log()
    (alarm,) = up.record(run)["alarms"]
    assert alarm["decision"] == {"approved": True, "reason": "help pages repeat themselves"}
    assert up.record(run)["stages"][-1]["stage"] == "select"
    stage, key = alarm["artifact"].split("/")
    (manifest,) = (up.store / "artifacts" / stage).glob(f"{key}*.json")
    assert [entry["decision"] for entry in read_json(manifest)["alarms"]] == [alarm["decision"]]


def evidence(up, run):
    """What the form of an approval shows above its fields."""
    form = up.ask(f"/api/flow_runs/{run}/input/filter", {"prefix": "", "limit": 10})
    return next((entry["value"] for entry in form if entry["key"].endswith("-description")), None)


def test_an_alarm_that_is_not_approved_ends_the_run_with_the_reason(up, changes):
    strict = [*changes, "alarms.max_source_loss=0.3", "alarms.min_documents=50"]
    run, state = up.run("sample", changes=strict, workers=2)
    assert state["name"] == "Suspended"
    up.ask(f"/api/flow_runs/{run}/resume", {"run_input": {"approve": False, "reason": "the export was broken"}})
    assert (up.end_of(run)["type"], up.state(run)["message"]) == ("FAILED", "not approved: the export was broken")
    (alarm,) = up.record(run)["alarms"]
    assert alarm["decision"] == {"approved": False, "reason": "the export was broken"}


def test_the_nightly_run_builds_what_is_new_in_the_folder_and_says_what_that_is(up):
    records = third_records()
    write_jsonl(up.folder / "inbox" / "2026-01.jsonl", records[:60])
    write_jsonl(up.folder / "inbox" / "2026-02.jsonl", records[60:120])
    options = {
        "changes": ["quality_models.min_reference_bytes=10000", "ingest.part_rows=20"],
        "workers": 2,
        "on_alarm": "warn",
    }
    first, state = up.run("nightly", **options)
    assert state["type"] == "COMPLETED", up.worker_log()
    write_jsonl(up.folder / "inbox" / "2026-03.jsonl", records[120:160])
    second, state = up.run("nightly", **options)
    assert state["type"] == "COMPLETED", up.worker_log()
    stages = {entry["stage"]: entry for entry in up.record(second)["stages"]}
    assert (stages["ingest"]["built"], stages["ingest"]["jobs"]) == (1, 3)
    for stage in ("clean", "identify_language", "measure_text", "sign"):
        assert (stages[stage]["built"], stages[stage]["jobs"]) == (2, 8), stage
    new = up.record(second)["new"]
    assert new["since"] == up.record(first)["id"]
    assert new["sources"] == {"inbox": {"parts": 2, "documents": 40}}
    assert new["parts_gone"] == 0
    before, after = (kept(up, run) for run in (first, second))
    assert new["kept_more"] == after - before
    query = {"logs": {"flow_run_id": {"any_": [second]}}, "limit": 200}
    assert wait_until(lambda: any("new since" in log["message"] for log in up.ask("/api/logs/filter", query)), 20, 0.5)
    third, state = up.run("nightly", **options)
    assert up.record(third)["new"]["sources"] == {}


def kept(up, run):
    """Documents of a run that no gate rejected, counted from what `select` wrote."""
    (ref,) = [entry["artifact"] for entry in up.record(run)["stages"] if entry["stage"] == "select"]
    artifact = Store(up.store).load_artifact(*ref.split("/"))
    paths = [Store(up.store).part_path("select", part.key) for part in artifact.parts]
    return sum(len(read_columns(path)["weight"].drop_null()) for path in paths)


def test_a_run_cancelled_in_training_leaves_no_rank_and_the_next_one_goes_on_from_its_checkpoint(up, changes):
    small = {
        "flow": "everything",
        "tokenizer.vocabulary": 4_096,
        "curriculum.segments": [
            {"name": "stage1", "steps": STEPS, "non_english": 0.3, "pairs": 0.05},
            {"name": "stage2", "steps": 4, "non_english": 0.6, "pairs": 0.1},
        ],
        **{f"{stage}.context": 256 for stage in ("pack", "pack_pairs", "model")},
        **{"model.layers": 1, "model.width": 32, "model.heads": 2, "model.feed_forward": 64},
        **{"curriculum.batch": 4, "stage1.batch": 4, "stage1.steps": STEPS, "stage1.checkpoint_every": 5},
    }
    options = {"workers": 2, "changes": [*changes, *(f"{name}={json.dumps(value)}" for name, value in small.items())]}
    run = up.start("sample", **options, until="pretrain")
    assert wait_until(lambda: up.at_work_on(run, "pretrain") and trained(up) >= 10, 180, 0.1), up.worker_log()
    cancel(up, run)
    assert half_written(up.store) == []
    assert trained(up) < STEPS
    _, state = up.run("sample", **options, until="pretrain")
    assert state["type"] == "COMPLETED", up.worker_log()
    (folder,) = (up.store / "folders" / "pretrain").glob("*")
    events = pq.read_table(folder / "logs" / "events.parquet").to_pylist()
    (resumed,) = [event["step"] for event in events if event["event"] == "resume"]
    assert resumed >= 5


def trained(up):
    """The steps that a training in progress has noted."""
    logs = list(up.store.glob("work/*/scratch/training/metrics.jsonl"))
    return max((len(path.read_text().splitlines()) for path in logs), default=0)
