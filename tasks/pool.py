"""Fan jobs out over workers: processes of this machine that never outlive it, or those of a Dask cluster.

At most two jobs for each that runs at once are in flight. An OSError is retried per job. A broken pool of processes is
rebuilt and the jobs that were in flight run one by one, so that the job that kills its worker is named; Dask names it
itself. The others go on.
"""

import ctypes
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from polylm.deployments.processes import Processes
from polylm.deployments.settings import Settings
from polylm.tasks import build
from polylm.tasks.build import Done, Failure, Job

WAIT_SECONDS = 1.0  # between two words to who watches a long job
RETRY_DELAYS = (0.2, 1.0, 3.0)  # seconds before each new try after an OSError
Result = tuple[Job, Done | Failure]
Notice = Callable[[str], None]
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what NumPy freed; other systems have no such call


class Engine(Protocol):
    """Where jobs run."""

    lost: tuple[type[Exception], ...]  # what a job raises that killed its workers

    def slots(self) -> int: ...
    def recycle(self) -> None: ...  # no job is in flight: replace workers that have grown
    def submit(self, title: str, store: Path, function: Callable[..., Any], *args: Any) -> Future[Any]: ...
    def close(self, *, kill: bool) -> None: ...


def engine(workers: int, notice: Notice) -> Engine:
    """The engine that the settings name."""
    settings = Settings()
    if settings.engine == "processes":
        return Processes(workers)
    try:
        from polylm.deployments.dask_engine import DaskEngine  # an extra, and 2 s
    except ImportError as error:
        raise ValueError(f"POLYLM_ENGINE=dask: {error}; pip install 'polylm[dask]'") from error
    return DaskEngine(settings.scheduler, notice)


class Pool:
    """Runs jobs and yields each with its outcome, in the order of completion."""

    def __init__(
        self, workers: int, notice: Notice = lambda _: None, start: Callable[[int, Notice], Engine] = engine
    ) -> None:
        self.workers, self.notice, self._start = workers, notice, start
        self._engine: Engine | None = None

    def run(
        self,
        jobs: Iterable[Job],
        work: Callable[[Job], Any] = build.build,
        waiting: Callable[[Sequence[Job]], None] = lambda _: None,
    ) -> Iterator[Result]:
        """Run every job, whatever happens to the others; inline where there are no workers, else `waiting` is told the jobs
        in flight in every second in which none ended."""
        if self.workers == 0:
            yield from ((job, _with_retries(work, job)) for job in jobs)
            return
        queue = iter(jobs)
        while suspects := (yield from self._run_until_broken(queue, work, waiting)):
            yield from self._one_by_one(suspects, work)

    def close(self, *, kill: bool = False) -> None:
        """End the workers: at once with `kill`, else when their jobs are done."""
        if self._engine is not None:
            self._engine.close(kill=kill)
        self._engine = None

    def _run_until_broken(
        self, queue: Iterator[Job], work: Callable[[Job], Any], waiting: Callable[[Sequence[Job]], None]
    ) -> Any:
        """Yield results; return the jobs in flight when a worker died, or nothing when all are done."""
        flying: dict[Job, Future[Any]] = {}
        if self._engine is not None:
            self._engine.recycle()
        self._engine = engine = self._engine or self._start(self.workers, self.notice)

        def launch() -> None:
            for job in islice(queue, max(0, 2 * max(1, engine.slots()) - len(flying))):
                flying[job] = Future()  # known before it is sent: sending fails where a worker has died
                flying[job] = engine.submit(job.title, job.store, _with_retries, work, job)

        try:
            launch()
            while flying:
                if not wait(flying.values(), WAIT_SECONDS, FIRST_COMPLETED).done:
                    waiting(list(flying))
                for job in [job for job, future in flying.items() if future.done()]:
                    outcome = self._outcome(job, flying[job], engine.lost)
                    del flying[job]
                    yield job, outcome
                    launch()
        except BrokenProcessPool:
            self.close(kill=True)
            return list(flying)
        except CancelledError as error:
            self.close(kill=True)
            raise ConnectionError("the Dask scheduler is gone: it took the jobs back") from error
        except BaseException:
            self.close(kill=True)
            raise
        return []

    def _one_by_one(self, suspects: list[Job], work: Callable[[Job], Any]) -> Iterator[Result]:
        self.notice(f"a worker died; trying its jobs one by one: {', '.join(job.title for job in suspects)}")
        for job in suspects:
            alone = Processes(1)
            try:
                outcome = self._outcome(
                    job, alone.submit(job.title, job.store, _with_retries, work, job), (BrokenProcessPool,)
                )
            finally:
                alone.close(kill=True)
            yield job, outcome

    def _outcome(self, job: Job, future: Future[Any], lost: tuple[type[Exception], ...]) -> Done | Failure:
        """How a job ended; a failure of its own where it killed its workers."""
        try:
            ended: Done | Failure = future.result()
        except lost as error:
            text = "killed its worker process (out of memory, or a crash in native code)"
            self.notice(f"{job.title} {text}")
            return Failure(job.title, text, type(error).__name__, lasting=True)
        return ended


def _with_retries(work: Callable[[Job], Any], job: Job) -> Any:
    # Jobs over the whole corpus are not repeated here: hours may be in them, and what runs the flow knows better.
    delays = RETRY_DELAYS if job.stage.each in ("part", "file") else ()
    for delay in (*delays, None):
        outcome = work(job)
        if delay is None or not (isinstance(outcome, Failure) and outcome.lasting):
            break
        time.sleep(delay)
    if job.stage.kind != "gate":  # small parts, alike: a third of their time went into having memory back
        _release()
    return outcome


def _release() -> None:
    """Give freed memory back, so that a worker's size is that of its largest job and not of all its jobs."""
    pa.default_memory_pool().release_unused()
    if _trim is not None:
        _trim(0)
