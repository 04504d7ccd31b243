"""The Prefect flow: what `prefect.yaml` deploys and what `polylm run --prefect` runs."""

import json
import logging
import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, Literal

from httpx import TransportError
from prefect import flow
from prefect.events.worker import EventsWorker
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.logging import get_run_logger
from prefect.logging.handlers import APILogWorker, PrefectConsoleHandler
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from prefect.utilities.urls import url_for
from pydantic import BaseModel, ConfigDict, Field, field_validator

from polylm.deployments.settings import Settings
from polylm.flows.alarms import AlarmsRaised, Decision, Watch
from polylm.flows.corpus import build_corpus
from polylm.flows.everything import build_everything, start
from polylm.flows.form_fields import Change, Folder, Language, NamedSource, bounds_told, expected, some_source
from polylm.flows.lifeline import end_with_named_parent
from polylm.flows.prefect_artifacts import PrefectObserver, publish_funnel
from polylm.flows.prefect_runs import EXPECTED, PrefectOrchestrator, boxed, unbox
from polylm.flows.prefect_server import watched
from polylm.flows.progress import Lines
from polylm.flows.stage_order import stages_in_order
from polylm.tasks.build import Job
from polylm.tasks.maintenance.files import read_json, write_json
from polylm.tasks.maintenance.run_records import read_run, run_paths
from polylm.tasks.maintenance.signals import told_to_end
from polylm.tasks.session import Observer, Session, current
from polylm.tasks.stage import Stage

DRAIN_SECONDS = 5.0
_NO_MORE_TRIES = (
    "Retry handling ended"  # how Prefect's client ends a call whose tries were cut short (`let_calls_retry`)
)
NAME_LENGTH = 80
# Prefect's own names of runs that nobody named: two words from its server, a Greek letter and a star from its form.
_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi psi omega"
_MADE_UP = re.compile(rf"[a-z]+-[a-z]+|({_GREEK.replace(' ', '|')})\d*(-[a-z]+)+|")

DATA_STAGES = stages_in_order(build_corpus)
NEED_SOURCES = ["corpus", "polylm_1_7b", "polylm_13b"]


class RunRequest(BaseModel):
    """What to run. What has no field here is in the recipe, and is changed by a line of `changes`."""

    # Bounds are of the kind that a JSON schema holds, so that the API refuses a bad value before there is a run.
    model_config = ConfigDict(extra="forbid", json_schema_extra=some_source(NEED_SOURCES, by_default=False))

    recipe: Literal["sample", "corpus", "polylm_1_7b", "polylm_13b"] = Field(
        "sample", description="Which recipe to run."
    )
    sources: list[NamedSource] = Field(
        [],
        description="Your own text, each NAME=PATH: a file, a folder, a glob or a URL; a path is as seen from the folder where `polylm up` or "
        "the worker was started. All recipes but `sample` need at least one.",
    )
    languages: list[Language] = Field([], description="The languages to keep, as codes; none for the recipe's own.")
    changes: list[Change] = Field(
        [],
        description="Changes of the recipe, each FIELD=VALUE as after --set: alarms.max_source_loss=0.9. `polylm recipe NAME` "
        "lists the fields; the first word of one must be among them.",
    )
    until: str = Field(
        "",
        description="The last stage to run; empty for all. A recipe of data stages ends with `select`.",
        json_schema_extra={"enum": ["", *stages_in_order(build_everything)]},
    )
    on_alarm: Literal["", "fail", "warn", "ask"] = Field(
        "", description="What an alarm does; ask suspends the run until somebody approves; empty for the recipe's own."
    )
    store: Folder = Field("", description="The folder of artifacts; empty for POLYLM_STORE, else ./store.")
    workers: int | None = Field(
        None, ge=0, le=1024, description="Worker processes; empty for one a core.", json_schema_extra=bounds_told
    )

    def all_changes(self) -> list[str]:
        """Changes as the command line has them, the languages first."""
        languages = [f"wanted.languages={json.dumps(self.languages)}"] if self.languages else []
        return [*languages, *self.changes]

    def settings(self) -> Settings:
        given = {"store": self.store or None, "workers": self.workers}
        return Settings.model_validate({name: value for name, value in given.items() if value is not None})


class CorpusRequest(RunRequest):
    """The data stages over your own text. What has no field here is in the recipe, and is changed by a line of `changes`."""

    model_config = ConfigDict(json_schema_extra=some_source(NEED_SOURCES, by_default=True))

    recipe: Literal["corpus"] = Field(
        "corpus",
        description="Which recipe to run; the form of `sample` has the others.",
        json_schema_extra={"enum": ["corpus"]},
    )
    until: str = Field(
        "", description="The last stage to run; empty for all.", json_schema_extra={"enum": ["", *DATA_STAGES]}
    )


