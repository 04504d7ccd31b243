"""What pages ask of a store: runs, manifests, records, columns, and SQL of ours over part files laid side by side."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from polylm.dashboard.cache import PATIENCE_SECONDS, Cache
from polylm.dashboard.database import Database
from polylm.dashboard.errors import BadRequest, Damaged, Missing, Notes
from polylm.dashboard.store_reading import Manifest, Runs, StoreReader, reading
from polylm.deployments.settings import Settings
from polylm.tasks import keys
from polylm.tasks.maintenance import seal
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.store import Artifact, Record, StoreError, read_columns, read_record

Told = TypeVar("Told", bound=BaseModel)
_VALUES = 2_000  # results that are held


@dataclass(frozen=True)
class Facts:
    """What the jobs of an artifact cost when they were made, in whichever run that was."""

    jobs: int
    seconds: float  # of all jobs, one after the other
    cpu_seconds: float
    peak_bytes: int  # of the largest process
    disk_bytes: int
    finished: str  # of the last job, ISO 8601


@dataclass(frozen=True)
class Place:
    """Where a document is: the index of its part in every table of rows, and its row there."""

    address: str
    part: int
    row: int
    number: int


class Queries:
    """One for the application; its methods may be called from any number of threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.reader = StoreReader(settings.store)
        self.store = self.reader.store
        self.cache = Cache(_VALUES, workers=2)
        self._database = Database(self.store.root / "parts")

    def runs(self) -> Runs:
        return self.reader.runs()

    def run(self, run_id: str) -> Run:
        return self.reader.run(run_id)

    def entry(self, run: Run, stage: str, artifact: str = "") -> Entry:
        """A stage of a run: the last of that name, or the one whose artifact's key begins with `artifact`."""
        known = run.entries(stage)
        found = [entry for entry in known if entry.artifact.partition("/")[2].startswith(artifact)]
        if not found:
            there = ", ".join(dict.fromkeys(entry.stage for entry in run.stages)) or "none yet"
            raise Missing(f"The run {run.id} has no stage {stage[:80]!r}; it has {there}.")
        return found[-1]

    def manifest(self, of: Entry | str) -> Manifest:
        return self.reader.manifest(of if isinstance(of, str) else of.artifact)

    def params(self, of: Entry | str, shown: type[Told]) -> Told:
        """Those params of an artifact that a page shows, in the types that it needs; StoreError where they are others."""
        manifest = self.manifest(of)
        try:
            return shown.model_validate(manifest.params)
        except ValidationError as error:
            problem = error.errors()[0]
            told = f"{'.'.join(map(str, problem['loc']))[:80]}: {problem['msg'][:200]}"
            raise StoreError(
                f"The manifest of {manifest.ref} has params that its stage does not ({told}): run again."
            ) from error

    def reads(self, of: Entry | str) -> dict[str, Manifest]:
        """The manifests of what an artifact was made from, by stage, in the order of the stage's inputs."""
        refs = [ref for ref in self.manifest(of).reads if not ref.startswith("adopt/")]
        return {manifest.stage: manifest for manifest in map(self.manifest, refs)}

    def paths(self, of: Entry | str) -> list[Path]:
        """The files, or the folders, of an artifact's parts in their order."""
        return self.reader.part_paths(self.manifest(of))

    def folder(self, of: Entry | str) -> Path:
        """The folder of an artifact that is one; StoreError where its manifest names none."""
        if not (paths := self.paths(of)):
            raise StoreError(f"The manifest of {self.manifest(of).ref} names no folder: run again.")
        return paths[0]

    def artifact(self, of: Entry | str) -> Artifact:
        """An artifact with the records of all its parts: opens every part, so not for pages of large stores."""
        manifest = self.manifest(of)
        return self.cache.get(
            ("artifact", manifest.ref, manifest.key), lambda: self.store.load_artifact(manifest.stage, manifest.key)
        )

    def columns(self, of: Entry | str) -> dict[str, pa.DataType]:
        """Names and types of an artifact's columns; none of a folder or an artifact without parts."""
        manifest = self.manifest(of)
        if manifest.shape.startswith("folder") or not manifest.parts:
            return {}
        return self.cache.get(("columns", manifest.key), lambda: _columns(self.reader.part_paths(manifest)))

    def part(self, of: Entry | str, index: int = 0, columns: Sequence[str] | None = None) -> pa.Table:
        """One part of an artifact, or some of its columns; checksums are verified. Not kept."""
        manifest = self.manifest(of)
        if not 0 <= index < len(manifest.parts):
            raise Missing(f"{manifest.ref} has {len(manifest.parts)} parts, and none of index {index}.")
        self._known(of, columns or ())
        path = self.reader.part_paths(manifest)[index]
        with reading(path):
            read_record(path)  # whether it is this part
            return read_columns(path, list(columns) if columns else None)

    def check_part(self, of: Entry | str, index: int) -> None:
        """Damaged where a part is gone, or its footer is not what was written."""
        path = self.reader.part_paths(self.manifest(of))[index]
        with reading(path):
            seal.read_footer(path)

    def small_table(self, of: Entry | str) -> pa.Table:
        """All parts of a small table (fits, reports, metrics) in one, with the column `job` where there are several."""
        manifest = self.manifest(of)
        return self.cache.get(("table", manifest.key), lambda: self._whole(of, manifest))

    def facts(self, of: Entry | str, patience: float = PATIENCE_SECONDS) -> Facts | None:
        """What an artifact cost, or None while its records are being read."""
        manifest = self.manifest(of)
        return self.cache.soon(("facts", manifest.key), lambda: self._facts(manifest), patience)

    def facts_of(self, run: Run, notes: Notes) -> dict[str, Facts | None]:
        """The facts of all stages of a run whose artifacts are there and whole, by artifact; they share one wait."""
        until = time.monotonic() + PATIENCE_SECONDS
        there = [entry for entry in run.stages if notes.read(lambda entry=entry: self.has(entry), False)]  # type: ignore[misc]
        known: dict[str, Facts | None] = {}
        for patient in (False, True):  # all are asked for before any is waited for
            for entry in list(there):
                try:
                    known[entry.artifact] = self.facts(entry, max(0.0, until - time.monotonic()) if patient else 0.0)
                except StoreError as error:
                    there.remove(entry)  # asked again it would be read again, and be awaited for ever
                    known.pop(entry.artifact, None)
                    notes.add(error)
        return known

    def sql(
        self, statement: str, beside: Mapping[str, Entry | str] | None = None, bind: Sequence[Any] = ()
    ) -> pa.Table:
        """Our own SQL over tables of rows laid side by side, one name each: `SELECT ... FROM {beside}`. Kept.

            here.sql('SELECT l.language, count(*) AS n FROM {beside} WHERE v.rejected_because = ? GROUP BY ALL',
                     beside={"l": language_entry, "v": gate_entry}, bind=["too_short"])

        Every table has the same rows in the same order, so this is a join without a key: ten million rows of four
        columns take 0.3 s on two cores. Values come through `bind` only; nothing from an address may be in `statement`.
        Raises TooSlow after 20 s.
        """
        manifests = {name: self.manifest(of) for name, of in (beside or {}).items()}
        key = ("sql", statement, tuple((n, m.key) for n, m in manifests.items()), tuple(map(repr, bind)))
        return self.cache.get(key, lambda: self._ask(statement, manifests, bind))

    def sql_soon(
        self, statement: str, beside: Mapping[str, Entry | str] | None = None, bind: Sequence[Any] = ()
    ) -> pa.Table | None:
        """As `sql`, for costly questions: None where the answer is not there in a moment. Ask again later."""
        key = ("soon", statement, tuple((n, self.manifest(of).key) for n, of in (beside or {}).items()), repr(bind))
        return self.cache.soon(key, lambda: self.sql(statement, beside, bind))

    def documents(self, run: Run) -> int | None:
        """How many documents a run has read."""
        entries = run.entries("ingest")
        return entries[-1].rows if entries else None

    def survivors(self, run: Run) -> int | None:
        """How many of them no gate rejected; None before that is known."""
        entries = run.entries("count_survivors")
        return (
            sum(self.small_table(entries[-1])["documents"].to_pylist()) if entries and self.has(entries[-1]) else None
        )

    def has(self, of: Entry | str) -> bool:
        """Whether an artifact's manifest is there: an old run's may have been collected as garbage."""
        try:
            self.manifest(of)
        except Missing:
            return False
        return True

    def place(self, run: Run, address: str) -> Place:
        """Where the document `source.part.row` is; BadRequest or Missing say what there is."""
        raw = self.manifest(self.entry(run, "ingest"))
        try:
            source, number, row = keys.parse_address(address, list(raw.sources))
        except ValueError as error:
            raise BadRequest(str(error)[:400]) from error
        for index, part in enumerate(raw.parts):
            if part.label == f"{source}.{number}" and row < part.rows and address == f"{part.label}.{row}":
                return Place(address, index, row, (part.number or 0) + row)
        raise Missing(f"The run {run.id} has no document {address[:100]}.")

    def address(self, run: Run, part: int, row: int) -> str:
        """The address of a row of a part, by the part's index."""
        raw = self.manifest(self.entry(run, "ingest"))
        return f"{raw.parts[part].label}.{row}"

    def _known(self, of: Entry | str, columns: Sequence[str]) -> None:
        if unknown := set(columns) - set(self.columns(of)):
            raise Missing(f"{self.manifest(of).ref} has no column {', '.join(sorted(unknown))[:100]}.")

    def _whole(self, of: Entry | str, manifest: Manifest) -> pa.Table:
        tables = [self.part(of, index) for index in range(len(manifest.parts))]
        if len(tables) == 1:
            return tables[0]
        labelled = [
            table.append_column("job", pa.array([part.label] * table.num_rows, pa.string()))
            for part, table in zip(manifest.parts, tables, strict=True)
        ]
        return pa.concat_tables(labelled) if labelled else pa.table({})

    def _facts(self, manifest: Manifest) -> Facts:
        keys_of_jobs = list(dict.fromkeys(manifest.jobs or (part.key for part in manifest.parts)))
        records = [self._record(manifest, key) for key in keys_of_jobs]
        facts = [record.facts for record in records if record is not None]
        return Facts(
            jobs=len(facts),
            seconds=sum(_number(fact.get("seconds")) for fact in facts),
            cpu_seconds=sum(_number(fact.get("cpu_seconds")) for fact in facts),
            peak_bytes=int(max((_number(fact.get("peak_bytes")) for fact in facts), default=0)),
            disk_bytes=sum(_size(path) for path in self.reader.part_paths(manifest)),
            finished=max((str(fact.get("finished", "")) for fact in facts), default=""),
        )

    def _record(self, manifest: Manifest, key: str) -> Record | None:
        with reading(self.store.path(manifest.shape, manifest.stage, key)):
            return self.store.record(manifest.shape, manifest.stage, key)

    def _ask(self, statement: str, manifests: Mapping[str, Manifest], bind: Sequence[Any]) -> pa.Table:
        files = {name: [str(path) for path in self.reader.part_paths(m)] for name, m in manifests.items()}
        return self._database.ask(statement, files, bind)


def _of(request: Request) -> Queries:
    queries: Queries = request.app.state.queries
    return queries


Here = Annotated[Queries, Depends(_of)]
"""What a page's function takes to ask the store: `def show(request: Request, here: Here) -> Response`."""


def _columns(paths: Sequence[Path]) -> dict[str, pa.DataType]:
    """Names and types, the same in all parts: from the first that can be read."""
    problems: list[Damaged] = []
    for path in paths:
        try:
            return _schema(path)
        except Damaged as error:
            problems.append(error)
    raise problems[0]


def _schema(path: Path) -> dict[str, pa.DataType]:
    with reading(path):
        schema = pq.read_schema(pa.BufferReader(b"PAR1" + seal.read_footer(path)))
        return {field.name: field.type for field in schema}


def _number(told: Any) -> float:
    """A measured number; 0 of what is none, in a record that was written by hand."""
    return float(told) if isinstance(told, int | float) and abs(told) < 2**63 else 0.0


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path] if path.exists() else []
    return sum(file.stat().st_size for file in files if file.is_file())
