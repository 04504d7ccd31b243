"""What `polylm gc` says: as values, and as lines for people."""

from pathlib import Path
from typing import Any, Literal

from polylm.tasks.maintenance.gc import Plan, collect, empty_trash, plan, restore
from polylm.tasks.maintenance.needs import Policy
from polylm.tasks.store import Store, StoreError

Action = Literal["plan", "delete", "restore", "empty"]


def garbage(
    root: Path, action: Action, keep_runs: int = 3, older_than_days: float = 7.0, also_irreproducible: bool = False
) -> dict[str, Any]:
    """Do it, or only say what would be done. StoreError where there is no store, or something stands in the way."""
    if keep_runs < 0 or not older_than_days >= 0:
        raise ValueError(f"--keep-runs {keep_runs} --older-than {older_than_days:g}: expected 0 or more")
    store = Store(root)
    if not (store.root / "parts").is_dir():
        raise StoreError(f"{store.root} is no store: give --store DIR, or make one with `polylm run`")
    if action != "plan":
        store.open()  # says so where it cannot be written
    if action == "restore":
        back, left = restore(store)
        stay = f"; {left:,} files stay in the trash: they were made again meanwhile" if left else ""
        return {"restored": back, "left": left, "lines": [f"{back:,} files put back{stay}"]}
    if action == "empty":
        item = empty_trash(store)
        return {
            "files": item.files,
            "bytes": item.bytes,
            "lines": [f"{_size(item.files, item.bytes)} removed for good"],
        }
    policy = Policy(keep_runs, older_than_days, also_irreproducible)
    found = collect(store, policy) if action == "delete" else plan(store, policy)
    stages = found.by_stage()
    return {"deleted": action == "delete", "stages": stages, "spared": found.spared, "lines": _lines(found, action)}


def _lines(found: Plan, action: Action) -> list[str]:
    stages = found.by_stage()
    lines = [f"{stage:24} {_size(**sums)}" for stage, sums in stages.items()]
    lines += [f"spared, {reason}: {count:,} files" for reason, count in found.spared.items() if count]
    total = _size(*(sum(sums[name] for sums in stages.values()) for name in ("files", "bytes")))
    if action == "delete":
        return [*lines, f"{total} moved to the trash: --restore puts them back, --empty-trash frees the space"]
    return [*lines, f"{total} could go: --delete moves them to the trash"]


def _size(files: int, bytes: int) -> str:
    return f"{files:,} files, {bytes / 1e6:,.1f} MB"
