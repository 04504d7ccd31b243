"""What died or was given up between two looks of `polylm up`: Prefect and the store learn it from each other."""

import os
import subprocess
import sys
import uuid

import httpx
import pytest

from polylm.flows.prefect_rest import ask, crash_what_died, stop_what_was_given_up
from polylm.tasks.maintenance.files import read_json, write_json
from polylm.tasks.maintenance.run_records import read_runs

pytestmark = [pytest.mark.prefect, pytest.mark.serial]


@pytest.fixture
def api(up):
    return f"http://127.0.0.1:{up.port}/api"


@pytest.fixture
def start(api):
    """Flow runs of a deployment that nobody works for, which takes one at a time as `nightly` does."""
    flow = ask(f"{api}/flows/", {"name": "died"})["id"]
    one_at_a_time = {"concurrency_limit": 1, "concurrency_options": {"collision_strategy": "CANCEL_NEW"}}
    form = {"name": f"died {uuid.uuid4()}", "flow_id": flow, **one_at_a_time}
    deployment = ask(f"{api}/deployments/", form)["id"]

    def started():
        run = ask(f"{api}/deployments/{deployment}/create_flow_run", {"state": {"type": "SCHEDULED"}})["id"]
        set_state(api, run, "PENDING")  # for which it takes the slot, or is cancelled
        if state_of(api, run) == "PENDING":
            set_state(api, run, "RUNNING")
        return run

    yield started
    assert httpx.delete(f"{api}/deployments/{deployment}").status_code == 204  # other tests count them


def set_state(api, run, state):
    return ask(f"{api}/flow_runs/{run}/set_state", {"state": {"type": state}})


def state_of(api, run):
    return ask(f"{api}/flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})[0]["state_type"]


@pytest.fixture
def record(tmp_path):
    """Writes the record of an attempt of a flow run; its path."""

    def written(flow_run, state, pid, stamp="20261128T020000000"):
        path = tmp_path / "store" / "runs" / f"{stamp}-corpus.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        told = {"id": path.stem, "name": "corpus", "state": state, "recipe": {}, "stages": [], "error": "it waits"}
        write_json(
            path, {**told, "host": os.uname().nodename, "pid": pid, "started_by": f"Prefect flow run {flow_run}"}
        )
        return path

    return written


def dead():
    """The pid of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_night_whose_process_died_with_its_server_does_not_stop_the_nights_after_it(api, start, record, tmp_path):
    died = start()
    assert state_of(api, died) == "RUNNING"
    assert state_of(api, start()) == "CANCELLED", "the first was to hold the deployment's only slot"
    record(died, "stopped", dead())
    assert len(crash_what_died(api, tmp_path / "store")) == 1
    assert state_of(api, died) == "CRASHED"
    assert state_of(api, start()) == "RUNNING"
    assert crash_what_died(api, tmp_path / "store") == []


def test_a_run_whose_process_lives_or_is_of_another_host_is_left_alone(api, start, record, tmp_path):
    run = start()
    path = record(run, "running", dead())
    write_json(path, {**read_json(path), "host": "elsewhere"})
    assert crash_what_died(api, tmp_path / "store") == []
    record(run, "stopped", dead(), "20200101T020000000")  # an attempt before
    record(run, "running", os.getpid(), "20991128T020000000")
    assert crash_what_died(api, tmp_path / "store") == []
    assert state_of(api, run) == "RUNNING"
    set_state(api, run, "COMPLETED")


def test_a_run_that_is_cancelled_while_it_waits_for_an_approval_waits_no_longer(api, start, record, tmp_path):
    run = start()
    path = record(run, "awaiting approval", dead())
    store = tmp_path / "store"
    assert stop_what_was_given_up(api, store) == []
    set_state(api, run, "CANCELLED")
    assert stop_what_was_given_up(api, store) == [path.stem]
    (told,) = read_runs(store)
    assert (told.state, told.error) == ("stopped", "Cancelled in Prefect while it waited for an approval")
    assert read_json(path)["stages"] == []
    assert stop_what_was_given_up(api, store) == []
