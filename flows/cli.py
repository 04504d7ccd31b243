"""The `polylm` command. Data goes to stdout, everything else to stderr; `--json` on whatever reads.

Exit codes: 0 well; 1 a run failed; 2 a mistake of the user's; 4 an alarm stopped the run; 5 the store is damaged; 130 and
143 interrupted: the same command goes on.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

# Everything heavier is imported inside the one command that needs it: `polylm --help` takes under half a second.
if TYPE_CHECKING:
    from collections.abc import Sequence

    from polylm.flows.alarms import Alarm, Watch
    from polylm.tasks.run import Session, StageReport
    from polylm.tasks.settings import Settings

app = App(
    name="polylm",
    help="From raw multilingual text to an evaluated, instruction-tuned language model.",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # `main` says that the run goes on from there
)

Sources = Annotated[
    list[str] | None, Parameter(name="--source", negative="", help="Your own text, NAME=PATH; may be repeated.")
]
Changes = Annotated[
    list[str] | None,
    Parameter(name="--set", negative="", help="Change a field of the recipe, a.b=VALUE; may be repeated."),
]
StoreOption = Annotated[
    Path | None, Parameter(name="--store", help="The folder of artifacts (POLYLM_STORE, else ./store).")
]
Workers = Annotated[int | None, Parameter(name="--workers", help="Worker processes (one a core).")]
OnAlarm = Annotated[
    Literal["fail", "warn", "ask"] | None,
    Parameter(name="--on-alarm", help="What an alarm does; by default what the recipe says, on a terminal it asks."),
]
Until = Annotated[str | None, Parameter(name="--until", help="The last stage to run.")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]


@app.command
def run(
    name: str,
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
    settings = _settings(store, workers)
    if _through_prefect(prefect):
        here = _run_in_prefect(name, settings, {"sources": source or [], "changes": set or []}, until, on_alarm)
    else:
        from polylm.flows.everything import start
        from polylm.flows.progress import observer

        here = start(
            name,
            settings,
            sources=source or [],
            changes=set or [],
            until=until,
            observer=observer(),
            watch=_watch(on_alarm),
        )
    _print_run(here, json)


@app.command
def plan(
    name: str,
    *,
    source: Sources = None,
    set: Changes = None,
    store: StoreOption = None,
    workers: Workers = None,
    until: Until = None,
    json: Json = False,
) -> None:
    """Say which jobs a run would build; exact up to the first costly job that is missing, "at most" past it."""
    from polylm.flows.everything import start

    settings = _settings(store, workers)
    here = start(name, settings, sources=source or [], changes=set or [], until=until, mode="plan")
    if json:
        _print_json([_report(report) for report in here.reports])
        return
    for report in here.reports:
        print(_plan_line(report))
    for alarm in here.record["alarms"]:
        print(f"alarm: {alarm['message']}")
    total = sum(len(report.built) for report in here.reports)
    print(f"{'at most ' if not all(report.exact for report in here.reports) else ''}{total} jobs to build")


@app.command
def up(
    *,
    port: Annotated[int, Parameter(help="Of Prefect's UI and API; the dashboard has the next one.")] = 4200,
    postgres: Annotated[str, Parameter(help="Prefect's database, postgresql://USER:PASSWORD@HOST/NAME.")] = "",
    store: StoreOption = None,
) -> None:
    """Start Prefect with the deployments and their workers, and the dashboard, on 127.0.0.1 until Ctrl-C."""
    from polylm.flows.up import up as start_all

    start_all(_settings(store), port, postgres, print)


@app.command
def dashboard(*, port: Annotated[int, Parameter(help="On 127.0.0.1.")] = 4201, store: StoreOption = None) -> None:
    """Serve the dashboard of a store on 127.0.0.1 until Ctrl-C; it reads only."""
    from polylm.dashboard.__main__ import serve
    from polylm.flows.reading import run_records

    settings = _settings(store)
    run_records(settings.store)  # a slip in the store's name is told here
    print(f"http://127.0.0.1:{port}")
    serve(settings, port)


@app.command
def report(
    run: Annotated[str, Parameter(help="A run's id, as `polylm status` lists them.")],
    *,
    out: Annotated[Path | None, Parameter(name="--out", help="The file; RUN.html by default.")] = None,
    store: StoreOption = None,
) -> None:
    """Write a run's pages of the dashboard as one HTML file that needs nothing else."""
    from polylm.dashboard.report import write_report

    print(write_report(_settings(store), run, out or Path(f"{run}.html")))


