"""A gate as it judged in a run, to be asked again: its jobs from manifests alone, so that nothing is planned or built.

job = gate_jobs(here, entry)[place.part]
answers = why([job], place.row, here.store)  # tasks.why
rows = build.Shown.of(job.parts[0], here.store).for_gate()
rules = job.stage(rows, job.params.model_copy(update=moved), *extras_of(job))  # what a slider asks
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from polylm.dashboard.errors import Missing
from polylm.dashboard.queries import Queries
from polylm.dashboard.store_reading import Manifest
from polylm.tasks import build
from polylm.tasks.build import Job, PartInput
from polylm.tasks.maintenance.run_records import Entry
from polylm.tasks.run import File
from polylm.tasks.stage import DOC, Params, Stage, all_stages
from polylm.tasks.store import StoreError


def stage_of(name: str) -> Stage | None:
    """A declared stage by its name; None where today's code has none of that name."""
    return _stages().get(name)


def params_of(here: Queries, of: Entry | str) -> Params:
    """The params that an artifact was made with; StoreError where today's code has others."""
    manifest = here.manifest(of)
    stage = stage_of(manifest.stage)
    if stage is None or stage.version != manifest.version:
        raise StoreError(
            f"{manifest.ref} was made by other code ({manifest.stage} version {manifest.version}): run again"
        )
    try:
        return stage.params.model_validate(manifest.params)
    except ValidationError as error:
        raise StoreError(f"{manifest.ref} was made with params that this code does not know: run again") from error


def gate_jobs(here: Queries, of: Entry | str) -> list[Job]:
    """The jobs of a gate, one a part of the documents, with what they read.

    StoreError where today's code cannot ask it: another version, other params, inputs that lack a column or a part.
    """
    manifest, params = here.manifest(of), params_of(here, of)
    stage = stage_of(manifest.stage)
    assert stage is not None  # params_of has seen it
    assert stage.kind == "gate", f"{manifest.stage} is no gate"
    reads = _reads(here, manifest)
    columns = _columns(here, stage, [read for read in reads if read.shape == "rows"])
    tables = [_extra(here, read) for read in reads if read.shape != "rows"]
    extras = (*tables, *(("file", path) for path in _adopted(here, manifest)))
    numbered = DOC in stage.reads
    jobs = []
    for index, part in enumerate(manifest.parts):
        files = tuple((read.stage, read.parts[index].key, names) for read, names in columns)
        number = part.number if numbered else None
        job_part = PartInput(files, (), number, part.rows)
        jobs.append(Job(stage, params, part.key, part.label, {}, here.store.root, (job_part,), extras))
    return jobs


def extras_of(job: Job) -> list[Any]:
    """The fitted tables that a gate is called with after its rows and params."""
    return [build.load(extra) for extra in job.extras]


@cache
def _stages() -> dict[str, Stage]:
    return {stage.name: stage for stage in all_stages()}


def _reads(here: Queries, made: Manifest) -> list[Manifest]:
    try:
        reads = list(here.reads(made.ref).values())
    except Missing as error:
        raise StoreError(f"{made.ref} cannot be asked again: {error}") from error
    if short := [read for read in reads if read.shape == "rows" and len(read.parts) != len(made.parts)]:
        raise StoreError(
            f"{made.ref} has {len(made.parts)} parts, and {short[0].ref}, which it reads, {len(short[0].parts)}"
        )
    return reads


def _columns(here: Queries, stage: Stage, reads: list[Manifest]) -> list[tuple[Manifest, tuple[str, ...]]]:
    """Which columns the stage takes of which input; where several have one, the newest form of it counts."""
    holders: dict[str, Manifest] = {}
    for read in reads:
        holders |= dict.fromkeys(here.columns(read.ref), read)
    wanted = [name for name in stage.reads if name != DOC]
    if missing := [name for name in wanted if name not in holders]:
        raise StoreError(f"{stage.name} reads {', '.join(missing[:3])}, which this run's inputs do not have: run again")
    taken: dict[str, list[str]] = {}
    for name in wanted:
        taken.setdefault(holders[name].ref, []).append(name)
    return [(read, tuple(taken[read.ref])) for read in reads if read.ref in taken]


def _adopted(here: Queries, made: Manifest) -> list[Path]:
    """The files from outside that a gate was given, such as lists of addresses; StoreError where one is no longer there."""
    if not any(ref.startswith("adopt/") for ref in made.reads):
        return []
    paths = []
    for file in _files_in(made.params):  # in the order in which the flow gives them
        path = here.settings.models / str(file["name"])
        if not path.is_file() or here.store.input_digest(path) != file["sha256"]:
            raise StoreError(f"{made.ref} cannot be asked again: {file['name']} is not what it was given")
        paths.append(path)
    return paths


def _files_in(params: Any) -> Iterator[dict[str, Any]]:
    if isinstance(params, dict) and params.keys() == File.model_fields.keys():
        yield params
    elif isinstance(params, dict | list):
        for value in params.values() if isinstance(params, dict) else params:
            yield from _files_in(value)


def _extra(here: Queries, manifest: Manifest) -> Any:
    paths = dict(zip((part.label for part in manifest.parts), here.paths(manifest.ref), strict=True))
    return paths if manifest.shape in ("tables", "folders") else (manifest.shape, next(iter(paths.values())))
