"""Commands that keep a store well: what is damaged, what is garbage, what stays."""

from typing import Annotated, Any

from cyclopts import Parameter

from polylm.flows.cli.options import Json, StoreOption, Whole, Workers, app, settings_of
from polylm.flows.cli.printing import print_json


@app.command
def verify(
    *,
    recompute: Annotated[
        str | None, Parameter(help="Also make this share of a run's parts again and compare: 1%, or 0.01.")
    ] = None,
    seed: Annotated[Whole, Parameter(help="Chooses the parts that are made again.")] = 0,
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

    if run is not None and recompute is None:
        raise ValueError("--run names the run whose parts --recompute makes again: give both, or neither")
    settings = settings_of(store, workers)
    sample = None if recompute is None else Sample(parse_share(recompute), seed)
    found = damaged(settings.store)
    damage, again = list(found.damage), 0
    if sample and not damage:  # what is damaged must be mended first: a replay reads it
        with replayed(settings, run, sample) as here:
            made = recomputed(sample, here)
        damage, again = list(made.damage), made.checked
    if json:
        print_json({"checked": found.checked, "recomputed": again, "damaged": [asdict(entry) for entry in damage]})
    else:
        print("\n".join(map(str, damage)) + "\n" if damage else "", end="")
        print(f"{found.checked} files checked, {f'{again} parts made again, ' if sample else ''}{len(damage)} damaged")
    if damage:
        raise SystemExit(5)


@app.command
def gc(
    *,
    keep_runs: Annotated[Whole, Parameter(help="How many completed runs stay whole, and all later ones.")] = 3,
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
    found = garbage(settings_of(store).store, action, keep_runs, older_than, also_irreproducible)
    print_json(found) if json else print("\n".join(found["lines"]))


@app.command
def pin(
    artifact: Annotated[str, Parameter(help="stage/key, as `polylm status` prints it, or a stage of the latest run.")],
    *,
    remove: Annotated[bool, Parameter(negative="", help="Let gc take it again.")] = False,
    store: StoreOption = None,
) -> None:
    """Keep an ARTIFACT (stage/key, or a STAGE of the latest run) from `gc`, with the models that it stands on."""
    from polylm.tasks.maintenance import pins
    from polylm.tasks.store import Store

    here = Store(settings_of(store).store)
    print(f"{pins.unpin(here, artifact)} is not pinned any more" if remove else f"{pins.pin(here, artifact)} is pinned")