@app.command
def recipes(*, json: Json = False) -> None:
    """List the recipes."""
    from polylm.flows.recipes import all_recipes

    found = {name: (recipe.__doc__ or "").partition("\n")[0] for name, recipe in all_recipes().items()}
    _print_json(found) if json else print("\n".join(f"{name:14} {about}" for name, about in found.items()))


@app.command
def recipe(name: str, *, source: Sources = None, set: Changes = None, json: Json = False) -> None:
    """Show every value of a recipe, with where it comes from."""
    from polylm.flows.recipes import origins

    rows = origins(name, source or [], set or [])
    if json:
        _print_json(rows)
        return
    for row in rows:
        value = _short(row["value"])
        print(f"{row['field']:44} {value:32} {row['origin']:8} {row['source']}")


@app.command
def stages(*, json: Json = False) -> None:
    """List the stages."""
    from polylm.tasks.stage import all_stages

    found = sorted(all_stages(), key=lambda stage: stage.name)
    if json:
        keys = ("name", "kind", "each", "version", "reads", "summary")
        _print_json([{key: getattr(stage, key) for key in keys} for stage in found])
        return
    for stage in found:
        print(f"{stage.name:24} {stage.kind:8} {stage.summary}")


@app.command
def status(*, store: StoreOption = None, json: Json = False) -> None:
    """List the runs of the store, the latest last, and the artifacts of that one."""
    from polylm.flows.reading import run_records

    records = run_records(_settings(store).store)
    if json:
        _print_json(records)
        return
    for record in records:
        print(
            f"{record['id']:40} {record['state']:10} {len(record['stages'])} stages  "
            f"{record.get('started_by', ''):12}  {(record.get('error') or '').partition(chr(10))[0]}".rstrip()
        )
    for entry in records[-1]["stages"] if records else []:
        print(f"  {entry['artifact']:60} {entry['rows']:>10,} rows  {entry['built']} of {entry['jobs']} jobs built")


@app.command
def show(
    what: str,
    *,
    rows: Annotated[int, Parameter(help="Rows to print.")] = 10,
    store: StoreOption = None,
    json: Json = False,
) -> None:
    """Show a STAGE of the latest run, or an ARTIFACT (stage/key): its table's first rows, or its folder's files."""
    from polylm.flows.reading import first_rows

    found = first_rows(_settings(store).store, what, rows)
    if json:
        _print_json(found)
        return
    for row in found:
        print("  ".join(f"{key}={_short(value, 80)}" for key, value in row.items()))


@app.command
def why(
    doc: str,
    *,
    run: Annotated[str | None, Parameter(help="A run's id; the latest by default.")] = None,
    store: StoreOption = None,
    json: Json = False,
) -> None:
    """Say why a document (SOURCE.PART.ROW, or its id) was kept or rejected: every rule, value, threshold and margin."""
    from polylm.flows.reading import explain

    found = explain(_settings(store), doc, run)
    if json:
        _print_json(found)
        return
    print(f"{found['address']}  {found['verdict']}")
    for key, value in found["document"].items():
        print(f"  {key:22} {_short(value, 100)}")
    print(_rules_table(found["rules"]))


