"""What the trainings of a run tell, finished or still at work: steps, languages, cells and events as tables."""

import json
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from polylm.dashboard.funnel import packed_tokens
from polylm.dashboard.queries import Queries
from polylm.dashboard.store_reading import reading
from polylm.tasks.maintenance.files import read_json
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.store import StoreError

STAGES = ("pretrain", "finetune")
STEPS = {
    "step": pa.int64(),
    "loss": pa.float64(),
    "grad_norm": pa.float64(),
    "rate": pa.float64(),
    "tokens": pa.int64(),
    "skipped": pa.string(),
    "seconds": pa.float64(),
    "tokens_per_second": pa.float64(),
}
SPEED = ("seconds", "tokens_per_second")
BY_LANGUAGE = {"step": pa.int64(), "language": pa.string(), "nll": pa.float64(), "tokens": pa.int64()}
BY_CELL = {"step": pa.int64(), "cell": pa.string(), "rows": pa.int64()}
EVENTS = {"time": pa.float64(), "event": pa.string(), "step": pa.int64(), "detail": pa.string()}
_JOB = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 8 << 20  # of a journal that are parsed at a time
Floats = NDArray[np.float64]


class Guard(BaseModel):
    """From when on a step stands out."""

    window: int = Field(128, ge=1, lt=2**31)
    deviations: float = Field(6.0, allow_inf_nan=False)


class TrainingParams(BaseModel):
    """What the pages show of a training's params, as its manifest or its job says it."""

    segment: str = ""
    steps: int = Field(0, ge=0, lt=2**53)
    batch: int | None = Field(None, ge=0, lt=2**53)
    guard: Guard = Guard()


@dataclass(frozen=True)
class Training:
    """One segment of a run. Its own steps count from 1; on the page they come after the `before` steps of others."""

    segment: str
    state: str  # completed, running or interrupted
    planned: int
    before: int
    params: TrainingParams
    entry: Entry | None = None  # None while it is not finished
    folder: Path | None = None  # of the artifact, or of the work in progress

    @property
    def is_finished(self) -> bool:
        return self.entry is not None


def trainings_of(here: Queries, run: Run) -> list[Training]:
    """The trainings of a run in their order; the last may be at work."""
    found: list[Training] = []
    for entry in (entry for entry in run.stages if entry.stage in STAGES and here.has(entry)):
        params = here.params(entry, TrainingParams)
        before = sum(one.planned for one in found)
        name = params.segment or entry.stage
        found.append(Training(name, "completed", params.steps, before, params, entry, here.folder(entry)))
    state = "running" if run.state == "running" else "interrupted"
    for folder, params in _at_work(here, run, {one.segment for one in found}):
        before = sum(one.planned for one in found)
        found.append(Training(params.segment, state, params.steps, before, params, folder=folder / "scratch/training"))
    return found


def steps(training: Training, first: int = 1, last: int | None = None) -> pa.Table:
    """Steps `first` to `last` of a training, with how fast they went."""
    if not training.is_finished:
        return _between(_journal(training).table("steps"), first, last)
    assert training.folder is not None
    told = _read(training.folder / "metrics.parquet", [name for name in STEPS if name not in SPEED], first, last)
    speed = _read(training.folder / "logs" / "speed.parquet", list(SPEED), first, last)
    for name in SPEED:
        known = speed[name] if speed.num_rows == told.num_rows else pa.nulls(told.num_rows, pa.float64())
        told = told.append_column(name, known)
    return told


def by_language(training: Training, first: int = 1, last: int | None = None) -> pa.Table:
    """Summed loss in nats and tokens, by step and language."""
    if not training.is_finished:
        return _between(_journal(training).table("languages"), first, last)
    assert training.folder is not None
    return _read(training.folder / "metrics_by_language.parquet", list(BY_LANGUAGE), first, last)


def rows_by_cell(here: Queries, training: Training) -> dict[str, int]:
    """Packed rows that were dealt from every cell of the mixture."""
    if not training.is_finished:
        return _sum(_journal(training).table("cells"))
    assert training.entry is not None
    assert training.folder is not None
    path = training.folder / "metrics_by_cell.parquet"
    return here.cache.get(
        ("dealt", training.entry.artifact), lambda: _sum(_read(path, list(BY_CELL), 1, None)) if path.exists() else {}
    )


