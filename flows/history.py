"""A run beside the one before it: which documents are new, and what they changed."""

from typing import Any

from polylm.tasks.maintenance.run_records import Run, read_run, run_paths
from polylm.tasks.session import Session
from polylm.tasks.store import Artifact, Store, StoreError, read_columns

Counts = dict[str, int]


def previous_run(here: Session) -> Run | None:
    """The record of the latest finished run of this recipe over sources of the same names; None where there is none."""
    sources = sorted((here.record["recipe"] or {}).get("sources", ()))
    for path in reversed(run_paths(here.store.root)):
        if path.stem.partition("-")[2] == here.record["name"]:
            run = read_run(path)
            if run.state == "completed" and sorted(run.recipe.get("sources", ())) == sources:
                return run
    return None


def artifact_of(store: Store, run: Run, stage: str) -> Artifact | None:
    """What a run's stage made; None where the run had no such stage, or it was collected as garbage since."""
    ref = run.artifact(stage)
    try:
        return store.load_artifact(*ref.split("/")) if ref else None
    except StoreError:
        return None


def read_counts(store: Store, counts: Artifact) -> Counts:
    """Documents by language, of `count_labels` or `count_survivors`."""
    table = read_columns(store.part_path(counts.stage, str(counts.parts[0].key)))
    return dict(zip(table["language"].to_pylist(), table["documents"].to_pylist(), strict=True))


def whats_new(here: Session, before: Run | None) -> dict[str, Any] | None:
    """What this run has that the one before had not: parts and documents by source, and how many more were kept.

    `recut`: the same documents may be in other parts, because params of ingest changed, so that parts cannot be told apart.
    None where there is nothing to compare with.
    """
    now, then = here.artifacts.get("ingest"), artifact_of(here.store, before, "ingest") if before else None
    if before is None or now is None or then is None or not now.built:
        return None
    recut = before.recipe.get("ingest") != here.record["recipe"]["ingest"]
    known = {part.key for part in (now if recut else then).parts}
    new: dict[str, dict[str, int]] = {}
    for part in now.parts:
        if part.key not in known and part.record is not None:
            entry = new.setdefault(part.label.rpartition(".")[0], {"parts": 0, "documents": 0})
            entry["parts"] += 1
            entry["documents"] += part.record.rows
    gone = len(known - {part.key for part in now.parts})
    return {
        "since": before.id,
        "sources": new,
        "parts_gone": gone,
        "kept_more": _kept_more(here, before),
        "recut": recut,
    }


def describe_new(new: dict[str, Any]) -> str:
    """One line: what is new since which run."""
    sources = [
        f"{e['documents']:,} documents of {name} in {_counted(e['parts'])}" for name, e in new["sources"].items()
    ]
    gone = [f"{_counted(new['parts_gone'])} gone"] if new["parts_gone"] else []
    kept = [f"{new['kept_more']:+,} kept"] if new["kept_more"] else []
    recut = ["all documents in new parts, because params of ingest changed"] if new["recut"] else []
    return f"new since {new['since']}: {', '.join([*recut, *sources, *gone, *kept]) or 'nothing'}"


def _counted(parts: int) -> str:
    return f"{parts:,} {'part' if parts == 1 else 'parts'}"


def _kept_more(here: Session, before: Run) -> int | None:
    now, then = here.artifacts.get("count_survivors"), artifact_of(here.store, before, "count_survivors")
    if now is None or then is None or not now.built:
        return None
    return sum(read_counts(here.store, now).values()) - sum(read_counts(here.store, then).values())
