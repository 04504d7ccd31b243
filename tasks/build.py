"""One job, in whatever process it runs: read, call the stage's function, check, write.

A worker gets a `Job` and returns a `Done` or a `Failure`; it knows neither the flow nor other jobs.
"""

import os
import resource
import shutil
import socket
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polylm.tasks import keys, rules
from polylm.tasks.maintenance.verify import whole
from polylm.tasks.stage import DOC, REASON, Params, Stage, StageError, Workspace, installed
from polylm.tasks.store import Record, Shape, Store, read_columns


@dataclass(frozen=True)
class PartInput:
    """What a job reads of one part: file and columns, the gates that hide rows, and the number of its first row."""

    files: tuple[tuple[str, str, tuple[str, ...]], ...]  # stage, key, columns
    where: tuple[tuple[str, str], ...]  # stage, key of each gate
    number: int | None
    rows: int


@dataclass(frozen=True, eq=False)
class Job:
    """All that a worker needs to make one output."""

    stage: Stage
    params: Params
    key: str
    label: str
    identity: Mapping[str, Any]
    store: Path
    parts: tuple[PartInput, ...] = ()
    extras: tuple[Any, ...] = ()  # ("table" | "folder", path) or a dict of them by job
    piece: Any = None  # of an input file, for each="file"
    name: str | None = None  # of the job, for each="language", "task", "band"
    code: str = ""  # of the stage, which takes a second to find out: not in every worker

    @property
    def title(self) -> str:
        return f"{self.stage.name} {self.label}".strip()


@dataclass(frozen=True)
class Failure:
    """Why a job failed, in a form that crosses processes."""

    title: str
    message: str
    kind: str  # the exception's type
    mistake: bool = False  # the user's: a ValueError
    lasting: bool = False  # the machine's: an OSError that did not pass
    trace: str = ""


@dataclass(frozen=True)
class Done:
    record: Record
    seconds: float = field(compare=False, default=0.0)


def build(job: Job) -> Done | Failure:
    """Make one output, or say why not; every error is caught here, because it must cross to another process whole."""
    try:
        record = make(job)
    except Exception as error:
        mistake, lasting = isinstance(error, ValueError), isinstance(error, OSError)
        text = str(error) or type(error).__name__
        return Failure(job.title, text, type(error).__name__, mistake, lasting, traceback.format_exc())
    return Done(record, record.facts["seconds"])


def make(job: Job) -> Record:
    """Make and commit one output; where it is there already (another run was faster), return its record."""
    store = Store(job.store)
    stage = job.stage
    shape: Shape = "folder" if stage.writes is None else "table"
    long = stage.kind == "files" and stage.each not in ("part", "file") and not stage.cheap
    with store.locked(job.key) if long or shape == "folder" else nullcontext(None) as work:
        if (there := store.record(shape, stage.name, job.key)) is not None:
            _leave(work)
            return there
        if stage.each == "file":
            return _make_documents(job, store)
        watch = _Watch()
        space = _workspace(job, store, work) if work else None
        if shape == "folder":
            assert space is not None
            record = _make_folder(job, store, space, watch)
        else:
            table, details = compute(job, store, space)
            record = store.commit_table(table, record_of(job, table, watch, **details))
        _leave(work)
        return record


def _leave(work: Path | None) -> None:
    """Remove a job's folder; one who waits for its lock finds the record, and may put a new lock there meanwhile."""
    if work:
        shutil.rmtree(work, ignore_errors=True)


def compute(job: Job, store: Store, space: Workspace | None = None) -> tuple[pa.Table, dict[str, Any]]:
    """The table that the job's stage makes, checked against what it declares, and the record's details."""
    stage, extras = job.stage, [load(extra) for extra in job.extras]
    if stage.kind == "files" and stage.each != "part":
        return _checked(stage, _call_whole(job, store, extras, space)), {}
    shown = Shown.read(job, store)
    if stage.kind == "gate":
        verdicts = rules.judge(stage(shown.for_gate(), job.params, *extras), shown.any_null(), stage.name)
        kept = np.packbits(np.asarray(verdicts.is_null())).tobytes()
        details = {"reasons": rules.count_reasons(verdicts), "kept": keys.digest([len(verdicts), kept.hex()])}
        return _checked(stage, pa.table({REASON: verdicts})), details
    if shown.rows == 0 and (stage.kind == "measure" or stage.aligned):
        return _nulls(stage, len(shown.mask)), {}
    output = stage(shown.columns, job.params, *extras)
    if not isinstance(output, pa.Table):
        output = _columns(stage, output)
    table = _checked(stage, output)
    return (shown.scatter(stage, table) if stage.kind == "measure" or stage.aligned else table), {}