@app.command
def verify(
    *,
    recompute: Annotated[
        str | None, Parameter(help="Also make this share of a run's parts again and compare: 1%, or 0.01.")
    ] = None,
    seed: Annotated[int, Parameter(help="Chooses the parts that are made again.")] = 0,
    run: Annotated[str | None, Parameter(help="The run whose parts they are; the latest by default.")] = None,
    store: StoreOption = None,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Read every file of the store again and compare it with what was written; exit 5 where one is damaged."""
    from dataclasses import asdict

    from polylm.flows.reading import replayed
    from polylm.tasks.maintenance.recompute import Sample, parse_share, recomputed
    from polylm.tasks.maintenance.verify import damaged

    settings = _settings(store, workers)
    sample = Sample(parse_share(recompute), seed) if recompute else None
    found = damaged(settings.store)
    damage, again = list(found.damage), 0
    if sample and not damage:  # what is damaged must be mended first: a replay reads it
        with replayed(settings, run, sample) as here:
            made = recomputed(sample, here)
        damage, again = list(made.damage), made.checked
    if json:
        _print_json({"checked": found.checked, "recomputed": again, "damaged": [asdict(entry) for entry in damage]})
    else:
        print("\n".join(map(str, damage)) + "\n" if damage else "", end="")
        print(f"{found.checked} files checked, {f'{again} parts made again, ' if sample else ''}{len(damage)} damaged")
    if damage:
        raise SystemExit(5)


@app.command
def gc(
    *,
    keep_runs: Annotated[int, Parameter(help="How many completed runs stay whole, and all later ones.")] = 3,
    older_than: Annotated[float, Parameter(help="Days; nothing younger is taken.")] = 7.0,
    also_irreproducible: Annotated[
        bool, Parameter(negative="", help="Take what cannot be made again, too: generated text, its models.")
    ] = False,
    delete: Annotated[bool, Parameter(negative="", help="Move it to the trash; without this, only say what.")] = False,
    restore: Annotated[bool, Parameter(negative="", help="Put everything in the trash back.")] = False,
    empty_trash: Annotated[bool, Parameter(negative="", help="Remove the trash for good.")] = False,
    store: StoreOption = None,
    json: Json = False,
) -> None:
    """Free what no kept run, pin or checkpoint needs; says what it would free, unless told to --delete."""
    from polylm.tasks.maintenance.report import garbage

    if delete + restore + empty_trash > 1:
        raise ValueError("--delete, --restore and --empty-trash: give one of them")
    action: Any = "delete" if delete else "restore" if restore else "empty" if empty_trash else "plan"
    found = garbage(_settings(store).store, action, keep_runs, older_than, also_irreproducible)
    _print_json(found) if json else print("\n".join(found["lines"]))


@app.command
def pin(
    artifact: str,
    *,
    remove: Annotated[bool, Parameter(negative="", help="Let gc take it again.")] = False,
    store: StoreOption = None,
) -> None:
    """Keep an ARTIFACT (stage/key, or a STAGE of the latest run) from `gc`, with the models that it stands on."""
    from polylm.tasks.maintenance import pins
    from polylm.tasks.store import Store

    here = Store(_settings(store).store)
    print(f"{pins.unpin(here, artifact)} is not pinned any more" if remove else f"{pins.pin(here, artifact)} is pinned")


@app.command
def export(what: str, folder: Path, *, store: StoreOption = None) -> None:
    """Write the `corpus`, the `tokenizer` or the `model` of the latest run to a folder for others."""
    from polylm.flows.reading import export_to

    print(export_to(_settings(store), what, folder))


def main() -> None:
    """Run the command; turn a user's mistake into one line and exit 2."""
    try:
        _main()
    finally:
        server = sys.modules.get("polylm.flows.prefect_server")
        if server is not None and server.is_away():
            _end_at_once()


def _end_at_once() -> None:
    """End without Prefect's own end, which tries for seven seconds to deliver each event to a server that is gone."""
    error = sys.exc_info()[1]
    if error is not None and not isinstance(error, SystemExit):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(error.code or 0) if error is not None else 0)


