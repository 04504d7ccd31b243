"""A running `polylm up`, and what tests ask of its API, its store and its processes."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from samples import command, environment, is_alive, third_records, wait_until

from polylm.tasks.maintenance.files import read_json

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED", "PAUSED")
LANGUAGES = ["de", "en", "fr"]


def few_records():
    """Documents of the third in three languages: of every stage some work, and of the trainings of models not eighteen."""
    return [record for record in third_records() if record["lang_declared"] in LANGUAGES]


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
        """A flow run of a deployment in those languages, as "Run" on its page starts it; what the form does not say is the
        deployment's own."""
        found = self.ask(f"/api/deployments/name/polylm/{deployment}")
        form = {**found["parameters"]["request"], "languages": LANGUAGES, **request}
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
        return self.records(run)[-1]

    def records(self, run):
        """The records of a flow run's attempts, the first one first."""
        records = [read_json(path) for path in sorted(self.store.glob("runs/*.json"))]
        return [found for found in records if found.get("started_by", "").endswith(run)]

    def attempts(self, run):
        """The states of those records."""
        return [found["state"] for found in self.records(run)]

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


@contextmanager
def upped(folder):
    """`polylm up` in a folder with an empty inbox; at the end Ctrl-C must leave nothing."""
    (folder / "inbox").mkdir()
    port = free_ports()
    words = command("up", "--port", port, "--store", folder / "store")
    sooner = {
        "PREFECT_WORKER_QUERY_SECONDS": 1,
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": 2,
    }  # not after a minute
    variables = environment(PREFECT_HOME=folder / "prefect", **sooner)
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
