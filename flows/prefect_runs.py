"""Prefect around a session: sub-flows and tasks named after flows and stages, with the manifests' edges.

Import this only where a Prefect run is wanted: it costs seconds, and workers never do. The store is the cache, so
Prefect caches and persists nothing. What follows was tried against a real server:

- Edges come from `wait_for` with leaf boxes; results tracked by `id()` give false edges where objects are shared.
- A retry condition must be a plain function; a partial or a bound method silently never retries.
- An error that leaves a task or flow becomes "... encountered an exception: ..." with a traceback in the log; a Failed
  state that is returned keeps its message, and is retried all the same.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from typing import Any, ParamSpec, TypeVar

from httpx import TransportError
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Completed, Failed

from polylm.tasks.maintenance.signals import end_if_told
from polylm.tasks.run import StageFailed
from polylm.tasks.session import current
from polylm.tasks.stage import Stage
from polylm.tasks.store import Artifact

P = ParamSpec("P")
T = TypeVar("T")
RETRY_DELAYS = [10.0, 60.0, 300.0]  # seconds
EXPECTED = (ValueError, OSError, StageFailed)  # whose message says all; anything else is a fault of ours


def unless_away(show: Callable[P, None]) -> Callable[P, None]:
    """What only shows something is left out while the server is away: the work does not need it."""

    @functools.wraps(show)
    def shown(*args: P.args, **kwargs: P.kwargs) -> None:
        with contextlib.suppress(TransportError):
            show(*args, **kwargs)

    return shown


class Box:
    """Carries an artifact through Prefect, which must not look inside: no dataclass, model or collection."""

    def __init__(self, value: Any) -> None:
        self.value = value


class PrefectOrchestrator:
    """Wraps each stage in a task and each flow function in a sub-flow (`tasks.session.Orchestrator`)."""

    def __init__(self, retry_delays: Sequence[float] = RETRY_DELAYS) -> None:
        self.retry_delays = list(retry_delays)
        self._boxes: dict[tuple[Any, str], Box] = {}  # (flow run, artifact) -> what Prefect knows it by there

    def task(self, stage: Stage, work: Callable[[], Artifact], reads: Sequence[Artifact]) -> Artifact:
        @task(
            name=stage.name,
            task_run_name=stage.name,
            description=stage.summary,
            retries=len(self.retry_delays),
            retry_delay_seconds=self.retry_delays,
            retry_jitter_factor=0.5,
            retry_condition_fn=_may_pass,
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        def attempt() -> Any:
            result = boxed(work)
            if isinstance(result, Box) and not current().reports[-1].built:
                return Completed(name="Reused", message="all of it was in the store", data=result)
            return result

        box = unbox(attempt(wait_for=self._known(reads) or None))
        self._boxes[_flow_run(), box.value.key] = box
        return box.value  # type: ignore[no-any-return]

    def subflow(self, function: Callable[..., T], work: Callable[[], T], args: tuple[Any, ...]) -> T:
        if not current().building:  # past --until nothing runs, so there is nothing to show
            return work()
        reads = [item for arg in args for item in _artifacts(arg)]

        @flow(
            name=function.__name__,
            flow_run_name=function.__name__,
            description=(function.__doc__ or "").partition("\n")[0],
            persist_result=False,
            validate_parameters=False,
        )
        def body() -> Any:
            return boxed(work)

        as_flow: Callable[..., Any] = body  # its type does not know `wait_for`
        box = unbox(as_flow(wait_for=self._known(reads) or None))
        for artifact in _artifacts(box.value):
            self._boxes[_flow_run(), artifact.key] = box
        return box.value  # type: ignore[no-any-return]

    def _known(self, reads: Sequence[Artifact]) -> list[Box]:
        here = _flow_run()
        found = {id(box): box for item in reads if item.built and (box := self._boxes.get((here, item.key)))}
        return list(found.values())


def boxed(work: Callable[[], Any]) -> Box | State[Any]:
    """What a task or flow of ours hands to Prefect: its result in a box, or Failed with an expected error's message.

    A run that was told to end is crashed, not failed, whatever error took the place of that.
    """
    try:
        return Box(work())
    except Exception as error:
        end_if_told()
        if not isinstance(error, EXPECTED):
            raise
        return Failed(message=str(error) or type(error).__name__, data=error)


def unbox(result: Any) -> Box:
    """The box that Prefect hands back, out of its state if it is in one; raises what the work raised."""
    box = result.result() if isinstance(result, State) else result
    assert isinstance(box, Box), f"Prefect gave back {type(box).__name__}"
    return box


def _may_pass(_task: Any, _run: Any, state: State[Any]) -> bool:
    """OSErrors, lost workers and preempted ranks may pass; a user's mistake and an assert of ours never do."""
    error: Any = state.data
    return error.may_pass if isinstance(error, StageFailed) else isinstance(error, OSError)


def _flow_run() -> Any:
    context = FlowRunContext.get()
    return context.flow_run.id if context and context.flow_run else None


def _artifacts(value: Any) -> list[Artifact]:
    """The artifacts among a flow's arguments or in its result: itself, or the fields of a small record of them."""
    if isinstance(value, Artifact):
        return [value]
    entries = value if isinstance(value, list | tuple) else vars(value).values() if is_dataclass(value) else ()
    return [artifact for entry in entries for artifact in _artifacts(entry)]
