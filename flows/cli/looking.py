"""Commands that only read: recipes, stages, runs, artifacts, documents; and what is written for others."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from polylm.flows.cli.options import Changes, Json, RecipeName, Sources, StoreOption, Whole, app, settings_of
from polylm.flows.cli.printing import print_json, rules_table, run_line, short


@app.command
def recipes(*, json: Json = False) -> None:
    """List the recipes."""
    from polylm.flows.recipes import all_recipes

    found = {name: (recipe.__doc__ or "").partition("\n")[0] for name, recipe in all_recipes().items()}
    print_json(found) if json else print("\n".join(f"{name:14} {about}" for name, about in found.items()))


@app.command
def recipe(
    name: RecipeName,
    field: Annotated[str, Parameter(help="What is told about: a field, or what a field's name begins with.")] = "",
    *,
    source: Sources = None,
    set: Changes = None,
    json: Json = False,
) -> None:
    """Show every value of a recipe, with where it comes from; of a FIELD, such as clean, also what it means."""
    from polylm.flows.recipe_options import origins

    told = origins(name, source or [], set or [])
    rows = [row for row in told if f"{row['field']}.".startswith(f"{field}." if field else "")]
    if not rows:
        raise ValueError(f"no field {field!r} in {name}: `polylm recipe {name}` lists them")
    if json:
        print_json(rows)
        return
    for row in rows:
        value = short(row["value"])
        print(f"{row['field']:44} {value:32} {row['origin']:8} {row['source']}")
        if field:
            choices = f" One of {', '.join(row['choices'])}." if row["choices"] else ""
            print(f"    {row['description']}{choices}")


@app.command
def stages(*, json: Json = False) -> None:
    """List the stages."""
    from polylm.tasks.stage import all_stages

    found = sorted(all_stages(), key=lambda stage: stage.name)
    if json:
        keys = ("name", "kind", "each", "version", "reads", "summary")
        print_json([{key: getattr(stage, key) for key in keys} for stage in found])
        return
    for stage in found:
        print(f"{stage.name:24} {stage.kind:8} {stage.summary}")


@app.command
def status(*, store: StoreOption = None, json: Json = False) -> None:
    """List the runs of the store, the latest last, and the artifacts of that one."""
    from polylm.flows.reading import runs_of

    settings = settings_of(store)
    runs = runs_of(settings.store)
    if json:
        print_json([run.model_dump(mode="json") for run in runs])
        return
    if not runs:
        print(f"no runs in {settings.store}: `polylm run sample` makes one")
        return
    for found in runs:
        print(run_line(found))
    for entry in runs[-1].stages:
        print(
            f"  {entry.artifact:60} {entry.rows:>10,} rows  {entry.built} of {entry.jobs} jobs built, the others re-used"
        )


@app.command
def show(
    what: Annotated[str, Parameter(help="A stage's name, or an artifact as `polylm status` prints it.")],
    *,
    rows: Annotated[Whole, Parameter(help="Rows to print.")] = 10,
    rejected: Annotated[bool, Parameter(negative="", help="Of a gate: the documents that it rejects.")] = False,
    store: StoreOption = None,
    json: Json = False,
) -> None:
    """Show a STAGE of the latest run, or an ARTIFACT (stage/key): its table's first rows, or its folder's files."""
    from polylm.flows.reading import first_rows

    found = first_rows(settings_of(store).store, what, rows + 1 if rows > 0 else rows, rejected=rejected)
    if json:
        print_json(found[:rows])
        return
    for row in found[:rows]:
        print("  ".join(f"{key}={short(value, 500 if key == 'folder' else 80)}" for key, value in row.items()))
    if not found:
        print(f"{what}: no rows", file=sys.stderr)
    if len(found) > rows:
        print(f"... and more: --rows N shows N, here {rows}", file=sys.stderr)


@app.command
def why(
    doc: Annotated[str, Parameter(help="SOURCE.PART.ROW, such as sample.3.4, or the `doc` of a table.")],
    *,
    run: Annotated[str | None, Parameter(help="A run's id; the latest by default.")] = None,
    store: StoreOption = None,
    json: Json = False,
) -> None:
    """Say why a document (SOURCE.PART.ROW, or its id) was kept or rejected: every rule, value, threshold and margin."""
    from polylm.flows.reading import explain

    found = explain(settings_of(store), doc, run)
    if json:
        print_json(found)
        return
    print(f"{found['address']}  {found['verdict']}  (in the run {found['run']}; --run names another)")
    for key, value in found["document"].items():
        print(f"  {key:22} {short(value, 100)}")
    print(rules_table(found["rules"]))


@app.command
def report(
    run: Annotated[str, Parameter(help="A run's id, as `polylm status` lists them.")],
    *,
    out: Annotated[Path | None, Parameter(name="--out", help="The file; RUN.html by default.")] = None,
    store: StoreOption = None,
) -> None:
    """Write a run's pages of the dashboard as one HTML file that needs nothing else."""
    from polylm.dashboard.report import write_report

    print(write_report(settings_of(store), run, out or Path(f"{run}.html")))


@app.command
def export(
    what: Annotated[str, Parameter(help="`corpus`, `tokenizer` or `model`.")],
    folder: Annotated[Path, Parameter(help="A new folder, or an empty one.")],
    *,
    store: StoreOption = None,
) -> None:
    """Write the `corpus`, the `tokenizer` or the `model` of the latest run to a folder for others."""
    from polylm.flows.reading import export_to

    print(export_to(settings_of(store), what, folder))
