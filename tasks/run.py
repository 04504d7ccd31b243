"""`run(stage, params, *inputs, where=gates)`: the one verb of a flow. `plan` is the same flow in another mode.

It names the jobs of a stage by their keys, takes what the store has, builds the rest in the session's pool, and
returns the artifact. In a plan it builds only gates and cheap fits (seconds; the run finds them), and a job that reads
something not yet built has no key: the plan is exact up to there, and says "at most" past it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from pydantic import BaseModel

from polylm.tasks import build, keys
from polylm.tasks.build import Failure, Job
from polylm.tasks.jobs import jobs_of
from polylm.tasks.maintenance.files import write_json
from polylm.tasks.pool import Pool
from polylm.tasks.session import Session, StageReport, current
from polylm.tasks.stage import Params, Progress, Stage, StageError
from polylm.tasks.store import Artifact, Part, Record, Shape

INLINE_ROWS = 50_000  # gates and fits over fewer rows are faster here than in another process, and small


class StageFailed(Exception):
    """Jobs of one stage failed; the others are finished and kept. One message lists them all."""

    def __init__(self, stage: str, failures: Sequence[Failure]) -> None:
        self.stage, self.failures = stage, tuple(failures)
        titles: dict[str, list[str]] = {}  # by message: a server that is away fails every job alike
        for failure in failures:
            titles.setdefault(failure.message, []).append(failure.title)
        shown = "\n".join(f"{_listed(of_message)}: {message}" for message, of_message in list(titles.items())[:20])
        left = sum(len(of_message) for of_message in list(titles.values())[20:])
        more = f"\n... and {left} more" if left else ""
        count = f"{len(failures)} jobs of {stage} failed, the others are kept:\n" if len(failures) > 1 else ""
        super().__init__(f"{count}{shown}{more}")

    def __reduce__(self) -> tuple[Any, ...]:
        return StageFailed, (self.stage, self.failures)

    @property
    def is_mistake(self) -> bool:
        """True where every failure is the user's to mend."""
        return all(failure.mistake for failure in self.failures)

    @property
    def may_pass(self) -> bool:
        """True where every failure is the machine's: a later try may succeed, and finds what is there."""
        return all(failure.lasting for failure in self.failures)


def _listed(titles: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(titles) - shown} more" if len(titles) > shown else ""
    return ", ".join(titles[:shown]) + more


class File(BaseModel):
    """An adopted file: a model or list that comes from outside. Its identity is its content."""

    model_config = {"frozen": True, "extra": "forbid"}

    name: str
    sha256: str


def run(stage: Stage, params: Params, *inputs: Any, where: Sequence[Artifact] = ()) -> Artifact:
    """The artifact that `stage` makes of `inputs`, re-used or built.

    `where` shows the stage only the rows that those gates kept; of a measure, the others become null. Raises
    StageFailed where jobs failed, StageError where inputs do not fit the stage.
    """
    here = current()
    if here.orchestrator is None or not here.building:
        return execute(stage, params, inputs, where)
    reads = [item for item in (*inputs, *where) if isinstance(item, Artifact)]
    return here.orchestrator.task(stage, lambda: execute(stage, params, inputs, where), reads)


def adopt(file: File) -> Artifact:
    """A file from outside as an artifact, looked up by name in `Settings.models` and checked against its digest."""
    here = current()
    path = here.settings.models / file.name
    if not path.exists():
        raise StageError(
            f"{file.name} is not in {here.settings.models}: `make install` fetches it, or give --set a path"
        )
    found = here.store.input_digest(path)
    if found != file.sha256:
        raise StageError(f"{path} has sha256 {found[:16]}..., the recipe wants {file.sha256[:16]}...: fetch it again")
    record = Record("adopt", 1, found, file.name, {}, {"": found}, 0)
    return Artifact("adopt", "file", (Part(found, "", record),), path=path)