def record_of(job: Job, table: pa.Table, watch: "_Watch", **details: Any) -> Record:
    stage = job.stage
    return Record(
        stage=stage.name,
        version=stage.version,
        key=job.key,
        label=job.label,
        identity=dict(job.identity),
        columns=keys.contents(table),
        rows=table.num_rows,
        code=job.code or keys.code_fingerprint(stage.function.__module__),
        facts=watch.facts(stage),
        **details,
    )


def recompute(job: Job) -> dict[str, str] | Failure:
    """The content digests that today's code gives a finished job; nothing is written."""
    try:
        return keys.contents(compute(job, Store(job.store))[0])
    except Exception as error:
        return Failure(job.title, str(error), type(error).__name__, trace=traceback.format_exc())


@dataclass(frozen=True)
class Shown:
    """The rows of one part that `where` lets a stage see."""

    columns: dict[str, pa.Array]
    mask: np.ndarray[Any, np.dtype[np.bool_]]  # over all rows of the part

    @property
    def rows(self) -> int:
        return int(self.mask.sum())

    @classmethod
    def read(cls, job: Job, store: Store) -> "Shown":
        return cls.of(job.parts[0], store)

    @classmethod
    def of(cls, part: PartInput, store: Store) -> "Shown":
        columns: dict[str, pa.Array] = {}
        rows = part.rows
        for stage, key, names in part.files:
            table = read_columns(store.part_path(stage, key), list(names))
            assert table.num_rows == rows, f"{stage} has {table.num_rows} rows, {rows} expected"
            columns |= {name: keys.contiguous(table[name]) for name in names}
        verdicts = [read_columns(store.part_path(stage, key), [REASON])[REASON] for stage, key in part.where]
        if part.number is not None:
            columns[DOC] = pa.array(np.arange(part.number, part.number + rows, dtype=np.int64))
        mask = np.ones(rows, np.bool_)
        for verdict in verdicts:
            assert len(verdict) == rows, f"a verdict on {len(verdict)} rows, {rows} expected"
            mask &= np.asarray(verdict.is_null())
        if not mask.all():
            columns = {name: values.filter(pa.array(mask)) for name, values in columns.items()}
        return cls(columns, mask)

    def for_gate(self) -> dict[str, Any]:
        """Numbers as float64 with null = NaN; labels dictionary-encoded; document numbers, too large for that, int64."""
        seen = {name: _as_gate_sees(values) for name, values in self.columns.items() if name != DOC}
        return seen | ({DOC: self.columns[DOC].to_numpy()} if DOC in self.columns else {})

    def any_null(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        nulls = np.zeros(self.rows, np.bool_)
        for values in self.columns.values():
            if values.null_count:
                nulls |= np.asarray(values.is_null())
        return nulls

    def scatter(self, stage: Stage, table: pa.Table) -> pa.Table:
        """Put results back where their rows were; the others become null."""
        if table.num_rows != self.rows:
            raise StageError(f"{stage.name}: shown {self.rows} rows, it gave {table.num_rows}")
        if self.mask.all():
            return table
        places = np.cumsum(self.mask) - 1
        return table.take(pa.array(np.where(self.mask, places, 0), mask=~self.mask))


@dataclass(frozen=True)
class PartsCorpus:
    """All parts of a corpus, one in memory at a time (`stage.Corpus`): its columns are gone when the next is asked for."""

    parts: Sequence[PartInput]
    store: Store

    def __iter__(self) -> Iterator[dict[str, pa.Array]]:
        for part in self.parts:
            columns = Shown.of(part, self.store).columns
            yield columns
            columns.clear()  # the loop that asks for the next part still holds this dict
            pa.default_memory_pool().release_unused()

    def __len__(self) -> int:
        return len(self.parts)


class _Watch:
    """Execution facts of a job: seconds, CPU seconds, the process's peak memory so far, host."""

    def __init__(self) -> None:
        self.started, self.cpu = time.monotonic(), _cpu_seconds()

    def facts(self, stage: Stage) -> dict[str, Any]:
        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return {
            "seconds": round(time.monotonic() - self.started, 4),
            "cpu_seconds": round(_cpu_seconds() - self.cpu, 4),
            "peak_bytes": peak * 1024,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "versions": {"polylm": installed("polylm"), "pyarrow": pa.__version__, **stage.library_versions()},
        }


def _workspace(job: Job, store: Store, work: Path) -> Workspace:
    space = Workspace(work / "out", work / "scratch", store.root / "work" / job.stage.name)
    shutil.rmtree(space.out, ignore_errors=True)
    for folder in (space.out, space.scratch, space.shared):
        folder.mkdir(exist_ok=True)
    return space


def _make_folder(job: Job, store: Store, space: Workspace, watch: "_Watch") -> Record:
    extras = [load(extra) for extra in job.extras]
    metrics = _call_whole(job, store, extras, space) or {}
    return store.commit_folder(space.out, record_of(job, pa.table({}), watch, metrics=dict(metrics)))


def _make_documents(job: Job, store: Store) -> Record:
    """An ingest job: parts as they come, then the table of bad records, whose footer lists the parts."""
    watch = _Watch()
    parts: list[dict[str, Any]] = []
    pieces = job.stage(job.piece, job.params)
    while True:
        try:
            table = _checked(job.stage, next(pieces))
        except StopIteration as stop:
            bad = stop.value
            break
        key = f"{job.key}.{len(parts)}"
        record = record_of(job, table, watch)
        store.commit_table(table, record, key=key)
        parts.append({"key": key, "rows": table.num_rows, "columns": record.columns, "facts": record.facts})
    record = record_of(job, bad, watch, parts=parts, reasons=rules.count_reasons(keys.contiguous(bad["reason"])))
    return store.commit_table(bad, record)


def _call_whole(job: Job, store: Store, extras: Sequence[Any], work: Workspace | None) -> Any:
    stage = job.stage
    named = {"work": work, "job": job.name}
    wanted = {name: value for name, value in named.items() if name in stage.takes}
    corpus = [PartsCorpus(job.parts, store)] if stage.reads else []
    return stage(*corpus, job.params, *extras, **wanted)


def _columns(stage: Stage, output: Mapping[str, Any]) -> pa.Table:
    assert stage.writes is not None
    missing, extra = set(stage.writes.names) - set(output), set(output) - set(stage.writes.names)
    if missing or extra:
        raise StageError(f"{stage.name}: columns missing {sorted(missing)}, not declared {sorted(extra)}")
    return pa.table({name: _rounded(output[name], stage.writes.field(name).type) for name in stage.writes.names})


def _rounded(values: Any, kind: pa.DataType) -> pa.Array:
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    return pc.round(array.cast(kind), 4) if pa.types.is_floating(kind) else array


def _checked(stage: Stage, table: pa.Table) -> pa.Table:
    assert stage.writes is not None
    if table.schema.names != stage.writes.names:
        raise StageError(f"{stage.name}: declares columns {stage.writes.names}, made {table.schema.names}")
    return table.cast(_target(stage.writes, table.schema)).replace_schema_metadata(None).combine_chunks()


def _target(declared: pa.Schema, made: pa.Schema) -> pa.Schema:
    """What is declared, but with the width of binary values that only params know (rows of tokens)."""
    fields = [
        made.field(f.name)
        if pa.types.is_binary(f.type) and pa.types.is_fixed_size_binary(made.field(f.name).type)
        else f
        for f in declared
    ]
    return pa.schema(fields)


def _nulls(stage: Stage, rows: int) -> pa.Table:
    assert stage.writes is not None
    return pa.table({column.name: pa.nulls(rows, column.type) for column in stage.writes})


def load(extra: Any) -> Any:
    """A job's other input, found as it was written: a table, or the path of what the stage reads by itself."""
    if isinstance(extra, dict):
        return {name: whole(path) for name, path in extra.items()}
    shape, path = extra
    return path if shape == "file" else read_columns(path) if shape == "table" else whole(path)


def _as_gate_sees(values: pa.Array) -> Any:
    kind = values.type
    if pa.types.is_dictionary(kind):
        return values
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return values.dictionary_encode()
    return values.cast(pa.float64()).to_numpy(zero_copy_only=False)  # null becomes NaN


def _cpu_seconds() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in usage)
