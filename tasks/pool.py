"""Fan jobs out over processes that never outlive their parent.

One spawn pool a run. At most 2 x workers jobs are in flight. An OSError is retried per job. A broken pool is rebuilt
and the jobs that were in flight run one by one, so that the job that kills its worker is named; the others go on.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

import pyarrow as pa

from polylm.tasks import build
from polylm.tasks.build import Done, Failure, Job

RETRY_DELAYS = (0.2, 1.0, 3.0)  # seconds before each new try after an OSError
Result = tuple[Job, Done | Failure]
Notice = Callable[[str], None]


class Pool:
    """Runs jobs and yields each with its outcome, in the order of completion."""

    def __init__(self, workers: int, notice: Notice = lambda _: None) -> None:
        self.workers, self.notice = workers, notice
        self._executor: Executor | None = None

    def run(self, jobs: Iterable[Job], work: Callable[[Job], Any] = build.build) -> Iterator[Result]:
        """Run every job, whatever happens to the others; `inline` where there are no workers."""
        if self.workers == 0:
            yield from ((job, _with_retries(work, job)) for job in jobs)
            return
        queue = iter(jobs)
        while suspects := (yield from self._run_until_broken(queue, work)):
            yield from self._one_by_one(suspects, work)

    def close(self, *, kill: bool = False) -> None:
        """End the workers: at once with `kill`, else when their jobs are done."""
        if self._executor is None:
            return
        if kill:
            _kill(self._executor)
        self._executor.shutdown(wait=not kill, cancel_futures=True)
        self._executor = None

    def _run_until_broken(self, queue: Iterator[Job], work: Callable[[Job], Any]) -> Any:
        """Yield results; return the jobs in flight when a worker died, or nothing when all are done."""
        flying: dict[Job, Future[Any]] = {}
        executor = self._executor = self._executor or _executor(self.workers)

        def launch(count: int) -> None:
            for job in islice(queue, count):
                flying[job] = Future()  # known before it is sent: sending fails where a worker has died
                flying[job] = executor.submit(_with_retries, work, job)

        try:
            launch(2 * self.workers)
            while flying:
                wait(flying.values(), return_when=FIRST_COMPLETED)
                for job in [job for job, future in flying.items() if future.done()]:
                    outcome = flying[job].result()
                    del flying[job]
                    yield job, outcome
                    launch(1)
        except BrokenProcessPool:
            self.close(kill=True)
            return list(flying)
        except BaseException:
            self.close(kill=True)
            raise
        return []

    def _one_by_one(self, suspects: list[Job], work: Callable[[Job], Any]) -> Iterator[Result]:
        self.notice(f"a worker died; trying its jobs one by one: {', '.join(job.title for job in suspects)}")
        for job in suspects:
            executor = _executor(1)
            try:
                outcome = executor.submit(_with_retries, work, job).result()
            except BrokenProcessPool:
                text = "killed its worker process (out of memory, or a crash in native code)"
                outcome = Failure(job.title, text, "BrokenProcessPool", lasting=True)
                self.notice(f"{job.title} {text}")
            finally:
                _kill(executor)
                executor.shutdown(wait=False, cancel_futures=True)
            yield job, outcome


def _with_retries(work: Callable[[Job], Any], job: Job) -> Any:
    # Jobs over the whole corpus are not repeated here: hours may be in them, and what runs the flow knows better.
    delays = RETRY_DELAYS if job.stage.each in ("part", "file") else ()
    for delay in (*delays, None):
        outcome = work(job)
        if delay is None or not (isinstance(outcome, Failure) and outcome.lasting):
            break
        time.sleep(delay)
    pa.default_memory_pool().release_unused()  # so that a worker's size is that of its largest job
    return outcome


def _executor(workers: int) -> ProcessPoolExecutor:
    # Spawned, not forked: this may run in a thread of a Prefect worker.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_tie_to_parent)


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


def _kill(executor: Executor) -> None:
    """SIGKILL the workers with whatever they started in their groups."""
    for process in list((getattr(executor, "_processes", None) or {}).values()):
        for kill in (os.killpg, os.kill):
            try:
                kill(process.pid, signal.SIGKILL)
                break
            except ProcessLookupError:
                continue
