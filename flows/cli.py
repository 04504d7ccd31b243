"""The `polylm` command. Data goes to stdout, everything else to stderr; `--json` on whatever reads.

Exit codes: 0 well; 1 a run failed; 2 a mistake of the user's; 130 and 143 interrupted: the same command goes on.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

# Everything heavier is imported inside the one command that needs it: `polylm --help` takes under half a second.
if TYPE_CHECKING:
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
    prefect: Annotated[
        bool | None, Parameter(help="Through Prefect; by default if its settings name a server.")
    ] = None,
    json: Json = False,
) -> None:
    """Run a recipe: build what the store lacks, re-use the rest."""
    from polylm.flows.progress import observer

    settings = _settings(store, workers)
    if _through_prefect(prefect):
        here = _run_in_prefect(name, settings, {"sources": source or [], "changes": set or []}, until)
    else:
        from polylm.flows.everything import start

        here = start(name, settings, sources=source or [], changes=set or [], until=until, observer=observer())
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
    total = sum(len(report.built) for report in here.reports)
    print(f"{'at most ' if not all(report.exact for report in here.reports) else ''}{total} jobs to build")


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
        print(f"{record['id']:40} {record['state']:10} {len(record['stages'])} stages  {record.get('error') or ''}")
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
    for answer in found["rules"]:
        bound = _short(answer["bound"], 40)
        margin = "" if answer["margin"] is None else f"margin {answer['margin']:.4g}"
        print(
            f"  {answer['gate']:18} {answer['rule']:28} {_short(answer['value'])} {answer['side']} {bound}  {margin}  {answer['verdict']}"
        )


@app.command
def verify(*, store: StoreOption = None, json: Json = False) -> None:
    """Read every file of the store again and compare it with its record; exit 1 where one is damaged."""
    from polylm.flows.reading import damaged

    found = damaged(_settings(store).store)
    _print_json(found) if json else print(
        "\n".join([*found["damaged"], f"{found['checked']} files checked, {len(found['damaged'])} damaged"])
    )
    if found["damaged"]:
        raise SystemExit(1)


@app.command
def export(what: str, folder: Path, *, store: StoreOption = None) -> None:
    """Write the `corpus`, the `tokenizer` or the `model` of the latest run to a folder for others."""
    from polylm.flows.reading import export_to

    print(export_to(_settings(store), what, folder))


def main() -> None:
    """Run the command; turn a user's mistake into one line and exit 2."""
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


def _run_in_prefect(name: str, settings: "Settings", request: dict[str, list[str]], until: str | None) -> "Session":
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
            {"recipe": name, **request, "until": until or "", "store": str(settings.store), "workers": settings.workers}
        )
        return run_here(form, observer())


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
