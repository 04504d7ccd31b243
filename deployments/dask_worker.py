"""What a Dask worker does with a job: it gives it to a process of its own, prepared as those of one machine are.

So a thread of the worker is a process here: jobs share no interpreter, no state of a library and no peak of memory; a
crash in native code costs one job and not the worker; and a job that nobody waits for any more can be killed, which a
thread cannot. A process that has had a job is kept for the next one.
"""

import multiprocessing
import os
import pickle
import socket
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from polylm.deployments import processes

POLL_SECONDS = 0.2  # between looks whether somebody still waits for the job
IDLE_SECONDS = 60.0  # then a process without a job ends, and with it what it has loaded


class NotShared(ValueError):
    """A worker does not see the store; the message names its host and the folder."""


class WorkerDied(RuntimeError):
    """A job killed two processes, one after the other."""


class Abandoned(RuntimeError):
    """Nobody waits for the job any more."""


@dataclass(frozen=True)
class Order:
    """A call on its way to a worker. Pickled within, so that neither scheduler nor worker imports what it needs."""

    title: str
    call: bytes
    token: Path  # a file that the command wrote into the store: who does not see it has another folder there
    folder: Path  # where the command was started: relative paths of inputs are below
    environment: Mapping[str, str]  # POLYLM_*: placement and the like are those of the command


def order(title: str, function: Any, args: tuple[Any, ...], token: Path) -> Order:
    environment = {name: value for name, value in os.environ.items() if name.startswith("POLYLM_")}
    return Order(title, pickle.dumps((function, args)), token, Path.cwd(), environment)


def carry_out(what: Order) -> Any:
    """Run in a thread of a Dask worker: do the job in a process, and once more in a new one where that died."""
    for fresh in (False, True):
        try:
            return _wait_for(what, _process(fresh=fresh))
        except BrokenProcessPool:
            continue
    raise WorkerDied(f"{what.title} killed two processes on {socket.gethostname()}")


def end_idle() -> None:
    """End the processes of this worker that have no job."""
    while _idle:
        _end_if_idle(_idle[-1])


_idle: list[ProcessPoolExecutor] = []
_lock = threading.Lock()


def _wait_for(what: Order, process: ProcessPoolExecutor) -> Any:
    try:
        future = process.submit(_do, what)
        while not wait([future], timeout=POLL_SECONDS).done:
            if _is_cancelled():
                raise Abandoned(what.title)
        result = future.result()
    except BaseException:
        processes.kill_workers(process)
        raise
    with _lock:
        _idle.append(process)
    timer = threading.Timer(IDLE_SECONDS, _end_if_idle, [process])
    timer.daemon = True
    timer.start()
    return result


def _process(*, fresh: bool) -> ProcessPoolExecutor:
    with _lock:
        if _idle and not fresh:
            return _idle.pop()
    # Dask's workers are daemons, which may have no children; ours end with them.
    multiprocessing.current_process().daemon = False
    # Children would import the worker's main module, which is all of Dask: seconds and 60 MB, for nothing.
    sys.modules["__main__"].__spec__ = ModuleSpec("__main__", None)
    return processes.spawn(1)


def _end_if_idle(process: ProcessPoolExecutor) -> None:
    with _lock:
        if process not in _idle:
            return
        _idle.remove(process)
    processes.kill_workers(process)


def _is_cancelled() -> bool:
    """Whether the scheduler wants the job of this thread no more: it was cancelled, or its client is gone."""
    from distributed import get_worker  # a process that does a job has no need of it

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state == "cancelled"


def _do(what: Order) -> Any:
    """In the process: be where the command is, and see that its store is there."""
    if not what.token.exists():
        store = what.token.parent.parent
        raise NotShared(
            f"a worker on {socket.gethostname()} does not see the store {store}: it must be the same folder on all "
            "machines; mount it there, or give --store a place that all see"
        )
    if what.folder.is_dir():
        os.chdir(what.folder)
    os.environ.update(what.environment)
    function, args = pickle.loads(what.call)
    return function(*args)
