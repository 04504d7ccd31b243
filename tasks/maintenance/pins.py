"""Pins: artifacts that `gc` never takes, whatever runs are kept. A small file each, in `pins/`."""

import time
from pathlib import Path

from polylm.tasks.maintenance.files import read_json, write_json
from polylm.tasks.maintenance.run_records import read_runs
from polylm.tasks.store import Store, StoreError


def pin(store: Store, ref: str) -> str:
    """Keep an artifact for good, given as stage/KEY (or its beginning), or as a stage of the latest run; its whole name."""
    manifest = _manifest(store, ref)
    whole = f"{manifest.parent.name}/{manifest.stem}"
    path = _path(store, whole)
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"artifact": whole, "pinned": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
    return whole


def unpin(store: Store, ref: str) -> str:
    """Let `gc` take an artifact again once no kept run needs it."""
    stage, _, key = ref.partition("/")
    whole = [one for one in pinned(store) if one.startswith(f"{stage}/{key}")]
    if len(whole) != 1:
        known = ", ".join(pinned(store)) or "none"
        raise StoreError(f"{len(whole)} pinned artifacts {ref}*; pinned are {known}")
    _path(store, whole[0]).unlink()
    return whole[0]


def pinned(store: Store) -> list[str]:
    """The pinned artifacts, as stage/key; StoreError where a pin is damaged, because what it keeps is unknown."""
    found = []
    for path in sorted((store.root / "pins").glob("*.json")):
        told = read_json(path) if path.is_file() else None
        if told is None or told.get("artifact") != path.stem.replace("@", "/"):
            raise StoreError(f"{path} is damaged: delete it, and pin {path.stem.replace('@', '/')} again")
        found.append(told["artifact"])
    return found


def _manifest(store: Store, ref: str) -> Path:
    stage, _, key = (ref if "/" in ref else _latest(store, ref)).partition("/")
    return store.manifest_path(stage, key)


def _latest(store: Store, stage: str) -> str:
    for run in reversed(read_runs(store.root)):
        if made := run.artifact(stage):
            return made
    raise StoreError(f"no stage {stage!r} in the runs of {store.root}: `polylm status` lists them")


def _path(store: Store, whole: str) -> Path:
    return store.root / "pins" / f"{whole.replace('/', '@')}.json"
