"""`polylm up`, used as a person uses it: runs are started, refused, approved, cancelled and repeated through Prefect's API.

One server, one worker a pool and one dashboard serve all of these tests; at the end Ctrl-C must leave nothing.
"""

import json
import time
import urllib.error

import httpx
import pyarrow.parquet as pq
import pytest
from samples import half_written, is_alive, wait_until, write_jsonl
from upped import few_records
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from polylm.deployments.settings import Settings
from polylm.flows.up import _deploy
from polylm.tasks.store import Store, read_columns

pytestmark = [pytest.mark.prefect, pytest.mark.serial]
NIGHT = {
    "changes": ["quality_models.min_reference_bytes=10000", "ingest.part_rows=20"],
    "workers": 2,
    "on_alarm": "warn",
}
STEPS = 120  # of the training that is cancelled


@pytest.fixture(scope="module")
def begun(up, changes):
    """Flow runs that get on beside the first tests: one fails at once, one meets an alarm and waits for an answer, one is a
    night over the first files of a folder."""
    records = few_records()
    write_jsonl(up.folder / "inbox" / "2026-01.jsonl", records[:20])
    write_jsonl(up.folder / "inbox" / "2026-02.jsonl", records[20:59])
    strict = [*changes, "alarms.max_source_loss=0.2", "alarms.min_documents=50", 'floors.own={"en":1}']
    return {
        "mistaken": up.start("sample", changes=["text.nosuch=1"]),
        "strict": up.start("sample", changes=[f" {change}\n" for change in strict], languages=["en"], workers=2),
        "night": up.start("nightly", **NIGHT),
    }


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("changes", ["nosuch.field=1"], "'FIELD=VALUE, such as "),
        ("changes", ["text"], "'FIELD=VALUE, such as "),
        ("sources", ["no-path"], "'NAME=PATH, such as "),
        ("sources", ["mine=\ud800"], "'NAME=PATH, such as "),
        ("changes", ["text=\x00"], "'FIELD=VALUE, such as "),
        ("store", "\udfff", "'the path of a folder, on one line' was expected"),
        ("until", "nosuch", "is not one of"),
        ("on_alarm", "shout", "is not one of"),
        ("workers", -1, "less than the minimum"),
        ("languages", ["English"], "'a code of two or three letters, such as en' was expected"),
        ("recipes", "sample", "Additional properties"),
    ],
)
def test_a_bad_value_is_refused_in_the_form(up, begun, field, value, reason):
    with pytest.raises(urllib.error.HTTPError) as refused:
        up.start("sample", **{field: value})
    assert refused.value.code == 409
    said = refused.value.read().decode()
    assert field in said
    assert reason in said