def _main() -> None:
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(sys.argv[1:])
    except KeyboardInterrupt:
        _end("interrupted; the same command goes on from here", 128 + signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if isinstance(error, OSError):  # a full disk, a folder that may not be written: no trace helps
            _end(f"{error}; the same command goes on from here", 1)
        if getattr(error, "alarms", None):
            _end(str(error), 4)
        mistake = isinstance(error, ValueError) or getattr(error, "is_mistake", False)
        if mistake:
            _end(str(error), 2)
        if failures := getattr(error, "failures", None):
            print("\n".join(failure.trace for failure in failures if not failure.lasting), file=sys.stderr)
            _end(str(error), 1)
        raise


def _terminate(_signal: int, _frame: Any) -> None:
    print("terminated; the same command goes on from here", file=sys.stderr)
    raise SystemExit(128 + signal.SIGTERM)


def _end(message: str, code: int) -> None:
    print(f"polylm: {message}", file=sys.stderr)
    raise SystemExit(code)


def _settings(store: Path | None, workers: int | None = None) -> "Settings":
    from polylm.tasks.settings import Settings

    if workers is not None and workers < 0:
        raise ValueError(f"--workers {workers}: expected 0 (this process) or more")
    given = {"store": store, "workers": workers}
    return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def _through_prefect(asked: bool | None) -> bool:
    from polylm.flows.prefect_server import server_named

    return server_named() if asked is None else asked


def _watch(action: Literal["fail", "warn", "ask"] | None) -> "Watch":
    """What an alarm does: a person at a terminal is asked there, unless an option says otherwise."""
    from polylm.flows.alarms import Watch

    at_hand = sys.stdin.isatty() and sys.stderr.isatty()
    return Watch(action or ("ask" if at_hand else None), ask=_approval if at_hand else None)


def _approval(alarms: "Sequence[Alarm]") -> str | None:
    """Ask at the terminal: the reason for going on, None to stop."""
    from rich.console import Console

    for alarm in alarms:
        print(f"alarm: {alarm.message}", file=sys.stderr)
    return (
        Console(stderr=True).input("Go on? Type the reason, which is kept in the run's record; Enter stops: ").strip()
        or None
    )


def _run_in_prefect(
    name: str, settings: "Settings", request: dict[str, list[str]], until: str | None, on_alarm: str | None
) -> "Session":
    import contextlib

    from polylm.flows.prefect_server import prefect_server, server_named
    from polylm.flows.progress import observer
    from polylm.flows.recipes import resolve
    from polylm.tasks.store import Store

    resolve(name, request["sources"], request["changes"], settings)  # a mistake is told before a server starts
    store = Store(settings.store).open()
    with contextlib.nullcontext() if server_named() else prefect_server(store.root / "work" / "prefect-server.log"):
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
        return run_here(form, observer(), _watch(form.on_alarm or None))


def _print_run(here: "Session", as_json: bool) -> None:
    if as_json:
        _print_json({"run": here.record["id"], "stages": [_report(report) for report in here.reports]})
        return
    from polylm.flows.reading import where_to_look

    print("\n".join(f"{name:16} {text}" for name, text in where_to_look(here).items()))


def _report(report: "StageReport") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(report)


def _plan_line(report: "StageReport") -> str:
    todo = len(report.built)
    count = f"{'' if report.exact else 'at most '}{todo} to build" if todo else "re-used"
    names = ", ".join(report.built[:6]) + (", ..." if todo > 6 else "")
    return f"{report.stage:24} {report.jobs:6} jobs  {count:20} {names}".rstrip()


def _rules_table(rules: list[dict[str, Any]]) -> str:
    """One line a rule, the broken ones first, in columns."""
    rows = [
        (
            answer["gate"],
            answer["rule"],
            f"{_short(answer['value'])} {answer['side']} {_short(answer['bound'], 40)}",
            "" if answer["margin"] is None else f"margin {answer['margin']:.4g}",
            answer["verdict"],
        )
        for answer in sorted(rules, key=lambda answer: answer["verdict"] != "broken")
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def _short(value: Any, width: int = 32) -> str:
    text = (
        f"{value:.6g}"
        if isinstance(value, float)
        else value
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, default=str)
    )
    text = text.replace("\n", " ")
    return text if len(text) <= width else f"{text[: width - 3]}..."


if __name__ == "__main__":
    main()
