"""`gc`: free what no kept run needs, through the trash.

The protocol, in which any process may die at any point:
- Every run and plan holds a shared lock for its life (`lock.used`). `gc` moves things only while it holds it alone, and
  does not wait: a store in use is left as it is. A run that starts meanwhile waits until the moves (renames) are done. So
  no run sees a part that is about to go. A long job's own lock counts too, and a run of another host that says it is
  running and is younger than the age, in case the file system carries no locks that far.
- What stays is decided under that lock (`needs`). Something unreadable that may name what stays stops `gc`.
- `trash/<time>/list.json` is written first. Then manifests move, then parts and folders, each by one rename to the same
  path under `trash/<time>/`. Killed between two moves: manifests that are gone name nothing that is missed, parts without
  one are taken by the next `gc`, and `restore` finds everything by looking.
- `restore` needs no run to wait: it links files back, the first writer wins, and what was made again stays.
Never touched: `work/` (journals with paid answers, half-done trainings), run records, `seen/`, `checked/`, `tmp/`.
"""

import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from polylm.tasks.maintenance.files import MANIFEST, write_json
from polylm.tasks.maintenance.lock import InUse, alone, held_work
from polylm.tasks.maintenance.needs import Needs, Policy, cannot_be_remade
from polylm.tasks.maintenance.run_records import Run, read_runs
from polylm.tasks.store import Store, StoreError

_LIST = "list.json"
_WRITTEN_WITHIN = 3_600.0  # seconds, of a small file
_LATER = "nothing was moved, try again later"
_PLACES = ("artifacts", "parts", "folders")  # in the order in which they are moved away


@dataclass(frozen=True)
class Item:
    """A file or folder that can be moved, by its path from the store's root."""

    path: str
    files: int
    bytes: int

    @property
    def stage(self) -> str:
        return self.path.split("/")[1]


@dataclass
class Plan:
    """What would be freed, and how many files are spared though no run needs them, by reason."""

    free: list[Item] = field(default_factory=list)
    spared: dict[str, int] = field(default_factory=lambda: {"young": 0, "cannot be made again": 0})

    def by_stage(self) -> dict[str, dict[str, int]]:
        """Files and bytes."""
        stages: dict[str, dict[str, int]] = {}
        for item in self.free:
            sums = stages.setdefault(item.stage, {"files": 0, "bytes": 0})
            sums["files"] += item.files
            sums["bytes"] += item.bytes
        return dict(sorted(stages.items()))


def plan(store: Store, policy: Policy) -> Plan:
    """What `collect` would free now; changes nothing. StoreError where something that names what stays is damaged."""
    needs, found = Needs(store, policy), Plan()
    for place in _PLACES:
        for folder in sorted(path for path in (store.root / place).glob("*") if path.is_dir()):
            needed, lasting = _names(needs, place, folder.name)
            for path in _candidates(place, folder):
                if (name := _name(place, path)) not in needed:
                    _sort(found, needs, store, path, is_lasting=name in lasting)
    return found


def collect(store: Store, policy: Policy) -> Plan:
    """Move what no kept run needs to the trash; InUse where a run is on, or another `gc`."""
    with _only_gc(store), alone(store.root / "work" / "runs.lock", f"{_holders(store)}: {_LATER}"):
        _refuse_others(store, policy)
        found = plan(store, policy)
        if found.free:
            _move(store, found)
        _sweep_half_written(store)
    return found


def restore(store: Store) -> tuple[int, int]:
    """Put back what lies in the trash; returns how many files were, as a plan counts them, and how many stay there.

    Those were made again meanwhile.
    """
    back = left = 0
    with _only_gc(store):
        for folder in sorted((store.root / "trash").glob(f"*/{_LIST}"), reverse=True):
            trash = folder.parent
            for path in list(_trashed(trash)):
                files = len(_files(path))  # of a folder all: it is moved as one thing, and reported as its files
                if _put_back(path, store.root / path.relative_to(trash)):
                    back += files
                else:
                    left += files
            if not any(_trashed(trash)):
                shutil.rmtree(trash)
    return back, left


def empty_trash(store: Store) -> Item:
    """Remove for good what lies in the trash; returns how much that was."""
    with _only_gc(store):
        item = _item(store, store.root / "trash")
        for path in (store.root / "trash").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return item