def events(training: Training) -> list[dict[str, Any]]:
    """What happened, in its order: starts, checkpoints, skips, rollbacks; `detail` is JSON text."""
    if training.folder is None:
        return []
    if training.is_finished:
        path = training.folder / "logs" / "events.parquet"
        return _rows(path)
    path = training.folder / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [_parsed(line, path) for line in lines if line.endswith(b"\n")]


def bytes_per_token(here: Queries, run: Run) -> dict[str, float] | None:
    """Bytes of a token in each language's training text, which turns nats a token into bits a byte; None: being counted.

    The bytes of selected training documents over the tokens packed of them; of languages that were not packed, what the
    tokenizer measured on held-out text.
    """
    known = _held_out_bytes_per_token(here, run)
    tokens, beside = packed_tokens(here, run), {}
    for name, stage in {"l": "identify_language", "m": "measure_text", "s": "select", "p": "assign_split"}.items():
        entries = run.entries(stage)
        if not entries or not here.has(entries[-1]):
            return known
        beside[name] = entries[-1]
    rows = here.sql_soon(
        "SELECT l.language AS language, sum(m.bytes * s.weight) AS bytes FROM {beside} "
        "WHERE s.weight IS NOT NULL AND p.split = 'train' AND NOT ends_with(s.cell, '/pair') GROUP BY 1",
        beside=beside,
    )
    if rows is None:
        return None
    packed = {
        row["language"]: float(row["bytes"]) / tokens[row["language"]]
        for row in rows.to_pylist()
        if tokens.get(row["language"])
    }
    return known | packed


def outliers(values: Floats, deviations: float, window: int, minimum: int = 16) -> NDArray[np.bool_]:
    """Which values stand above mean + `deviations` standard deviations of up to `window` values before, as the guard judges."""
    clean = np.where(np.isfinite(values), values, 0.0)
    sums, squares = (np.concatenate([[0.0], np.cumsum(v)]) for v in (clean, clean**2))
    at = np.arange(len(values))
    start = np.maximum(0, at - window)
    count = np.maximum(at - start, 2)
    mean = (sums[at] - sums[start]) / count
    spread = np.sqrt(np.maximum(0.0, (squares[at] - squares[start]) / count - mean**2) * count / (count - 1))
    judged: NDArray[np.bool_] = (at >= minimum) & (values > mean + deviations * np.maximum(spread, 1e-9))
    return judged | ~np.isfinite(values)


def _held_out_bytes_per_token(here: Queries, run: Run) -> dict[str, float]:
    entries = run.entries("train_tokenizer")
    if not entries or not here.has(entries[-1]):
        return {}
    path = here.folder(entries[-1]) / "statistics.parquet"
    rows = _rows(path, ["language", "bytes_per_token"])
    return {row["language"]: row["bytes_per_token"] for row in rows if row["bytes_per_token"]}


def _at_work(here: Queries, run: Run, finished: set[str]) -> Iterator[tuple[Path, TrainingParams]]:
    """Folders of training jobs that begin with weights of this run and have its params; none of a job that is damaged."""
    weights = {
        part.key
        for stage in ("initialize", *STAGES)
        for entry in run.entries(stage)
        if here.has(entry)
        for part in here.manifest(entry).parts
    }
    if run.state == "completed" or not weights:
        return
    for path in sorted((here.store.root / "work").glob("*/scratch/job.json")):
        told = _told(read_json(path)) if _JOB.fullmatch(path.parts[-3]) else None
        if told is None:
            continue
        params, own, begins_with = told
        wanted = run.recipe.get(params.segment, {})
        same = isinstance(wanted, Mapping) and all(wanted.get(name, value) == value for name, value in own.items())
        if same and begins_with in weights and params.segment not in finished:
            yield path.parents[1], params


