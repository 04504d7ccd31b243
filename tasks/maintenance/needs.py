"""What `gc` must leave where it is: what kept runs, pins and young artifacts stand on, and what cannot be made again."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from polylm.tasks.maintenance.files import MANIFEST, read_json
from polylm.tasks.maintenance.pins import pinned
from polylm.tasks.maintenance.run_records import Run, read_run, run_paths
from polylm.tasks.store import Record, Store, StoreError, read_manifest, read_record

DAY = 86_400.0


@dataclass(frozen=True)
class Policy:
    """What is kept."""

    keep_runs: int = 3  # the latest that completed; all later ones are kept too
    older_than_days: float = 7.0  # nothing younger is taken
    also_irreproducible: bool = False

    @property
    def young_since(self) -> float:
        return time.time() - self.older_than_days * DAY


@dataclass(frozen=True)
class _Made:
    """Of an artifact: what matters for what stands on what."""

    shape: str
    reads: tuple[str, ...]
    part: str  # the key of one of its parts, "" where it has none
    young: bool


class Needs:
    """The artifacts that stay, by name (stage/ and the first 16 digits of the key)."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self.store, self.policy = store, policy
        self._since = policy.young_since
        self._made = dict(self._read_manifests())

    @cached_property
    def artifacts(self) -> frozenset[str]:
        """Of kept runs, pinned, and young; and the models and checkpoints that these stand on."""
        kept = {entry.artifact for run in self.kept_runs for entry in run.stages}
        roots = kept | {_short(ref) for ref in pinned(self.store)} | {r for r, made in self._made.items() if made.young}
        return frozenset(roots | self._folders_upstream(roots))

    @cached_property
    def lasting(self) -> frozenset[str]:
        """Of the others, those that cannot be made again, and the models and checkpoints that these stand on."""
        if self.policy.also_irreproducible:
            return frozenset()
        roots = {ref for ref in self._made if ref not in self.artifacts and self._is_lasting(ref)}
        return frozenset(roots | self._folders_upstream(roots)) - self.artifacts

    @cached_property
    def kept_runs(self) -> list[Run]:
        """The latest completed runs and all since the first of them; those that wait for an approval; young ones."""
        paths = run_paths(self.store.root)
        runs = [read_run(path) for path in paths]
        for run in runs:
            if run.state == "damaged":
                raise StoreError(f"what a run needs is unknown: {run.error}")
        completed = [index for index, run in enumerate(runs) if run.state == "completed"]
        keep = self.policy.keep_runs
        first = len(runs) if keep == 0 else completed[-keep] if len(completed) >= keep else 0
        return [
            run
            for index, run in enumerate(runs)
            if index >= first or run.state == "awaiting approval" or self.is_young(paths[index])
        ]

    def keys(self, stage: str, artifacts: frozenset[str]) -> set[str]:
        """The keys of all parts, folders and jobs of a stage that are in these artifacts."""
        found: set[str] = set()
        for path in (self.store.root / "artifacts" / stage).glob("*.json"):
            if f"{stage}/{path.stem[:16]}" in artifacts:
                manifest = _whole(path)
                found |= {part["key"] for part in manifest["parts"]} | set(manifest.get("jobs", ()))
        return found

    def is_young(self, path: Path) -> bool:
        return path.lstat().st_mtime > self._since  # a link that leads nowhere has no other

    def _read_manifests(self) -> Iterator[tuple[str, _Made]]:
        for path in sorted((self.store.root / "artifacts").glob("*/*.json")):
            told = _whole(path)
            part = told["parts"][0]["key"] if told["parts"] else ""
            made = _Made(told["shape"], tuple(told.get("reads", ())), part, self.is_young(path))
            yield f"{path.parent.name}/{path.stem[:16]}", made

    def _folders_upstream(self, roots: Iterable[str]) -> set[str]:
        """Models, tokenizers and checkpoints on which artifacts stand, through whatever lies between."""
        seen: set[str] = set()
        todo = list(roots)
        while todo:
            made = self._made.get(todo.pop())
            fresh = [ref for ref in made.reads if ref not in seen] if made else []
            seen.update(fresh)
            todo += fresh
        return {ref for ref in seen if ref in self._made and self._made[ref].shape.startswith("folder")}

    def _is_lasting(self, ref: str) -> bool:
        stage, made = ref.partition("/")[0], self._made[ref]
        path = self.store.path(made.shape, stage, made.part)  # type: ignore[arg-type]
        return bool(made.part) and path.exists() and cannot_be_remade(path)


def cannot_be_remade(path: Path) -> bool:
    """Does the record of a part or folder say that its stage is not reproducible? True where it cannot be read."""
    try:
        record = Record(**read_json(path / MANIFEST)) if path.is_dir() else read_record(path)
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return not record.identity.get("reproducible", True)


def _short(ref: str) -> str:
    stage, _, key = ref.partition("/")
    return f"{stage}/{key[:16]}"


def _whole(path: Path) -> Any:
    """A manifest that must be readable, because what it names must stay."""
    if (told := read_manifest(path)) is None:
        raise StoreError(f"{path} is damaged, so what it needs is unknown: `polylm verify` says what to do about it")
    return told