# A letter or digit, and no control character but tabs and ends of lines.
_WORDS = r"^(?=[\s\S]*[^\W_])[^\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]*$"


class Approval(RunInput):
    """What a person answers to an alarm."""

    approve: bool = Field(True, description="Go on from here, or end the run.")
    reason: str = Field(
        min_length=3,
        max_length=2_000,
        description="Why, in words. It is kept in the run's record and in the artifact's manifest.",
        json_schema_extra=expected(_WORDS, "a reason, in words"),
    )
    later_gates: bool = Field(
        True,
        description="Where a gate rejects a source nearly whole: hold for what later gates of this run reject of the same "
        "source too. Otherwise each of them asks again.",
    )

    @field_validator("reason")
    @classmethod
    def _in_words(cls, reason: str) -> str:
        if not re.search(_WORDS, reason):
            raise ValueError("expected a reason, in words")
        return reason.strip()


def run_name(recipe: str = "sample") -> str:
    """What the flow run is called: as its form says, else the recipe (by default this one) and what was changed of it."""
    if not _MADE_UP.fullmatch(given := str(flow_run.name or "")):
        return given
    request = flow_run.parameters.get("request", {})
    told = request if isinstance(request, dict) else request.model_dump()
    changed = [*told.get("sources", ()), *told.get("languages", ()), *told.get("changes", ())]
    name = " ".join([told.get("recipe", recipe), *changed])
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 3]}..."


@flow(name="polylm", flow_run_name=lambda: run_name(), persist_result=False)
def polylm(request: RunRequest) -> Any:
    """From raw multilingual text to an evaluated, exported model."""
    return _deployed(request)


@flow(name="polylm", flow_run_name=lambda: run_name("corpus"), persist_result=False)
def corpus(request: CorpusRequest) -> Any:
    """From raw multilingual text to a corpus: the same flow, with a form for the data stages."""
    return _deployed(request)


def _deployed(request: RunRequest) -> Any:
    spare_workers()
    logging.getLogger("prefect.engine").addFilter(_is_unexpected)
    end_with_named_parent()
    with watched(str(get_current_settings().api.url), RunLog().notice):
        return boxed(lambda: _run_until_decided(request))


def run_request(request: RunRequest, watch: Watch, *observers: Observer) -> Session:
    """Run a request inside a Prefect flow, with a task for each stage and one funnel table at the end."""
    observer = PrefectObserver(*observers)
    settings = request.settings()
    try:
        return start(
            request.recipe,
            settings,
            sources=request.sources,
            changes=request.all_changes(),
            until=request.until or None,
            observer=observer,
            orchestrator=PrefectOrchestrator(),
            watch=watch,
            started_by=_started_by(),
        )
    finally:
        error = sys.exc_info()[1]
        # Not while the process is told to end, and not of a request that was no run.
        if observer.run and (error is None or isinstance(error, EXPECTED)):
            link = settings.dashboard and f"{settings.dashboard}/run/{observer.run}"
            publish_funnel(observer.reports, link, waits=isinstance(error, AlarmsRaised) and error.waits)


def _run_until_decided(request: RunRequest) -> Session:
    """Run; where an alarm asks, suspend the flow run. Prefect starts it again with the answer, which is found here."""
    store = request.settings().store
    approved = {alarm: decision for path in run_paths(store) for alarm, decision in _decided(path)}
    try:
        return run_request(request, Watch(request.on_alarm or None, approved, can_wait=True), RunLog())
    except AlarmsRaised as raised:
        if raised.waits:
            RunLog().notice('This run waits for an approval: "Resume" asks for a reason and shows the evidence.')
            _answer([alarm.id for alarm in raised.alarms], _evidence(raised, request.settings()))
        raise


