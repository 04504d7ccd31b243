"""One stage of a run: a page of its own where there is one for its name or kind, else its params, jobs and first rows."""

import importlib
import json
import pkgutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import HTMLResponse

from polylm.dashboard import stages
from polylm.dashboard.distinct import siblings
from polylm.dashboard.errors import Missing, Notes, shown
from polylm.dashboard.gates import stage_of
from polylm.dashboard.links import documents_url, key_of, stage_url
from polylm.dashboard.parameters import takes
from polylm.dashboard.queries import Here, Queries
from polylm.dashboard.stages import gates
from polylm.dashboard.stages.examples import CHARS, beginning
from polylm.dashboard.stages.reading import read_rows
from polylm.dashboard.store_reading import Manifest
from polylm.dashboard.text import prose, shortened
from polylm.dashboard.view import page as render
from polylm.dashboard.view import url
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.stage import Stage
from polylm.tasks.store import StoreError

View = Callable[[Request, Queries, Run, Entry], Response]
PAGE_ROWS = 20
SHOWN_JOBS = 40
CELL_CHARS = 160
router = APIRouter()


@dataclass(frozen=True)
class Param:
    """One param as it was, with what its stage says of it today."""

    name: str
    value: str
    description: str
    source: str
    unit: str
    is_default: bool


def _own_parameters(request: Request) -> Collection[str]:
    """What the page of a stage reads; of a stage that today's code does not have, whatever any stage's page reads."""
    name, reads = request.path_params["stage"], _reads_of()
    if name in reads:
        return reads[name]
    stage = stage_of(name)
    return reads.get(stage.kind, ()) if stage else sorted({one for own in reads.values() for one in own})


@router.get("/run/{run_id}/stage/{stage}")
@takes(_own_parameters)
def stage_page(
    request: Request, here: Here, run_id: str, stage: str, artifact: str = "",
    page: Annotated[int, Query(ge=1, le=1_000_000_000)] = 1, show: Annotated[str, Query(alias="as")] = "",
) -> Response:  # fmt: skip
    """The page of a stage, by its name, then by its kind; `artifact` where a run has several of the stage."""
    run = here.run(run_id)
    entry = here.entry(run, stage, artifact)
    special = _by_name().get(entry.stage) or _by_kind().get(getattr(stage_of(entry.stage), "kind", ""))
    if special is None or not here.has(entry) or show == "table":
        return _generic(request, here, run, entry, page)
    try:
        return special(request, here, run, entry)
    except StoreError as error:  # made by other code, or damaged: what the manifest says can still be shown
        return _generic(request, here, run, entry, page, problem=shown(error, here.store.root))


@router.get("/run/{run_id}/stage/{stage}/what-if")
@takes(_own_parameters)
def what_if(request: Request, here: Here, run_id: str, stage: str, artifact: str = "") -> Response:
    """What a gate would do with other thresholds, for htmx."""
    run = here.run(run_id)
    entry = here.entry(run, stage, artifact)
    if getattr(stage_of(entry.stage), "kind", "") != "gate":
        raise Missing(f"{entry.stage} is no gate: it has no thresholds to move.")
    return gates.answer(request, here, run, entry)


@router.get("/run/{run_id}/beginning/{address}")
def text_beginning(here: Here, run_id: str, address: str) -> Response:
    """The beginning of a document's text, for htmx where a page did not wait for it."""
    run = here.run(run_id)
    place = here.place(run, address)
    return HTMLResponse(str(prose(beginning(here, run, place.part, place.row), CHARS)))


