"""`verify`: read every file of the store again, name each that is not what was written, and say what makes it again.

What is covered: parts, folders with their manifests and logs, manifests of artifacts, run records, pins, lists of the
trash, digests of inputs, code checks. Not: `work/`, `tmp/`, and what lies in the trash. Bit-rot is found by seals
(`seal`) and by sha256 of a folder's files; what was changed on purpose, seals and all, by `recompute`.
"""

import os
import shlex
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from polylm.deployments.settings import store_option
from polylm.tasks import keys
from polylm.tasks.maintenance import seal
from polylm.tasks.maintenance.files import MANIFEST, read_json
from polylm.tasks.maintenance.run_records import Run, read_runs
from polylm.tasks.maintenance.seal import SealBroken
from polylm.tasks.store import Store, StoreError, read_columns, read_manifest, read_record

_SMALL = ("artifacts/*/*.json", "runs/*.json", "pins/*.json", "trash/*/list.json", "seen/*.json", "checked/*.json")
_REPLACED = ("artifacts", "seen", "checked")  # what a run writes again by itself
_THREADS = min(8, os.cpu_count() or 1)
Check = Callable[[], str | None]


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong in a store."""

    path: str  # from the store's root
    stage: str  # "" of what no stage made
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.stage and f'{self.stage}: '}{self.path} {self.what}: {self.remedy}"


@dataclass(frozen=True)
class Verified:
    """How many files were read (or parts made again), and what was found."""

    checked: int
    damage: tuple[Damage, ...]


def damaged(root: Path, only: Collection[Path] | None = None) -> Verified:
    """Read all files of the store at `root`, or only these; nothing is written. StoreError where there is no store."""
    store = Store(root)
    if not (store.root / "parts").is_dir():
        raise StoreError(f"{store.root} is no store: give --store DIR, or make one with `polylm run`")
    asked = None if only is None else {path.absolute() for path in only}
    checks = [check for check in _checks(store) if asked is None or check[0] in asked]
    with ThreadPoolExecutor(_THREADS) as threads:
        answers = list(threads.map(lambda check: check[1](), checks))
    wrong = [(path, what) for (path, _), what in zip(checks, answers, strict=True) if what is not None]
    gone = [(path, what) for path, what in _gone(store) if asked is None or path in asked]
    found = list(dict.fromkeys([*wrong, *gone]))
    makers = _Makers(store)
    return Verified(len(checks), tuple(makers.damage(path, what) for path, what in found))


@cache
def whole(path: Path) -> Path:
    """A part's or folder's path, once this process has read it and found it as it was written; else StoreError.

    For what a job reads by path, with readers of its own. Costs one read (sha256: 0.5-1.5 GB/s) for each process.
    """
    if path.is_dir():
        problems = folder_problems(path)
    else:
        try:
            seal.check_part(path, strict=False)
            problems = []
        except SealBroken as error:
            problems = [f"{path} is damaged ({error}): delete it, and the next run makes it again"]
    if problems:
        raise StoreError(problems[0])
    return path


def folder_problems(folder: Path) -> list[str]:
    """What is wrong with a folder: its manifest, its files, its logs."""
    found = [(path, check()) for path, check in _folder_checks(folder, strict=False)]
    return [f"{folder.parent.name}: {path} {what}: delete {folder}, and run again" for path, what in found if what]


def _checks(store: Store) -> Iterator[tuple[Path, Check]]:
    """Every file that should be as it was written, with what finds out."""
    for path in sorted((store.root / "parts").rglob("*")):
        if path.is_file():
            yield path, lambda path=path: _part_problem(path)  # type: ignore[misc]
    for folder in sorted((store.root / "folders").glob("*/*")):
        yield from _folder_checks(folder)
    for pattern in _SMALL:
        for path in sorted(store.root.glob(pattern)):
            yield path, lambda path=path: _json_problem(path)  # type: ignore[misc]


def _folder_checks(folder: Path, *, strict: bool = True) -> Iterator[tuple[Path, Check]]:
    manifest = folder / MANIFEST
    yield manifest, lambda: _json_problem(manifest, strict=strict)
    told = read_json(manifest) if manifest.exists() else None
    for name, sha256 in _files(told).items():
        path = folder / name
        yield path, lambda path=path, sha256=sha256: _file_problem(path, sha256)  # type: ignore[misc]


def _files(manifest: Any) -> dict[str, str]:
    """sha256 by file of a folder; of none where its manifest is damaged, which is named already."""
    return {**manifest.get("columns", {}), **manifest.get("facts", {}).get("logs", {})} if manifest else {}


def _part_problem(path: Path) -> str | None:
    try:
        seal.check_part(path)
        record = read_record(path)
        if set(read_columns(path).schema.names) != set(record.columns):
            return "has other columns than its record"
    except StoreError:
        return "holds other values than its record"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"is damaged ({error})"
    return None


def _file_problem(path: Path, sha256: str) -> str | None:
    if not path.exists():
        return "is gone"
    return None if keys.file_digest(path) == sha256 else "is not what was written"


def _json_problem(path: Path, *, strict: bool = True) -> str | None:
    if not path.exists() and not path.is_symlink():
        return "is gone"
    if not path.is_file():
        return "is damaged (it is no file)"
    try:
        seal.open_json(path.read_bytes(), strict=strict)
    except (OSError, ValueError, RecursionError) as error:
        return f"is damaged ({getattr(error, 'strerror', None) or error})"
    return None


def _gone(store: Store) -> Iterator[tuple[Path, str]]:
    """Parts and folders that a manifest names and nobody has any more."""
    for path in sorted(store.root.glob("artifacts/*/*.json")):
        manifest = read_manifest(path) or {"parts": []}
        for part in manifest["parts"]:
            if not (target := store.path(manifest["shape"], manifest["stage"], part["key"])).exists():
                yield target, f"({part['label']}) is gone"
        for key in manifest.get("jobs", ()):
            if not (target := store.part_path(manifest["stage"], key)).exists():
                yield target, "(bad records) is gone"


class _Makers:
    """Which run made a file, from manifests and run records; both are read only where something is wrong."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_stage: dict[str, dict[str, set[str]]] = {}

    def damage(self, path: Path, what: str) -> Damage:
        inside = path.relative_to(self._store.root)
        place, *names = inside.parts
        stage = names[0] if place in ("parts", "folders", "artifacts") else ""
        return Damage(str(inside), stage, what, self._remedy(place, stage, names, gone="is gone" in what))

    def _remedy(self, place: str, stage: str, names: list[str], *, gone: bool) -> str:
        if place in ("runs", "trash", "pins"):
            return "delete it; nothing but this note is lost"
        whole = place == "folders" and (not gone or len(names) > 2)
        drop = "" if gone and not whole else f"delete {'/'.join(['folders', *names[:2]]) if whole else 'it'}, then "
        key = names[1] if place == "folders" else names[-1].removesuffix(".parquet").removesuffix(".json")
        if (run := self._run(place, stage, key)) is None:
            return f"{drop}run again" if drop else "run again"
        words = shlex.join(["polylm", "run", run.name, *run.options, *store_option(self._store.root)])
        command = f"`{words}` (the run {run.id}) makes it again"
        return f"the next {command}" if place in _REPLACED else f"{drop}{command}"

    def _run(self, place: str, stage: str, key: str) -> Run | None:
        """The latest run with an artifact that this file is, or is a part of."""
        refs = {f"{stage}/{key[:16]}"} if place == "artifacts" else self._artifacts(stage).get(key, set())
        made = (run for run in self._runs if refs & {entry.artifact for entry in run.stages})
        return next(made, None) if refs else None

    @cached_property
    def _runs(self) -> list[Run]:
        """The latest first."""
        return read_runs(self._store.root)[::-1]

    def _artifacts(self, stage: str) -> dict[str, set[str]]:
        """The artifacts of a stage by the key of each of their parts and jobs."""
        if stage not in self._by_stage:
            known = self._by_stage.setdefault(stage, {})
            for path in (self._store.root / "artifacts" / stage).glob("*.json"):
                manifest = read_manifest(path) or {"parts": []}
                for key in [part["key"] for part in manifest["parts"]] + list(manifest.get("jobs", ())):
                    known.setdefault(key, set()).add(f"{stage}/{path.stem[:16]}")
        return self._by_stage[stage]