def _candidates(place: str, folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob({"artifacts": "*.json", "parts": "*/*.parquet", "folders": "*"}[place]))


def _names(needs: Needs, place: str, stage: str) -> tuple[Set[str], Set[str]]:
    """By name, what of a stage's files in one place is needed, and what cannot be made again."""
    if place == "artifacts":
        return needs.artifacts, needs.lasting
    return needs.keys(stage, needs.artifacts), needs.keys(stage, needs.lasting)


def _name(place: str, path: Path) -> str:
    """An artifact's name as `Needs` has it, or the key of a part or folder."""
    if place == "artifacts":
        return f"{path.parent.name}/{path.stem[:16]}"
    return path.name.removesuffix(".parquet")


def _sort(found: Plan, needs: Needs, store: Store, path: Path, *, is_lasting: bool) -> None:
    is_manifest = path.suffix == ".json"
    if needs.is_young(path / MANIFEST if (path / MANIFEST).exists() else path):
        found.spared["young"] += len(_files(path))
    elif is_lasting or (not (is_manifest or needs.policy.also_irreproducible) and cannot_be_remade(path)):
        found.spared["cannot be made again"] += len(_files(path))
    else:
        found.free.append(_item(store, path))


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def _item(store: Store, path: Path) -> Item:
    files = _files(path)
    return Item(str(path.relative_to(store.root)), len(files), sum(file.lstat().st_size for file in files))


def _move(store: Store, found: Plan) -> None:
    stamp = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}{time.time_ns() // 1_000_000 % 1000:03d}"
    trash = store.root / "trash" / stamp
    trash.mkdir(parents=True)
    try:
        write_json(trash / _LIST, {"paths": [item.path for item in found.free], "stages": found.by_stage()})
    except OSError as error:
        trash.rmdir()
        way_out = "free some kB, such as by --empty-trash, then try again"
        raise StoreError(
            f"nothing was moved: the list of it cannot be written ({error.strerror}): {way_out}"
        ) from error
    for item in found.free:
        (trash / item.path).parent.mkdir(parents=True, exist_ok=True)
        (store.root / item.path).rename(trash / item.path)


def _sweep_half_written(store: Store) -> None:
    """Remove what `write_json` left of small files whose writer was killed, once no writer can be at work on them."""
    for place in ("runs", "pins", "seen", "checked", "artifacts/*"):
        for path in store.root.glob(f"{place}/*.json.*.????????"):
            if time.time() - path.stat().st_mtime > _WRITTEN_WITHIN:
                path.unlink(missing_ok=True)


def _trashed(trash: Path) -> Iterator[Path]:
    """What lies in one folder of the trash: parts and folders first, then the manifests that name them."""
    for place in reversed(_PLACES):
        for stage in sorted((trash / place).glob("*")):
            yield from _candidates(place, stage)


def _put_back(path: Path, target: Path) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        with suppress(OSError):  # made again: a folder that has files is never replaced
            path.rename(target)
        return not path.exists()
    try:
        os.link(path, target)
    except FileExistsError:
        if not path.samefile(target):  # else a restore died between link and unlink
            return False
    path.unlink()
    return True


def _only_gc(store: Store) -> AbstractContextManager[None]:
    return alone(store.root / "work" / "gc.lock", f"another gc is at work: {_LATER}")


def _holders(store: Store) -> str:
    """Who is likely to hold the store, from the records of runs that say they are running."""
    runs = ", ".join(f"{run.id} ({run.host} pid {run.pid})" for run in _running(store))
    return f"a run is on: {runs}" if runs else "a plan or another command is reading the store"


def _refuse_others(store: Store, policy: Policy) -> None:
    if work := held_work(store.root):
        raise InUse(f"a job is at work ({', '.join(key[:16] for key in work)}): nothing was moved, try again later")
    path, since = store.root / "runs", policy.young_since
    for run in _running(store):
        if run.host != socket.gethostname() and (path / f"{run.id}.json").stat().st_mtime > since:
            raise InUse(
                f"the run {run.id} of the host {run.host} may be on: nothing was moved; it counts as dead when its "
                f"record is {policy.older_than_days:g} days old (--older-than)"
            )


def _running(store: Store) -> Sequence[Run]:
    return [run for run in read_runs(store.root) if run.state == "running"]