def test_a_run_of_data_stages_is_refused_without_a_source(up, begun):
    for more in ({}, {"sources": []}):
        with pytest.raises(urllib.error.HTTPError) as refused:
            up.start("corpus", **more)
        assert refused.value.code == 409
        assert "source" in refused.value.read().decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://pages.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8888"},
        {"Host": "rebound.example"},
        {"Host": "rebound.example", "Origin": "http://rebound.example"},
    ],
)
def test_a_web_page_elsewhere_can_neither_read_nor_start_runs(up, headers):
    """A flow run may name a command for the worker, so this is the machine's door."""
    address = f"http://127.0.0.1:{up.port}/api/deployments/filter"
    asked = {**headers, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    assert httpx.options(address, headers=asked).status_code == 403
    assert httpx.post(address, headers=headers, json={}).status_code == 403
    assert httpx.post(address, headers=headers, content=b"{}").status_code == 403, "no type: browsers do not ask before"
    with (
        pytest.raises(InvalidStatus, match=r"HTTP 40[03]"),
        connect(f"ws://127.0.0.1:{up.port}/api/events/out", additional_headers=headers),
    ):
        pass
    for name in ("127.0.0.1", "localhost"):
        own = {"Origin": f"http://{name}:{up.port}"}
        assert httpx.post(address, headers=own, json={}).status_code == 200


def test_there_is_a_deployment_for_every_way_to_run(up):
    found = {deployment["name"]: deployment for deployment in up.ask("/api/deployments/filter", {})}
    assert sorted(found) == ["corpus", "nightly", "sample", "train"]
    assert found["train"]["work_pool_name"] == "gpu"
    (schedule,) = found["nightly"]["schedules"]
    assert schedule["schedule"]["cron"] == "0 2 * * *"


def test_a_schedule_that_somebody_has_set_stays_so_when_the_deployments_are_made_again(up, monkeypatch):
    def schedule():
        found = up.ask("/api/deployments/name/polylm/nightly")
        return found["id"], found["schedules"][0]

    deployment, before = schedule()
    address = f"http://127.0.0.1:{up.port}/api"
    switch = f"{address}/deployments/{deployment}/schedules/"
    assert not before["active"]
    set_by_hand = {"active": True, "schedule": {**before["schedule"], "cron": "24 13 * * *"}}
    assert httpx.patch(switch + before["id"], json=set_by_hand).status_code == 204
    monkeypatch.chdir(up.folder)
    monkeypatch.setenv("PREFECT_API_URL", address)
    monkeypatch.setenv("PREFECT_HOME", str(up.folder / "prefect"))
    _deploy(address, Settings(store=up.store))
    after = schedule()[1]
    assert after["active"], "a restart of `up` would end the nights, and nobody is told"
    assert after["schedule"]["cron"] == "24 13 * * *", "a restart of `up` would move the nights, and nobody is told"
    asked = {"active": False, "schedule": before["schedule"]}
    assert httpx.patch(switch + after["id"], json=asked).status_code == 204


def test_a_field_that_only_the_recipe_knows_fails_before_any_work_with_one_line(up, begun):
    state = up.end_of(begun["mistaken"])
    assert state["type"] == "FAILED"
    assert state["message"].startswith("--set text.nosuch=1: no field 'text.nosuch'; there are")


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


def test_an_alarm_that_is_approved_is_asked_about_once_and_the_next_one_that_is_not_ends_the_run(up, begun):
    run = begun["strict"]
    state = up.end_of(run)
    assert (state["type"], state["name"]) == ("PAUSED", "Suspended"), state
    for answer in ({"approve": True, "reason": ""}, {"approve": True, "reason": "..."}, {"approve": True}):
        said = up.ask(f"/api/flow_runs/{run}/resume", {"run_input": answer})
        assert said["status"] == "REJECT", "an approval needs a reason"
    up.ask(f"/api/flow_runs/{run}/resume", {"run_input": {"approve": True, "reason": "only English is wanted"}})
    assert wait_until(lambda: up.attempts(run) == ["approved", "awaiting approval"], 180, 0.3), up.worker_log()
    rules = [(alarm["rule"], bool(alarm["decision"])) for alarm in up.record(run)["alarms"]]
    assert rules == [("source_lost", True), ("source_lost", True), ("no_survivors", False)]
    assert wait_until(lambda: up.state(run)["type"] == "PAUSED", 30, 0.3), up.state(run)
    up.ask(f"/api/flow_runs/{run}/resume", {"run_input": {"approve": False, "reason": "the export was broken"}})
    assert (up.end_of(run)["type"], up.state(run)["message"]) == (
        "FAILED",
        "not approved: the export was broken (this run has ended; a new one asks again)",
    )
    assert up.attempts(run) == ["approved", "refused"]
    first, held, refused = [alarm["decision"] for alarm in up.record(run)["alarms"]]
    assert first == {"approved": True, "reason": "only English is wanted", "later_gates": True}
    assert held == {"approved": True, "reason": "only English is wanted", "of": up.record(run)["alarms"][0]["artifact"]}
    assert refused == {"approved": False, "reason": "the export was broken"}


def test_the_nightly_run_builds_what_is_new_in_the_folder_and_says_what_that_is(up, begun):
    first, state = begun["night"], up.end_of(begun["night"])
    assert state["type"] == "COMPLETED", up.worker_log()
    write_jsonl(up.folder / "inbox" / "2026-03.jsonl", few_records()[59:99])
    second, state = up.run("nightly", **NIGHT)
    assert state["type"] == "COMPLETED", up.worker_log()
    stages = {entry["stage"]: entry for entry in up.record(second)["stages"]}
    assert (stages["ingest"]["built"], stages["ingest"]["jobs"]) == (1, 3)
    for stage in ("clean", "identify_language", "measure_text", "sign"):
        assert (stages[stage]["built"], stages[stage]["jobs"]) == (2, 5), stage
    new = up.record(second)["new"]
    assert new["since"] == up.record(first)["id"]
    assert new["sources"] == {"inbox": {"parts": 2, "documents": 40}}
    assert new["parts_gone"] == 0
    before, after = (kept(up, run) for run in (first, second))
    assert new["kept_more"] == after - before
    query = {"logs": {"flow_run_id": {"any_": [second]}}, "limit": 200}
    assert wait_until(lambda: any("new since" in log["message"] for log in up.ask("/api/logs/filter", query)), 20, 0.5)


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
