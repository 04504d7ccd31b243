"""Asks a Prefect server's API what it knows of runs, and a store what it has."""

import json
import urllib.request
from pathlib import Path

from samples import wait_until


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
    """(from, to) of the run graph of one flow run, by name; a sub-flow's label is "flow / run"."""
    nodes = {key: node for key, node in ask(url, f"/flow_runs/{flow_run}/graph-v2")["nodes"]}
    names = {key: node["label"].rpartition(" / ")[2] for key, node in nodes.items()}
    return {(names[parent["id"]], names[key]) for key, node in nodes.items() for parent in node["parents"]}


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
