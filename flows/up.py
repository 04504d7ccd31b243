"""`polylm up`: a Prefect server, its deployments and workers, and the dashboard, on 127.0.0.1 until Ctrl-C."""

import contextlib
import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from polylm.deployments.settings import Settings
from polylm.flows import lifeline
from polylm.flows.database import reachable
from polylm.flows.prefect_rest import crash_what_died, put_back, schedules, stop_what_was_given_up
from polylm.flows.prefect_server import cause_in, how_it_ended, prefect_home, prefect_server, wait_until_healthy
from polylm.tasks.maintenance.lock import alone
from polylm.tasks.maintenance.signals import ignored
from polylm.tasks.store import Store, StoreError

PROJECT = Path(__file__).resolve().parents[1]
POOLS = {"cpu": [], "gpu": ["--limit", "1"]}  # one training at a time on a host
DEPLOY_SECONDS = 180
LOOK_SECONDS = 60.0  # between two looks for runs that were cancelled while they waited for an approval
END_SECONDS = 10.0  # for a run to end its workers and write its record
REPORT_SECONDS = 2.0  # for its worker to tell the server
ROOM = (
    20_000_000  # bytes: Prefect's empty database and its journal take 3 MB, the logs and notes of a few runs the rest
)
LAST_PORT = 65_535
AGAIN = "mend that, then `polylm up` again"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Addresses:
    prefect: str
    dashboard: str


def up(settings: Settings, port: int, postgres: str, say: Say, step: Say) -> None:
    """Start everything, say where it is, and stay until one part ends or this process is told to; `step` is told what starts.

    The Prefect server listens on `port`, the dashboard on the next one. Raises ValueError, before anything starts, where a port,
    the disk or the database cannot be used, and where a part does not start or ends; each part's output is in the store's
    `work/` folder.
    """
    with running(settings, port, postgres, say, step) as parts:
        looked = 0.0
        while all(process.poll() is None for process in parts.values()):
            if time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                with contextlib.suppress(OSError):  # the server is busy, or ends: seen above
                    stop_what_was_given_up(f"http://127.0.0.1:{port}/api", settings.store)
            time.sleep(0.5)
        ended = next(name for name, process in parts.items() if process.poll() is not None)
        _check_room(settings)
        log, code = _log(settings, ended), parts[ended].returncode
        cause = cause_in(log) if code > 0 else ""  # of a worker that was killed the last error is some run's
        raise ValueError(f"the {ended} ended ({how_it_ended(code)}){cause}; its log is {log}. {AGAIN}")


@contextlib.contextmanager
def running(
    settings: Settings, port: int, postgres: str, say: Say, step: Say
) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    """All parts by name, started in order; whatever happens, none is left."""
    at = Addresses(f"http://127.0.0.1:{free_port(port)}", f"http://127.0.0.1:{free_port(port + 1)}")
    Store(settings.store).open()
    _check_room(settings)
    database = reachable(postgres)
    with contextlib.nullcontext() if database else _only_up(), _parts(settings, port, at, database, say, step) as parts:
        yield parts


def _check_room(settings: Settings) -> None:
    """Raise ValueError where a disk is as good as full: each part would end in its own way, with no word about that."""
    prefect_home().mkdir(parents=True, exist_ok=True)
    ways_out = {settings.store.absolute(): "--store", prefect_home(): "PREFECT_HOME"}
    for folder, way_out in ways_out.items():
        if (free := shutil.disk_usage(folder).free) < ROOM:
            raise ValueError(
                f"the disk of {folder} is full: {free / 1e6:.1f} MB are left, `polylm up` needs {ROOM / 1e6:.0f} MB for "
                f"logs and Prefect's database; make room there, or choose another disk with {way_out}"
            )


def _only_up() -> contextlib.AbstractContextManager[None]:
    """One `up` a database: the workers of a second one would take the runs of the first, into another store."""
    home = prefect_home()
    way_out = "end it, set PREFECT_HOME to a folder of its own for this one, or give --postgres"
    return alone(home / "polylm-up.lock", f"another `polylm up` uses Prefect's database in {home}: {way_out}")


