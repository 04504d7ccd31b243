"""Runs and manifests of a store as values. Whatever an address names is looked up here; none of it becomes a path."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polylm.dashboard.cache import Cache
from polylm.dashboard.errors import Missing
from polylm.tasks.maintenance.run_records import Run, read_run, run_paths
from polylm.tasks.maintenance.run_records import run_id as id_of
from polylm.tasks.store import Shape, Store, StoreError, read_json

_REF = re.compile(r"([a-z0-9_]{1,80})/([0-9a-f]{8,64})")
_PARSED = 4_000  # manifests and run records that are held


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
        return [self._run(path) for path in reversed(run_paths(self.store.root))]

    def run(self, run_id: str) -> Run:
        """A run by its id; Missing where the store has none of that name."""
        for path in run_paths(self.store.root):
            if run_id == id_of(path):
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
        try:
            run = self._once(path, read_run)
        except OSError:  # gone since it was listed, or a link that leads nowhere
            run = read_run(path)
        assert isinstance(run, Run)
        return run.as_it_is()

    def _once(self, path: Path, parse: Any) -> Any:
        stat = path.stat()
        return self._parsed.get((path, stat.st_mtime_ns, stat.st_size), lambda: parse(path))


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
