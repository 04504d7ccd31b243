"""Commands that run: recipes, plans, and the servers that stand around them."""

import contextlib
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from polylm.flows.cli.options import (
    Changes,
    Json,
    OnAlarm,
    RecipeName,
    Sources,
    StoreOption,
    Until,
    Whole,
    Workers,
    app,
    settings_of,
)
from polylm.flows.cli.printing import as_values, kept_table, plan_line, print_json

if TYPE_CHECKING:
    from polylm.deployments.settings import Settings
    from polylm.flows.alarms import Watch
    from polylm.tasks.session import Session


@app.command
def run(
    name: RecipeName,
    *,
    source: Sources = None,
    set: Changes = None,
    store: StoreOption = None,
    workers: Workers = None,
    until: Until = None,
    on_alarm: OnAlarm = None,
    prefect: Annotated[
        bool | None, Parameter(help="Through Prefect; by default if its settings name a server.")
    ] = None,
    json: Json = False,
) -> None:
    """Run a recipe: build what the store lacks, re-use the rest."""
    settings = settings_of(store, workers)
    if _through_prefect(prefect):
        here = _run_in_prefect(name, settings, {"sources": source or [], "changes": set or []}, until, on_alarm)
    else:
        from polylm.flows.everything import start
        from polylm.flows.progress import shown

        with shown() as observer:
            here = start(
                name,
                settings,
                sources=source or [],
                changes=set or [],
                until=until,
                observer=observer,
                watch=_watch(on_alarm),
            )
    _print_run(here, json)


@app.command
def plan(
    name: RecipeName,
    *,
    source: Sources = None,
    set: Changes = None,
    store: StoreOption = None,
    workers: Workers = None,
    until: Until = None,
    json: Json = False,
) -> None:
    """Say which jobs a run would build and what it would keep; exact up to the first costly job that is missing."""
    from polylm.flows.everything import start
    from polylm.flows.reading import kept_by_language

    settings = settings_of(store, workers)
    here = start(name, settings, sources=source or [], changes=set or [], until=until, mode="plan")
    kept = kept_by_language(here)
    if json:
        print_json({"stages": [as_values(report) for report in here.reports], "kept": kept})
        return
    unread = sum(len(report.built) for report in here.reports if report.stage == "ingest")
    bound, why = (
        ("about", ": a file that is not read yet counts as one part, however many it becomes")
        if unread
        else ("at most", "")
    )
    for report in here.reports:
        print(plan_line(report, bound))
    for alarm in here.record["alarms"]:
        print(f"alarm: {alarm['message']}")
    if until is None or kept is not None:
        print("kept: known as soon as what gates read is built" if kept is None else kept_table(kept))
    total = sum(len(report.built) for report in here.reports)
    exact = all(report.exact for report in here.reports)
    print(f"{total} jobs to build" if exact else f"{bound} {total} jobs to build{why}")


@app.command
def up(
    *,
    port: Annotated[Whole, Parameter(help="Of Prefect's UI and API; the dashboard has the next one.")] = 4200,
    postgres: Annotated[str, Parameter(help="Prefect's database, postgresql://USER:PASSWORD@HOST/NAME.")] = "",
    store: StoreOption = None,
) -> None:
    """Start Prefect with the deployments and their workers, and the dashboard, on 127.0.0.1 until Ctrl-C."""
    from polylm.flows.up import free_port
    from polylm.flows.up import up as start_all

    free_port(port), free_port(port + 1)
    start_all(settings_of(store), port, postgres, say=print, step=_tell)


@app.command
def dashboard(*, port: Annotated[Whole, Parameter(help="On 127.0.0.1.")] = 4201, store: StoreOption = None) -> None:
    """Serve the dashboard of a store on 127.0.0.1 until Ctrl-C; it reads only."""
    from polylm.dashboard.__main__ import serve
    from polylm.flows.reading import runs_of
    from polylm.flows.up import free_port

    free_port(port)
    settings = settings_of(store)
    runs_of(settings.store)  # a slip in the store's name is told here
    print(f"http://127.0.0.1:{port}")
    serve(settings, port)


def _tell(text: str) -> None:
    with contextlib.suppress(
        OSError
    ):  # the terminal is gone: that ends `up`, and its runs must end in order all the same
        print(text, file=sys.stderr, flush=True)


def _through_prefect(asked: bool | None) -> bool:
    from polylm.flows.prefect_server import server_named

    return server_named() if asked is None else asked


def _watch(action: Literal["fail", "warn", "ask"] | None) -> "Watch":
    """What an alarm does: a person at a terminal is asked there, unless an option says otherwise."""
    from polylm.flows.alarms import Watch

    at_hand = sys.stdin.isatty() and sys.stderr.isatty()
    return Watch(action or ("ask" if at_hand else None), ask=_approval if at_hand else None)


def _approval() -> str | None:
    """Ask at the terminal: the reason for going on, in words; None to stop."""
    print(
        "Go on? Type the reason, which is kept in the run's record; Enter stops: ", end="", file=sys.stderr, flush=True
    )
    typed = sys.stdin.buffer.readline().decode("utf-8", "replace").strip()  # "" at Ctrl-D
    return typed if any(map(str.isalnum, typed)) else None


def _run_in_prefect(
    name: str, settings: "Settings", request: dict[str, list[str]], until: str | None, on_alarm: str | None
) -> "Session":
    from polylm.flows.progress import shown
    from polylm.flows.recipe_options import resolve
    from polylm.tasks.maintenance.signals import end_if_told
    from polylm.tasks.store import Store

    resolve(name, request["sources"], request["changes"], settings)  # a mistake is told before a server starts
    store = Store(settings.store).open()
    with _server(store.root / "work" / "prefect-server.log"):
        from polylm.flows.deployed import RunRequest, run_here  # imports Prefect: after its server's address is set

        form = RunRequest.model_validate(
            {
                "recipe": name,
                **request,
                "until": until or "",
                "on_alarm": on_alarm or "",
                "store": str(settings.store),
                "workers": settings.workers,
            }
        )
        end_if_told()  # what comes up in the imports above may be lost there, and a session only heeds what comes after
        with shown() as observer:
            return run_here(form, observer, _watch(form.on_alarm or None))


@contextlib.contextmanager
def _server(log: Path) -> Iterator[None]:
    """The server that Prefect's settings name; else one of our own, which goes when the run does."""
    from polylm.flows.prefect_server import check_named_server, prefect_server, server_named, without_heartbeats

    if server_named():
        check_named_server()
        yield
        return
    with prefect_server(log, meanwhile=lambda: import_module("polylm.flows.deployed")), without_heartbeats():
        yield


def _print_run(here: "Session", as_json: bool) -> None:
    if as_json:
        print_json({"run": here.record["id"], "stages": [as_values(report) for report in here.reports]})
        return
    from polylm.flows.reading import where_to_look

    print("\n".join(f"{name:17} {text}" for name, text in where_to_look(here).items()))
