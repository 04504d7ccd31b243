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

import psutil
import pyarrow as pa

# What a worker may keep between two stages. 260 MB are its libraries; a segmenter's dictionary takes 30 to 50 more, is
# never given back, and would lie under the peak of every later stage in the workers that met its language. A new worker
# costs a second.
KEPT_BYTES = 320 << 20


class Processes:
    """Worker processes of this machine. One that dies takes all of them along (BrokenProcessPool)."""

    lost: tuple[type[Exception], ...] = ()

    def __init__(self, workers: int) -> None:
        self._workers, self._pool = workers, spawn(workers)

    def slots(self) -> int:
        return self._workers

    def submit(self, title: str, store: Path, function: Callable[..., Any], *args: Any) -> Future[Any]:
        return self._pool.submit(function, *args)

    def recycle(self) -> None:
        """Between stages: new workers, where one of them has kept over KEPT_BYTES of what its jobs loaded."""
        if any(_resident_bytes(pid) > KEPT_BYTES for pid in self._pool._processes or ()):
            self.close(kill=False)
            self._pool = spawn(self._workers)

    def close(self, *, kill: bool) -> None:
        if kill:
            kill_workers(self._pool)
        self._pool.shutdown(wait=not kill, cancel_futures=True)


def _resident_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:  # died between two stages: its pool tells of it
        return 0


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
