"""Runs and manifests of a store as values. Whatever an address names is looked up here; none of it becomes a path."""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from polylm.dashboard.cache import Cache
from polylm.dashboard.errors import Missing
from polylm.tasks.store import Shape, Store, StoreError, read_json

_REF = re.compile(r"([a-z0-9_]{1,80})/([0-9a-f]{8,64})")
_FLOW_RUN = re.compile(r"Prefect flow run ([0-9a-f-]{36})")
_PARSED = 4_000  # manifests and run records that are held


@dataclass(frozen=True)
class Entry:
    """One stage of a run, as the run's record has it."""

    stage: str
    jobs: int
    reused: int
    built: int
    seconds: float
    rows: int
    reasons: Mapping[str, int]
    artifact: str  # stage/key, the beginning of the key
    reads: tuple[str, ...]

    @property
    def state(self) -> str:
        return "built" if self.built else "re-used"

    @property
    def rejected(self) -> int:
        return sum(self.reasons.values())


@dataclass(frozen=True)
class Run:
    """A run's record. `state`: running, completed, failed, stopped, interrupted, alarm, awaiting approval, damaged."""

    id: str
    name: str
    state: str
    started: datetime
    seconds: float | None = None
    started_by: str = ""
    error: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[Entry, ...] = ()
    alarms: tuple[Mapping[str, Any], ...] = ()
    now: Mapping[str, Any] = field(default_factory=dict)  # the stage at work: stage, jobs, since
    new: Mapping[str, Any] = field(
        default_factory=dict
    )  # against the run before: since, sources, parts_gone, kept_more
    host: str = ""
    pid: int = 0

    @property
    def flow_run(self) -> str:
        """The id of the Prefect flow run that it is, "" where it is none of a deployment."""
        told = _FLOW_RUN.fullmatch(self.started_by)
        return told[1] if told else ""

    def entries(self, stage: str) -> list[Entry]:
        """All entries of a stage: training stages may be run more than once."""
        return [entry for entry in self.stages if entry.stage == stage]


@dataclass(frozen=True)
class ManifestPart:
    """One part of an artifact; `number` is that of its first document."""

    key: str
    label: str
    number: int | None
    rows: int
    reasons: Mapping[str, int]


@dataclass(frozen=True)
class Manifest:
    """What an artifact is made of, without opening any of its parts."""

    stage: str
    key: str
    shape: Shape
    sources: tuple[str, ...]
    params: Mapping[str, Any]
    version: int
    reads: tuple[str, ...]
    parts: tuple[ManifestPart, ...]
    jobs: tuple[str, ...] = ()  # of an ingest: whose own files are tables of bad records
    alarms: tuple[Mapping[str, Any], ...] = ()

    @property
    def ref(self) -> str:
        return f"{self.stage}/{self.key[:16]}"

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def reasons(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for part in self.parts:
            for reason, count in part.reasons.items():
                counts[reason] = counts.get(reason, 0) + count
        return counts


class StoreReader:
    """Reads run records and manifests, each once as long as its file does not change."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self._parsed = Cache(_PARSED)
        self._manifests: dict[str, Path] = {}

    def runs(self) -> list[Run]:
        """All runs, the newest first."""
        paths = sorted((self.store.root / "runs").glob("*.json"), reverse=True)
        return [self._run(path) for path in paths]

    def run(self, run_id: str) -> Run:
        """A run by its id; Missing where the store has none of that name."""
        for path in (self.store.root / "runs").glob("*.json"):
            if path.stem == run_id:
                return self._run(path)
        raise Missing(f"No run {run_id[:100]!r} in this store.")

    def manifest(self, ref: str) -> Manifest:
        """A manifest by stage/key, where the beginning of the key will do; Missing or StoreError where it cannot."""
        if ref not in self._manifests:
            self._manifests[ref] = self._find(ref)
        path = self._manifests[ref]
        try:
            found = self._once(path, _manifest)
        except FileNotFoundError:
            raise Missing(f"The artifact {ref} is gone from this store.") from None
        if found is None:
            raise StoreError(f"The manifest of {ref} is damaged: the next run of the recipe writes it again.")
        assert isinstance(found, Manifest)
        return found

    def part_paths(self, manifest: Manifest) -> list[Path]:
        return [self.store.path(manifest.shape, manifest.stage, part.key) for part in manifest.parts]

    def _find(self, ref: str) -> Path:
        told = _REF.fullmatch(ref)
        found = list((self.store.root / "artifacts" / told[1]).glob(f"{told[2]}*.json")) if told else []
        if len(found) != 1:
            raise Missing(f"No artifact {ref[:100]!r} in this store." if not found else f"Several artifacts are {ref}.")
        return found[0]

    def _run(self, path: Path) -> Run:
        run = self._once(path, _run)
        assert isinstance(run, Run)
        gone = run.state == "running" and run.host == socket.gethostname() and not psutil.pid_exists(run.pid)
        return replace(run, state="interrupted") if gone else run

    def _once(self, path: Path, parse: Any) -> Any:
        stat = path.stat()
        return self._parsed.get((path, stat.st_mtime_ns, stat.st_size), lambda: parse(path))


def _run(path: Path) -> Run:
    record = read_json(path)
    if not isinstance(record, dict) or "state" not in record:
        return Run(
            path.stem, path.stem.partition("-")[2], "damaged", _started(path.stem), error="its record is damaged"
        )
    return Run(
        id=path.stem,
        name=str(record.get("name", "")),
        state=str(record["state"]),
        started=_started(path.stem),
        seconds=record.get("seconds"),
        started_by=str(record.get("started_by", "")),
        error=str(record.get("error", "")),
        recipe=record.get("recipe") or {},
        stages=tuple(_entry(entry) for entry in record.get("stages", ())),
        alarms=tuple(record.get("alarms", ())),
        now=record.get("now") or {},
        new=record.get("new") or {},
        host=str(record.get("host", "")),
        pid=int(record.get("pid", 0)),
    )


def _started(run_id: str) -> datetime:
    """The time that a run's id begins with, in UTC."""
    try:
        return datetime.strptime(run_id.partition("-")[0][:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _entry(entry: Mapping[str, Any]) -> Entry:
    names = ("stage", "jobs", "reused", "built", "seconds", "rows", "reasons", "artifact")
    return Entry(**{name: entry[name] for name in names}, reads=tuple(entry.get("reads", ())))


def _manifest(path: Path) -> Manifest | None:
    told = read_json(path)
    if told is None:
        return None
    return Manifest(
        stage=told["stage"],
        key=path.stem,
        shape=told["shape"],
        sources=tuple(told["sources"]),
        params=told.get("params", {}),
        version=told.get("version", 0),
        reads=tuple(told.get("reads", ())),
        parts=tuple(ManifestPart(**part) for part in told["parts"]),
        jobs=tuple(told.get("jobs", ())),
        alarms=tuple(told.get("alarms", ())),
    )