def _told(job: Any) -> tuple[TrainingParams, dict[str, Any], str] | None:
    """Of a job, what its params say too, as values and as it stands there, and the weights that it begins with."""
    names = ("batch", "seed", "optimizer", "guard", "checkpoint_every")
    try:
        segment = job["segments"][0]
        own = {"segment": segment["name"], "steps": segment["steps"]} | {n: job[n] for n in names if n in job}
        return TrainingParams.model_validate(own), own, Path(job["initial_weights"]).name
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _read(path: Path, columns: list[str], first: int, last: int | None) -> pa.Table:
    bounds = [("step", ">=", first), *([("step", "<=", last)] if last is not None else [])]
    with reading(path):
        return pq.read_table(path, columns=columns, filters=bounds)


def _rows(path: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """A small table of a folder as rows; none where there is no such file."""
    if not path.exists():
        return []
    with reading(path):
        rows: list[dict[str, Any]] = pq.read_table(path, columns=columns).to_pylist()
        return rows


def _between(table: pa.Table, first: int, last: int | None) -> pa.Table:
    chosen = pc.greater_equal(table["step"], first)
    return table.filter(chosen if last is None else pc.and_(chosen, pc.less_equal(table["step"], last)))


def _sum(cells: pa.Table) -> dict[str, int]:
    summed = cells.group_by("cell").aggregate([("rows", "sum")]).to_pylist()
    return {row["cell"]: row["rows_sum"] for row in sorted(summed, key=lambda row: str(row["cell"]))}


@dataclass
class _Journal:
    """A growing `metrics.jsonl` as tables: each line is parsed once; from the start again where the file was replaced."""

    path: Path
    lock: threading.Lock = field(default_factory=threading.Lock)
    read_to: int = 0
    inode: int = 0
    tables: dict[str, list[pa.Table]] = field(default_factory=dict)

    def table(self, name: str) -> pa.Table:
        kind = {"steps": STEPS, "languages": BY_LANGUAGE, "cells": BY_CELL}[name]
        with self.lock:
            self._catch_up()
            pieces = self.tables.get(name, [])
            if len(pieces) > 1:
                self.tables[name] = pieces = [pa.concat_tables(pieces).combine_chunks()]
            return pieces[0] if pieces else pa.schema(list(kind.items())).empty_table()

    def _catch_up(self) -> None:
        try:
            file = self.path.open("rb")
        except FileNotFoundError:  # it has not begun, or has just ended
            return
        with file:
            inode, size = _identity(file.fileno())
            if inode != self.inode or size < self.read_to:
                self.inode, self.read_to, self.tables = inode, 0, {}
            file.seek(self.read_to)
            while whole := _whole_lines(file.read(_CHUNK_BYTES)):
                self._add([_parsed(line, self.path) for line in whole])
                self.read_to += sum(map(len, whole))
                file.seek(self.read_to)

    def _add(self, lines: list[dict[str, Any]]) -> None:
        languages = [
            {"step": line["step"], "language": language, "nll": nll, "tokens": tokens}
            for line in lines
            for language, (nll, tokens) in line["languages"].items()
        ]
        cells = [
            {"step": line["step"], "cell": cell, "rows": rows} for line in lines for cell, rows in line["rows"].items()
        ]
        for name, kind, rows in (
            ("steps", STEPS, lines),
            ("languages", BY_LANGUAGE, languages),
            ("cells", BY_CELL, cells),
        ):
            self.tables.setdefault(name, []).append(_table(rows, kind))


_journals: dict[Path, _Journal] = {}


def _journal(training: Training) -> _Journal:
    assert training.folder is not None
    path = training.folder / "metrics.jsonl"
    for gone in [known for known in list(_journals) if not known.exists()]:
        _journals.pop(gone, None)
    return _journals.setdefault(path, _Journal(path))


def _identity(descriptor: int) -> tuple[int, int]:
    stat = os.fstat(descriptor)
    return stat.st_ino, stat.st_size


def _whole_lines(piece: bytes) -> list[bytes]:
    return [line for line in piece.splitlines(keepends=True) if line.endswith(b"\n")]


def _parsed(line: bytes, path: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise StoreError(f"A line of {path.name} of a training in progress is damaged ({error}).") from error
    return told


def _table(rows: Iterable[Mapping[str, Any]], kind: Mapping[str, pa.DataType]) -> pa.Table:
    return pa.Table.from_pylist([{name: row.get(name) for name in kind} for row in rows], pa.schema(list(kind.items())))
