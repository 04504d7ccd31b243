"""The Prefect flow: what `prefect.yaml` deploys and what `polylm run --prefect` runs."""

import os
from typing import Literal

from prefect import flow
from pydantic import BaseModel, ConfigDict, Field

from polylm.flows.everything import start
from polylm.flows.progress import Lines
from polylm.tasks.prefect_runs import PrefectObserver, PrefectOrchestrator, publish_funnel
from polylm.tasks.run import Observer, Session
from polylm.tasks.settings import Settings


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
    workers: int = Field(0, ge=0, le=1024, description="Worker processes; 0 for one a core.")


@flow(name="polylm", flow_run_name="{request.recipe}", validate_parameters=True, persist_result=False)
def polylm(request: RunRequest) -> None:
    """From raw multilingual text to an evaluated, exported model."""
    run_request(request, Lines())


def run_request(request: RunRequest, observer: Observer) -> Session:
    """Run a request inside a Prefect flow, with a task for each stage and one funnel table."""
    options = {name: value for name, value in {"store": request.store, "workers": request.workers}.items() if value}
    here = start(
        request.recipe,
        Settings(**options),
        sources=request.sources,
        changes=request.changes,
        until=request.until or None,
        observer=PrefectObserver(observer),
        orchestrator=PrefectOrchestrator(_retry_delays()),
    )
    publish_funnel(here.reports)
    return here


def run_here(request: RunRequest, observer: Observer) -> Session:
    """Run the flow in this process, as the command line does, and return its session."""
    made: list[Session] = []

    def body(request: RunRequest) -> None:
        made.append(run_request(request, observer))

    flow(body, name=polylm.name, description=polylm.description, flow_run_name=request.recipe, persist_result=False)(
        request
    )
    return made[0]


def _retry_delays() -> list[float]:
    """Seconds before each retry of a stage; `POLYLM_RETRY_DELAYS` (where and how fast, not what) shortens them."""
    named = os.environ.get("POLYLM_RETRY_DELAYS")
    return [float(text) for text in named.split(",")] if named else [10.0, 60.0, 300.0]