def _generic(request: Request, here: Queries, run: Run, entry: Entry, number: int, problem: str = "") -> Response:
    stage = stage_of(entry.stage)
    common: dict[str, Any] = {
        "run": run,
        "entry": entry,
        "stage": stage,
        "problem": problem,
        "siblings": siblings(here, run, entry),
    }
    if not here.has(entry):
        return render(request, "stage.html", **common, manifest=None)
    manifest, notes = here.manifest(entry), Notes(here.store.root)
    facts = notes.read(partial(here.facts, entry), None)
    table = notes.read(partial(_rows, here, entry, manifest, number), None)
    return render(
        request, "stage.html", **common, manifest=manifest, params=_params(stage, manifest), facts=facts, damage=notes.problems,
        reads=_reads(here, run, entry), readers=[(one.stage, stage_url(run, one)) for one in _readers(here, run, manifest)],
        jobs=manifest.parts[:SHOWN_JOBS], more_jobs=max(0, len(manifest.parts) - SHOWN_JOBS),
        found=lambda reason: documents_url(run, gate=entry.stage, reason=reason, alone=True),
        table=table, number=number, has_special=entry.stage in _by_name(),
        href=lambda **query: url("run", run.id, "stage", entry.stage, artifact=key_of(entry), **query),
    )  # fmt: skip


def _params(stage: Stage | None, manifest: Manifest) -> list[Param]:
    fields = stage.params.model_fields if stage else {}
    told = []
    for name, value in manifest.params.items():
        about = fields.get(name)
        extra: Mapping[str, Any] = (
            about.json_schema_extra if about and isinstance(about.json_schema_extra, dict) else {}
        )
        default = about.get_default(call_default_factory=True) if about and not about.is_required() else None
        told.append(
            Param(
                name,
                json.dumps(value, ensure_ascii=False),
                (about.description or "") if about else "",
                str(extra.get("source", "")),
                str(extra.get("unit", "")),
                about is not None and json.dumps(_json(default)) == json.dumps(value),
            )
        )
    return told


def _json(value: Any) -> Any:
    """A default as a manifest holds it."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {name: _json(one) for name, one in value.items()}
    return [_json(one) for one in value] if isinstance(value, list | tuple) else value


def _reads(here: Queries, run: Run, entry: Entry) -> list[tuple[str, str]]:
    """What an artifact was made from, with the address of its page; files that were taken in have none."""
    by_artifact = {one.artifact: one for one in run.stages}
    refs = here.manifest(entry).reads
    return [(ref.partition("/")[0], stage_url(run, by_artifact[ref]) if ref in by_artifact else "") for ref in refs]


def _readers(here: Queries, run: Run, manifest: Manifest) -> list[Entry]:
    return [one for one in run.stages if manifest.ref in one.reads]


def _rows(here: Queries, entry: Entry, manifest: Manifest, number: int) -> dict[str, Any] | None:
    """One page of the rows of a table, whichever part they are in; None of a folder."""
    if manifest.shape.startswith("folder") or not manifest.parts:
        return None
    start, end, before = (number - 1) * PAGE_ROWS, number * PAGE_ROWS, 0
    rows = []
    for part, path in zip(manifest.parts, here.paths(entry), strict=True):
        first, last = max(start - before, 0), min(end - before, part.rows)
        if first < last:
            some = read_rows(path, first, last - first).to_pylist()
            rows += [
                (f"{part.label}.{first + i}", [_cell(value) for value in row.values()]) for i, row in enumerate(some)
            ]
        before += part.rows
    pages = max(1, -(-manifest.rows // PAGE_ROWS))
    return {"columns": list(here.columns(entry)), "rows": rows, "pages": pages, "linked": manifest.shape == "rows"}


def _cell(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value if value is None else shortened(value, CELL_CHARS)
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, float):
        return f"{value:.6g}"
    return shortened(json.dumps(value, ensure_ascii=False, default=str), CELL_CHARS)


@cache
def _modules() -> list[Any]:
    found = pkgutil.iter_modules(stages.__path__, f"{stages.__name__}.")
    return [importlib.import_module(module.name) for module in found]


@cache
def _by_name() -> dict[str, View]:
    return {name: view for module in _modules() for name, view in getattr(module, "STAGES", {}).items()}


@cache
def _reads_of() -> dict[str, tuple[str, ...]]:
    """By a stage's name or kind, the parameters that its page reads."""
    return {
        name: getattr(module, "READS", ())
        for module in _modules()
        for table in ("STAGES", "KINDS")
        for name in getattr(module, table, {})
    }


@cache
def _by_kind() -> dict[str, View]:
    return {kind: view for module in _modules() for kind, view in getattr(module, "KINDS", {}).items()}
