"""The Prefect flow: what `prefect.yaml` deploys and what `polylm run --prefect` runs."""

import logging
import sys
from importlib.machinery import ModuleSpec
from typing import Any, Literal

from prefect import flow
from prefect.events.worker import EventsWorker
from prefect.logging import get_run_logger
from prefect.logging.handlers import APILogWorker, PrefectConsoleHandler
from prefect.runtime import flow_run
from prefect.utilities.urls import url_for
from pydantic import BaseModel, ConfigDict, Field

from polylm.flows.everything import start
from polylm.flows.progress import Lines
from polylm.tasks.prefect_runs import (
    EXPECTED,
    PrefectObserver,
    PrefectOrchestrator,
    boxed,
    publish_funnel,
    unbox,
)
from polylm.tasks.run import Observer, Session
from polylm.tasks.settings import Settings

DRAIN_SECONDS = 5.0


class RunRequest(BaseModel):
    """The form of a run. What is not here is in the recipe and is changed by `changes`."""

    model_config = ConfigDict(extra="forbid")

    recipe: Literal["sample", "corpus", "polylm_1_7b", "polylm_13b"] = Field(
        "sample", description="Which recipe to run."
    )
    sources: list[str] = Field([], description="Your own text, each NAME=PATH: a file, a folder or a glob.")
    changes: list[str] = Field([], description="Changes of the recipe, each a.b=VALUE.")
    until: str = Field("", description="The last stage to run; empty for all.")
    store: str = Field("", description="The folder of artifacts; empty for POLYLM_STORE, else ./store.")
    workers: int | None = Field(None, ge=0, le=1024, description="Worker processes; empty for one a core.")


@flow(name="polylm", flow_run_name="{request.recipe}", persist_result=False)
def polylm(request: RunRequest) -> Any:
    """From raw multilingual text to an evaluated, exported model."""
    spare_workers()
    return boxed(lambda: run_request(request, RunLog()))


def run_request(request: RunRequest, *observers: Observer) -> Session:
    """Run a request inside a Prefect flow, with a task for each stage and one funnel table at the end."""
    given = {"store": request.store or None, "workers": request.workers}
    settings = Settings.model_validate({name: value for name, value in given.items() if value is not None})
    observer = PrefectObserver(*observers)
    try:
        here = start(
            request.recipe,
            settings,
            sources=request.sources,
            changes=request.changes,
            until=request.until or None,
            observer=observer,
            orchestrator=PrefectOrchestrator(),
        )
    except EXPECTED:
        publish_funnel(observer.reports)
        raise
    publish_funnel(observer.reports)
    return here


def run_here(request: RunRequest, observer: Observer) -> Session:
    """Run the flow in this process, as the command line does, and return its session."""
    _quiet_console()

    @flow(name=polylm.name, description=polylm.description, flow_run_name=request.recipe, persist_result=False)
    def body(request: RunRequest) -> Any:
        observer.notice(f"in Prefect: {url_for('flow-run', flow_run.id)}")
        return boxed(lambda: run_request(request, observer, RunLog()))

    try:
        session = unbox(body(request)).value
    finally:
        drain()
    assert isinstance(session, Session)
    return session


def drain() -> None:
    """Send the last events and log lines to a server that is about to end."""
    EventsWorker.drain_all(timeout=DRAIN_SECONDS)
    APILogWorker.drain_all(timeout=DRAIN_SECONDS)


class RunLog(Lines):
    """The command line's plain lines in the log of the Prefect run."""

    def notice(self, text: str) -> None:
        get_run_logger().info(text)


def spare_workers() -> None:
    """Hide this process's main module from processes that it spawns, which would import it again.

    Where a Prefect worker runs the flow, that is Prefect: seconds and 100 MB in every worker, for nothing.
    """
    sys.modules["__main__"].__spec__ = ModuleSpec("__main__", None)


def _quiet_console() -> None:
    """Leave the terminal to our own progress: Prefect's lines are in the run's log; its warnings stay."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, PrefectConsoleHandler):
            handler.setLevel(logging.WARNING)
