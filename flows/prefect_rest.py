"""What `polylm up` asks of Prefect's server, without Prefect's client: that takes seconds to import.

Prefect and a store each know what the other may have missed. A flow process that is killed together with its server stays
`Running` there, and holds the one slot of its deployment for ever; a run that is cancelled while it waits for an approval
has no process that could write that into its record.
"""

import json
import socket
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polylm.tasks.maintenance.files import read_json, write_json
from polylm.tasks.maintenance.processes import is_alive
from polylm.tasks.maintenance.run_records import Run, read_run, run_paths

GOING = ("PENDING", "RUNNING", "CANCELLING")
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_WAITS = "awaiting approval"
_ANSWER_SECONDS = 60.0


def ask(address: str, body: Any, method: str = "POST") -> Any:
    """What the server answers, None for nothing; OSError where it does not, or refuses."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
        told = answer.read()
    return json.loads(told) if told else None


def schedules(api: str) -> dict[str, dict[str, Any]]:
    """The schedules of each deployment by their ids: when they run, and whether they are switched on."""
    return {
        deployment["id"]: {
            one["id"]: {name: one[name] for name in ("active", "schedule")} for one in deployment["schedules"]
        }
        for deployment in ask(f"{api}/deployments/filter", {})
    }


def put_back(api: str, before: dict[str, dict[str, Any]]) -> None:
    """Leave schedules as people have set them: what a file says is how a new deployment begins."""
    after = schedules(api)
    for deployment, own in before.items():
        address, there = f"{api}/deployments/{deployment}/schedules", after.get(deployment, {})
        for schedule, was in own.items():
            if schedule in there and there[schedule] != was:
                ask(f"{address}/{schedule}", was, "PATCH")
        if gone := [was for schedule, was in own.items() if schedule not in there]:
            ask(address, gone)


def crash_what_died(api: str, store: Path) -> list[str]:
    """Tell Prefect of the flow runs that it takes for running and whose process is gone from this host; their names."""
    going = {run["id"]: run for run in _flow_runs(api, state={"type": {"any_": GOING}})}
    known = _attempts(store, [*going])
    died = [going[id_] for id_ in going.keys() & known.keys() if _is_gone(known[id_][1])]
    inner = _flow_runs(api, parent_flow_run_id={"any_": [run["id"] for run in died]}) if died else []
    for run in [*(one for one in inner if one["state_type"] in GOING), *died]:
        state = {"type": "CRASHED", "name": "Crashed", "message": "its process is gone; Retry goes on"}
        ask(f"{api}/flow_runs/{run['id']}/set_state", {"state": state})
    return [run["name"] for run in died]


def stop_what_was_given_up(api: str, store: Path) -> list[str]:
    """Write into the records of runs that wait for an approval that Prefect has ended them; their ids."""
    waiting = {id_: path for id_, (path, run) in _attempts(store, [_WAITS]).items() if run.state == _WAITS}
    found = _flow_runs(api, id={"any_": list(waiting)}, state={"type": {"any_": ENDED}}) if waiting else []
    for run in found:
        path = waiting[run["id"]]
        error = f"{run['state_name']} in Prefect while it waited for an approval"
        write_json(path, {**read_json(path), "state": "stopped", "error": error})
    return [waiting[run["id"]].stem for run in found]


def _flow_runs(api: str, **where: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(f"{api}/flow_runs/filter", {"flow_runs": where})
    return found


def _is_gone(run: Run) -> bool:
    return run.host == socket.gethostname() and not is_alive(run.pid, run.started.timestamp())


def _attempts(store: Path, words: Sequence[str]) -> dict[str, tuple[Path, Run]]:
    """The last attempt of each flow run in whose record one of these words stands; to parse all of thousands takes seconds."""
    sought = [word.encode() for word in words]
    paths = [path for path in run_paths(store) if path.is_file() and _holds(path.read_bytes(), sought)]
    return {run.flow_run: (path, run) for path in paths if (run := read_run(path)).flow_run}


def _holds(text: bytes, sought: Sequence[bytes]) -> bool:
    return any(word in text for word in sought)
