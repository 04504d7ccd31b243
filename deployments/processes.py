"""Worker processes that never outlive their parent."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa


class Processes:
    """Worker processes of this machine. One that dies takes all of them along (BrokenProcessPool)."""

    lost: tuple[type[Exception], ...] = ()

    def __init__(self, workers: int) -> None:
        self._workers, self._pool = workers, spawn(workers)

    def slots(self) -> int:
        return self._workers

    def submit(self, title: str, store: Path, function: Callable[..., Any], *args: Any) -> Future[Any]:
        return self._pool.submit(function, *args)

    def close(self, *, kill: bool) -> None:
        if kill:
            kill_workers(self._pool)
        self._pool.shutdown(wait=not kill, cancel_futures=True)


def spawn(workers: int) -> ProcessPoolExecutor:
    """A pool of worker processes, each with one thread and a process group of its own, that end with this process."""
    # Spawned, not forked: this may run in a thread of a Prefect worker.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_tie_to_parent)


def kill_workers(pool: ProcessPoolExecutor) -> None:
    """SIGKILL the workers with whatever they started in their groups."""
    manager: Any = pool._executor_manager_thread  # a thread, which its stubs do not know
    for pid in list(pool._processes or ()):
        for send in (os.killpg, os.kill):
            try:
                send(pid, signal.SIGKILL)
                break
            except ProcessLookupError:
                continue
    pool.shutdown(wait=False, cancel_futures=True)
    if manager is not None:
        manager.join(5)  # else it may close the pipe by which Python wakes it at its own end, which prints a trace


def _tie_to_parent() -> None:
    """In a worker: lead a process group, and kill it as soon as the parent is gone, whatever ended it."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)  # standard output is the command's, for data; libraries write there what they like
    # One thread each: the workers are the parallelism.
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    pa.set_cpu_count(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
