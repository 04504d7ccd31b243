"""Prefect around a session: sub-flows and tasks named after flows and stages, with the manifests' edges.

Import this only where a Prefect run is wanted: it costs seconds, and workers never do. The store is the cache, so
Prefect caches and persists nothing. What follows was tried against a real server:

- Edges come from `wait_for` with leaf boxes; results tracked by `id()` give false edges where objects are shared.
- A retry condition must be a plain function; a partial or a bound method silently never retries.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from prefect import flow, task
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Completed

from polylm.tasks.build import Done, Failure
from polylm.tasks.run import Artifact, Observer, StageFailed, StageReport, current
from polylm.tasks.stage import Stage

T = TypeVar("T")
RETRY_DELAYS = [10, 60, 300]  # seconds
PROGRESS_SECONDS = 10.0  # at most one update of a stage's progress in this time


class Box:
    """Carries an artifact through Prefect, which must not look inside: no dataclass, model or collection."""

    def __init__(self, value: Any) -> None:
        self.value = value


class PrefectOrchestrator:
    """Wraps each stage in a task and each flow function in a sub-flow (`tasks.run.Orchestrator`)."""

    def __init__(self, retry_delays: Sequence[float] = RETRY_DELAYS) -> None:
        self.retry_delays = list(retry_delays)
        self._boxes: dict[tuple[Any, str], Box] = {}  # (flow run, artifact) -> what Prefect knows it by there

    def task(self, stage: Stage, work: Callable[[], Artifact], reads: Sequence[Artifact]) -> Artifact:
        def attempt() -> Any:
            artifact = work()
            report = current().reports[-1]
            box = Box(artifact)
            return box if report.built else Completed(name="Reused", message="as it was in the store", data=box)

        as_task = task(
            attempt,
            name=stage.name,
            description=stage.summary,
            retries=len(self.retry_delays),
            retry_delay_seconds=self.retry_delays,
            retry_jitter_factor=0.5,
            retry_condition_fn=_may_pass,
            cache_policy=NO_CACHE,
            persist_result=False,
            task_run_name=stage.name,
        )
        box = _unwrap(as_task(wait_for=self._known(reads) or None))
        self._boxes[_flow_run(), box.value.key] = box
        return box.value  # type: ignore[no-any-return]

    def subflow(self, function: Callable[..., T], work: Callable[[], T], args: tuple[Any, ...]) -> T:
        reads = [item for arg in args for item in _artifacts(arg)]
        made: list[T] = []

        def body() -> Any:
            made.append(work())
            return Box(made)

        as_flow = flow(
            body,
            name=function.__name__,
            description=(function.__doc__ or "").partition("\n")[0],
            persist_result=False,
            validate_parameters=False,
            log_prints=False,
        )
        box = _unwrap(as_flow(wait_for=self._known(reads) or None))
        for artifact in _artifacts(made[0]):
            self._boxes[_flow_run(), artifact.key] = box
        return made[0]

    def _known(self, reads: Sequence[Artifact]) -> list[Box]:
        here = _flow_run()
        found = {id(box): box for item in reads if item.built and (box := self._boxes.get((here, item.key)))}
        return list(found.values())


class PrefectObserver(Observer):
    """Shows a stage's progress at most every 10 s, and a funnel table at the end."""

    def __init__(self, inner: Observer) -> None:
        self.inner = inner
        self._progress: Any = None
        self._total = self._ended = 0
        self._last = 0.0

    def stage_begins(self, stage: str, jobs: int, todo: int) -> None:
        self.inner.stage_begins(stage, jobs, todo)
        self._progress, self._total, self._ended, self._last = None, todo, 0, time.monotonic()

    def job_ended(self, stage: str, outcome: Done | Failure) -> None:
        self.inner.job_ended(stage, outcome)
        self._ended += 1
        if time.monotonic() - self._last < PROGRESS_SECONDS:
            return
        self._last = time.monotonic()
        percent = 100.0 * self._ended / max(1, self._total)
        if self._progress is None:
            self._progress = create_progress_artifact(
                percent, key=stage.replace("_", "-"), description=f"jobs of {stage}"
            )
        else:
            update_progress_artifact(self._progress, percent)

    def stage_ended(self, report: StageReport) -> None:
        self.inner.stage_ended(report)

    def notice(self, text: str) -> None:
        self.inner.notice(text)


def publish_funnel(reports: Sequence[StageReport]) -> None:
    """One table a run: what every stage did, and why documents were rejected."""
    rows = [
        {
            "stage": report.stage,
            "jobs": report.jobs,
            "built": len(report.built),
            "rows": report.rows,
            "rejected": ", ".join(f"{reason} {count}" for reason, count in report.reasons.items()),
            "seconds": report.seconds,
        }
        for report in reports
    ]
    create_table_artifact(rows, key="funnel", description="Stages, jobs and rejected documents of this run.")


def _may_pass(_task: Any, _run: Any, state: State[Any]) -> bool:
    """OSErrors, lost workers and preempted ranks may pass; a user's mistake and an assert of ours never do."""
    error = state.data.value if isinstance(state.data, Box) else state.data
    if isinstance(error, StageFailed):
        return error.may_pass
    return isinstance(error, OSError)


def _unwrap(result: Any) -> Box:
    box = result.result() if isinstance(result, State) else result
    assert isinstance(box, Box), f"Prefect gave back {type(box).__name__}"
    return box


def _flow_run() -> Any:
    context = FlowRunContext.get()
    return context.flow_run.id if context and context.flow_run else None


def _artifacts(value: Any) -> list[Artifact]:
    """The artifacts in a flow's result: itself, or the fields of a small record of them."""
    if isinstance(value, Artifact):
        return [value]
    if isinstance(value, list | tuple):
        return [item for entry in value for item in _artifacts(entry)]
    return [item for entry in vars(value).values() for item in _artifacts(entry)] if hasattr(value, "__dict__") else []