@contextlib.contextmanager
def _parts(
    settings: Settings, port: int, at: Addresses, database: str, say: Say, step: Say
) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    # A server on SQLite may be busy for longer than a minute, and a state that is not taken fails a run that went well.
    os.environ.setdefault("PREFECT_API_REQUEST_TIMEOUT", "300")
    os.environ |= {"POLYLM_STORE": str(settings.store.absolute()), "POLYLM_DASHBOARD": at.dashboard}
    parts: dict[str, subprocess.Popen[bytes]] = {}
    log = _log(settings, "prefect-server")
    step("starting the Prefect server; all of it takes half a minute, more on a busy machine")
    with prefect_server(log, port=port, database=database, way_out=AGAIN) as (url, server):
        parts["prefect-server"] = server
        if not database:  # one that others use too has their runs
            _crash_what_died(url, settings, step)
        try:
            step("starting the dashboard and a worker for each pool")
            words = ["polylm.dashboard", "--port", str(port + 1), "--prefect-url", at.prefect]
            parts["dashboard"] = lifeline.start(words, _log(settings, "dashboard"))
            for pool, limit in POOLS.items():
                words = ["prefect", "worker", "start", "--pool", pool, "--type", "process", *limit]
                parts[f"worker-{pool}"] = lifeline.start(words, _log(settings, f"worker-{pool}"))
            wait_until_healthy(f"{at.dashboard}/health", parts["dashboard"], _log(settings, "dashboard"), "dashboard")
            step("making the deployments known to Prefect")
            _deploy(url, settings)
            say(
                f"Prefect    {at.prefect}/deployments\ndashboard  {at.dashboard}\nCtrl-C ends both, their workers and runs"
            )
            yield parts
        finally:
            with ignored():
                step("ending runs and workers, which takes up to half a minute")
                _end_runs([process for name, process in parts.items() if name.startswith("worker-")])
                lifeline.stop([process for name, process in parts.items() if name != "prefect-server"])


def _crash_what_died(url: str, settings: Settings, step: Say) -> None:
    try:
        for name in crash_what_died(url, settings.store):
            step(f"{name} was running when this ended the last time: it is Crashed in Prefect now, and Retry goes on")
    except OSError as error:
        step(f"Prefect could not be told which runs have died: {error}")


def _end_runs(workers: "Sequence[subprocess.Popen[bytes]]") -> None:
    """Ask flow runs to end while their workers and the server are there, so that Prefect knows that they have."""
    flows = [child for worker in workers if worker.poll() is None for child in psutil.Process(worker.pid).children()]
    for process in flows:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(flows, END_SECONDS)
    if flows:
        time.sleep(REPORT_SECONDS)


def _deploy(url: str, settings: Settings) -> None:
    """Make the deployments known once the workers have made their pools; run from here, so that ./store is here."""
    file = Path("prefect.yaml") if Path("prefect.yaml").exists() else PROJECT / "prefect.yaml"
    for pool in POOLS:
        wait_until_healthy(
            f"{url}/work_pools/{pool}", None, _log(settings, f"worker-{pool}"), f"worker of the pool {pool}"
        )
    before = schedules(url)
    words = [sys.executable, "-P", "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    done = subprocess.run(
        words, env={**os.environ, "PWD": str(Path.cwd())}, capture_output=True, text=True, timeout=DEPLOY_SECONDS
    )
    if done.returncode:
        raise ValueError(f"{file} cannot be deployed:\n{done.stdout[-2_000:]}{done.stderr[-2_000:]}")
    put_back(url, before)


def _log(settings: Settings, part: str) -> Path:
    return settings.store.absolute() / "work" / f"{part}.log"


def free_port(port: int) -> int:
    """The port, if a server of this machine can have it; StoreError says why not."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            if not 1 <= port <= LAST_PORT:  # 0 would be another one for each server
                raise OSError(errno.EINVAL, f"expected 1 to {LAST_PORT}")
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StoreError(f"port {port} cannot be used ({error.strerror}): choose others with --port") from error
    return port