def execute(stage: Stage, params: Params, inputs: Sequence[Any], where: Sequence[Artifact]) -> Artifact:
    """Name the stage's jobs, take what is there, build the rest."""
    here, started = current(), time.monotonic()
    if not isinstance(params, stage.params):
        raise StageError(f"{stage.name}: takes {stage.params.__name__}, was given {type(params).__name__}")
    shape = _shape(stage)
    jobs = jobs_of(stage, params, inputs, where, here)
    here.observer.jobs_named(stage, jobs)
    found = {job.key: here.store.record(shape, stage.name, job.key) for job in jobs if job.key}
    todo = [job for job in jobs if job.key and found[job.key] is None]
    exact = all(job.key for job in jobs)
    if stage.kind == "gate":
        here.gates.append(jobs)
    if here.building:
        assert exact, f"{stage.name} reads what is not built"
        _check_code(stage, [(job, record) for job in jobs if (record := found[job.key]) is not None], here)
    if todo and (here.building or (here.mode == "plan" and stage.runs_in_plan)):
        found |= _build_all(stage, todo, here)
    artifact = _assemble(stage, shape, jobs, found, inputs)
    report = _report(stage, jobs, todo, found, artifact, exact)
    report.reads = tuple(
        dict.fromkeys(item.ref for item in (*inputs, *where) if isinstance(item, Artifact) and item.built)
    )
    report.seconds = round(time.monotonic() - started, 3)
    _finish(stage, params, artifact, report, here, jobs)
    return artifact


def _finish(
    stage: Stage, params: Params, artifact: Artifact, report: StageReport, here: Session, jobs: Sequence[Job]
) -> None:
    if here.reached:  # past --until: named as in a plan, neither built nor told
        return
    here.reports.append(report)
    here.artifacts[stage.name] = artifact
    if artifact.built and here.mode == "run":
        report.artifact = artifact.ref
        details: dict[str, Any] = {
            "params": params.model_dump(mode="json"),
            "version": stage.version,
            "reads": report.reads,
        }
        if stage.each == "file":
            details["jobs"] = [job.key for job in jobs]  # whose own files are the tables of bad records
        here.store.write_manifest(artifact, details)
        here.record["stages"].append({**asdict(report), "built": len(report.built)})
        here.record.pop("now", None)
        here.save()
    here.observer.stage_ended(report)
    if here.until == stage.name:
        here.reached = True


def _shape(stage: Stage) -> Shape:
    many = stage.each not in ("whole",)
    if stage.writes is None:
        return "folders" if many else "folder"
    if stage.kind != "files" or stage.aligned or stage.each == "file":
        return "rows"
    return "tables" if many else "table"


def _build_all(stage: Stage, todo: Sequence[Job], here: Session) -> dict[str, Record | None]:
    if here.mode == "plan":
        here.store.open()  # a plan keeps its verdicts: where they cannot be written, that is said at once
    here.observer.stage_begins(stage.name, len(todo))
    here.record["now"] = {"stage": stage.name, "jobs": len(todo), "since": round(time.time(), 2)}  # until it has ended
    here.save()
    rows = sum(part.rows for job in todo for part in job.parts)
    inline = stage.runs_in_plan and rows <= INLINE_ROWS
    pool = Pool(0) if inline else here.pool
    records: dict[str, Record | None] = {}
    failures = []
    code = keys.code_fingerprint(stage.function.__module__)

    def waiting(flying: Sequence[Job]) -> None:
        told = {job.title: Progress.of_job(here.store.root / "work" / job.key / "scratch") for job in flying}
        here.observer.at_work(stage.name, {title: progress for title, progress in told.items() if progress})

    for job, outcome in pool.run([replace(job, code=code) for job in todo], waiting=waiting):
        here.observer.job_ended(stage.name, outcome)
        if isinstance(outcome, Failure):
            failures.append(outcome)
        else:
            records[job.key] = outcome.record
    if failures:
        raise StageFailed(stage.name, sorted(failures, key=lambda failure: failure.title))
    return records


