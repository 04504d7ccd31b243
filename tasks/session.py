"""A run or a plan of a flow on one store: what it was given, what it has made so far, and who is told of it.

`session(...)` stands around a flow. It opens the store, holds the pool of workers, writes the run's record when it
starts and keeps it up to date; `tasks.run.run`, called by the flow, finds it by `current()`.
"""

import functools
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, ParamSpec, Protocol, TypeVar

from polylm.deployments.settings import Settings
from polylm.tasks.build import Done, Failure, Job
from polylm.tasks.maintenance.files import write_json
from polylm.tasks.maintenance.lock import used
from polylm.tasks.maintenance.signals import insisting, told_to_end
from polylm.tasks.pool import Pool
from polylm.tasks.stage import Progress, Stage
from polylm.tasks.store import Artifact, Store

P = ParamSpec("P")
T = TypeVar("T")


class Orchestrator(Protocol):
    """What may stand around flows and stages: Prefect (`flows.prefect_runs`)."""

    def task(self, stage: Stage, work: Callable[[], Artifact], reads: Sequence[Artifact]) -> Artifact: ...
    def subflow(self, function: Callable[..., T], work: Callable[[], T], args: tuple[Any, ...]) -> T: ...


@dataclass
class StageReport:
    """How one stage of a run or a plan went; `exact` False: what it reads is not built, so this is "at most"."""

    stage: str
    jobs: int
    reused: int
    built: list[str] = field(default_factory=list)  # labels of jobs built, or to be built
    exact: bool = True
    seconds: float = 0.0
    rows: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    artifact: str = ""
    reads: tuple[str, ...] = ()


class Observer:
    """Is told what happens; the command line prints it. This one is silent."""

    def jobs_named(self, stage: Stage, jobs: Sequence[Job]) -> None: ...
    def stage_begins(self, stage: str, jobs: int) -> None: ...
    def at_work(self, stage: str, told: Mapping[str, Progress]) -> None: ...  # of jobs; every second in which none ends
    def job_ended(self, stage: str, outcome: Done | Failure) -> None: ...
    def stage_ended(self, report: StageReport) -> None: ...
    def notice(self, text: str) -> None: ...
    def alarm(self, text: str) -> None:
        self.notice(f"alarm: {text}")


@dataclass
class Session:
    """One run or plan of a flow on one store."""

    store: Store
    settings: Settings
    mode: Literal["run", "plan"]
    pool: Pool
    observer: Observer
    record: dict[str, Any]
    until: str | None = None
    reached: bool = False
    orchestrator: Orchestrator | None = None
    reports: list[StageReport] = field(default_factory=list)
    artifacts: dict[str, Artifact] = field(default_factory=dict)  # the last one of each stage
    gates: list[list[Job]] = field(default_factory=list)  # the jobs of every gate, in the order of the flow

    @property
    def building(self) -> bool:
        return self.mode == "run" and not self.reached

    def save(self) -> None:
        if self.mode == "run":
            write_json(self.store.root / "runs" / f"{self.record['id']}.json", self.record)


_sessions: list[Session] = []


def current() -> Session:
    assert _sessions, "a flow runs inside `session(...)`"
    return _sessions[-1]


@contextmanager
def session(
    settings: Settings,
    *,
    mode: Literal["run", "plan"] = "run",
    name: str = "run",
    recipe: Mapping[str, Any] | None = None,
    until: str | None = None,
    observer: Observer | None = None,
    orchestrator: Orchestrator | None = None,
) -> Iterator[Session]:
    """Everything between the start and the end of a run: store, pool, and the run's record."""
    observer = observer or Observer()
    store = Store(settings.store).open() if mode == "run" else Store(settings.store).open_to_read()
    started = time.time()
    stamp = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(started))}{int(started * 1000) % 1000:03d}"
    record: dict[str, Any] = {"id": f"{stamp}-{name}", "name": name, "state": "running", "recipe": recipe, "stages": []}
    record |= {"host": socket.gethostname(), "pid": os.getpid()}
    it = Session(
        store,
        settings,
        mode,
        Pool(settings.workers, observer.notice),
        observer,
        record,
        until,
        orchestrator=orchestrator,
    )
    it.save()
    _sessions.append(it)
    try:
        with used(store.root, observer.notice), insisting():
            yield it
        record["state"] = "completed"
    except BaseException as error:
        ended = told_to_end() or not isinstance(error, Exception)
        record["state"] = "stopped" if ended else getattr(error, "run_state", "failed")
        record["error"] = str(error)
        it.pool.close(kill=True)
        raise
    finally:
        it.pool.close()
        _sessions.remove(it)
        record["seconds"] = round(time.time() - started, 2)
        _save_last(it)


def _save_last(here: Session) -> None:
    """Save the record of a run that has ended; a full disk must not hide why it ended."""
    try:
        here.save()
    except OSError as error:
        here.observer.notice(f"the run's record could not be written: {error}")


def flow(function: Callable[P, T]) -> Callable[P, T]:
    """Mark a function as a flow: a plain call, or a sub-flow where an orchestrator stands around the session."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        around = current().orchestrator
        if around is None:
            return function(*args, **kwargs)
        return around.subflow(function, lambda: function(*args, **kwargs), args)

    return call