def _decided(path: Path) -> list[tuple[str, Decision]]:
    """The alarms that an attempt of this very flow run waited for, with the decision to go on; writes the answer down.

    Raises ValueError where the answer is no.
    """
    run = read_run(path)
    if run.started_by != _started_by() or run.state not in ("awaiting approval", "approved", "refused"):
        return []
    record = read_json(path)
    if waiting := [alarm for alarm in record["alarms"] if not alarm["decision"]]:
        answer = _answer([alarm["id"] for alarm in waiting], "")
        told = Decision(answer.reason, later_gates=answer.later_gates)
        for alarm in waiting:
            no = {"approved": False, "reason": told.reason}
            alarm["decision"] = told.recorded(alarm["rule"]) if answer.approve else no
        write_json(path, {**record, "state": "approved" if answer.approve else "refused", "error": ""})
    decisions = [(alarm["id"], alarm["decision"]) for alarm in record["alarms"]]
    for _, decision in decisions:
        if not decision["approved"]:
            raise ValueError(f"not approved: {decision['reason']} (this run has ended; a new one asks again)")
    return [(alarm, Decision.read(decision)) for alarm, decision in decisions if not decision.get("of")]


def _answer(alarms: Sequence[str], evidence: str) -> Approval:
    """What was answered to these alarms; where nobody has answered yet, the flow run is suspended and this process ends."""
    form = Approval.with_initial_data(description=evidence)
    answer = suspend_flow_run(wait_for_input=form, key="-".join(sorted(alarms)))
    assert isinstance(answer, Approval)
    return answer


def _evidence(raised: AlarmsRaised, settings: Settings) -> str:
    """Markdown, which Prefect shows above the fields of the form."""
    lines = [f"- {alarm.message}" for alarm in raised.alarms]
    link = f"[The evidence on the dashboard]({settings.dashboard}/run/{raised.run})" if settings.dashboard else ""
    return "\n".join(["This run waits:", "", *lines, "", link or f"Run {raised.run} of the store {settings.store}."])


def _started_by() -> str:
    return f"Prefect flow run {flow_run.id}"


def run_here(request: RunRequest, observer: Observer, watch: Watch) -> Session:
    """Run the flow in this process, as the command line does, and return its session.

    Raises ConnectionError where the server went away and the flow could not end without it; what is finished is kept.
    """
    _quiet_console()
    ended: list[Session] = []

    def work() -> Session:
        ended.append(run_request(request, watch, observer, RunLog()))
        return ended[0]

    @flow(name=polylm.name, description=polylm.description, flow_run_name=request.recipe, persist_result=False)
    def body(request: RunRequest) -> Any:
        observer.notice(f"in Prefect: {url_for('flow-run', flow_run.id)}")
        return boxed(work)

    try:
        with watched(str(get_current_settings().api.url), observer.notice):
            unbox(body(request))
    except (TransportError, AssertionError) as error:
        if told_to_end() or (isinstance(error, AssertionError) and not str(error).startswith(_NO_MORE_TRIES)):
            raise
        gone = f"the Prefect server at {get_current_settings().api.url} went away ({error})"
        if not ended:
            raise ConnectionError(f"{gone}; --no-prefect runs without one") from error
        observer.notice(f"{gone}: the run has ended well, and the server does not know it")
    finally:
        drain()
    return ended[0]


def drain() -> None:
    """Send the last events and log lines to a server that is about to end."""
    EventsWorker.drain_all(timeout=DRAIN_SECONDS)
    APILogWorker.drain_all(timeout=DRAIN_SECONDS)


class RunLog(Lines):
    """The command line's plain lines in the log of the Prefect run, after one that leads to the dashboard."""

    _is_told = False

    def jobs_named(self, stage: Stage, jobs: Sequence[Job]) -> None:
        here = current()
        if not self._is_told and here.settings.dashboard:
            self.notice(f"on the dashboard: {here.settings.dashboard}/run/{here.record['id']}")
        self._is_told = True

    def notice(self, text: str) -> None:
        get_run_logger().info(text)

    def alarm(self, text: str) -> None:
        get_run_logger().warning(f"alarm: {text}")


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Not the trace of a mistake or a refusal, which the engine logs when the flow has failed: its one line is the state's."""
    return not (record.exc_info and isinstance(record.exc_info[1], EXPECTED))


def spare_workers() -> None:
    """Hide this process's main module from processes that it spawns, which would import it again.

    Where a Prefect worker runs the flow, that is Prefect: seconds and 100 MB in every worker, for nothing.
    """
    sys.modules["__main__"].__spec__ = ModuleSpec("__main__", None)


def _quiet_console() -> None:
    """Leave the terminal to our own progress: Prefect's lines are in the run's log; its warnings stay.

    But not those of events that it cannot deliver, a page each: a server that is away is told once, by what it stops.
    """
    for name in ("prefect.events.clients", "prefect._internal.concurrency", "EventsWorker", "APILogWorker"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, PrefectConsoleHandler):
            handler.setLevel(logging.WARNING)