def _check_code(stage: Stage, reused: Sequence[tuple[Job, Record]], here: Session) -> None:
    """Before parts of older code are mixed with new ones: today's code must make the smallest of them again, equal."""
    if not reused or stage.each != "part":
        return
    now = keys.code_fingerprint(stage.function.__module__)
    older = [(job, record) for job, record in reused if record.code != now]
    for code in sorted({record.code for _, record in older}):
        passed = here.store.root / "checked" / f"{stage.name}-{stage.version}-{code}-{now}.json"
        if passed.exists():
            continue
        job, record = min(((j, r) for j, r in older if r.code == code), key=lambda pair: pair[1].rows)
        made = build.recompute(job)
        if isinstance(made, Failure) or made != record.columns:
            what = made.message if isinstance(made, Failure) else _differences(made, record.columns)
            raise StageError(
                f"{stage.name}: its code changed since {record.label} was made ({record.facts.get('finished')}), and now "
                f"gives other content ({what}): raise its version to {stage.version + 1}, or undo the change"
            )
        write_json(passed, {"part": record.label, "key": record.key})


def _differences(made: Mapping[str, str], there: Mapping[str, str]) -> str:
    return "columns " + ", ".join(name for name in sorted({*made, *there}) if made.get(name) != there.get(name))


def _assemble(
    stage: Stage, shape: Shape, jobs: Sequence[Job], found: Mapping[str, Record | None], inputs: Sequence[Any]
) -> Artifact:
    columns = tuple(stage.writes.names) if stage.writes is not None else ()
    if stage.each == "file":
        return _assemble_documents(stage, jobs, found, columns)
    numbers: dict[str, int | None] = {}
    sources: tuple[str, ...] = ()
    for item in inputs:
        if isinstance(item, Artifact) and item.shape == "rows":
            numbers = {part.label: part.number for part in item.parts}
            sources = item.sources
    parts = tuple(
        Part(job.key or None, job.label, found.get(job.key) if job.key else None, numbers.get(job.label))
        for job in jobs
    )
    return Artifact(stage.name, shape, parts, columns, sources)


def _assemble_documents(
    stage: Stage, jobs: Sequence[Job], found: Mapping[str, Record | None], columns: tuple[str, ...]
) -> Artifact:
    """The parts of all ingest jobs in order; a source is numbered once all its jobs have ended."""
    sources = tuple(dict.fromkeys(job.piece.source for job in jobs))
    parts: list[Part] = []
    for index, source in enumerate(sources):
        mine = [(job, found[job.key]) for job in jobs if job.piece.source == source]
        known = all(record is not None for _, record in mine)
        count = 0
        for job, record in mine:
            if record is None:
                parts.append(Part(None, job.label))
                continue
            for entry in record.parts:
                number = keys.number(index, count) if known else None
                own = Record(stage.name, stage.version, entry["key"], job.label, {}, entry["columns"], entry["rows"])
                parts.append(Part(entry["key"], f"{source}.{count}", own, number))
                count += 1
    return Artifact(stage.name, "rows", tuple(parts), columns, sources)


def _report(
    stage: Stage,
    jobs: Sequence[Job],
    todo: Sequence[Job],
    found: Mapping[str, Record | None],
    artifact: Artifact,
    exact: bool,
) -> StageReport:
    waiting = [job.label for job in jobs if not job.key]
    reasons: dict[str, int] = {}
    for job in jobs:  # not records: parts of equal content have one record, and count twice
        record = found.get(job.key)
        for reason, count in (record.reasons if record else {}).items():
            reasons[reason] = reasons.get(reason, 0) + count
    return StageReport(
        stage=stage.name,
        jobs=len(jobs),
        reused=len(jobs) - len(todo) - len(waiting),
        built=[job.label for job in todo] + waiting,
        exact=exact,
        rows=sum(part.record.rows for part in artifact.parts if part.record),
        reasons=reasons,
    )
