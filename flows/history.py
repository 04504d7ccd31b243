"""A run beside the one before it: which documents are new, and what they changed."""

from typing import Any

from polylm.tasks.run import Session
from polylm.tasks.store import Artifact, Store, StoreError, read_columns, read_json

Counts = dict[str, int]


def previous_run(here: Session) -> dict[str, Any] | None:
    """The record of the latest finished run of this recipe over sources of the same names; None where there is none."""
    sources = sorted((here.record["recipe"] or {}).get("sources", ()))
    for path in sorted((here.store.root / "runs").glob(f"*-{here.record['name']}.json"), reverse=True):
        record = read_json(path)
        if record and record["state"] == "completed" and sorted((record["recipe"] or {}).get("sources", ())) == sources:
            return dict(record)
    return None


def artifact_of(store: Store, record: dict[str, Any], stage: str) -> Artifact | None:
    """What a run's stage made; None where the run had no such stage, or it was collected as garbage since."""
    refs = [entry["artifact"] for entry in record["stages"] if entry["stage"] == stage and entry["artifact"]]
    try:
        return store.load_artifact(*refs[-1].split("/")) if refs else None
    except StoreError:
        return None


def read_counts(store: Store, counts: Artifact) -> Counts:
    """Documents by language, of `count_labels` or `count_survivors`."""
    table = read_columns(store.part_path(counts.stage, str(counts.parts[0].key)))
    return dict(zip(table["language"].to_pylist(), table["documents"].to_pylist(), strict=True))


def whats_new(here: Session, before: dict[str, Any] | None) -> dict[str, Any] | None:
    """What this run has that the one before had not: parts and documents by source, and how many more were kept.

    None where there is nothing to compare with.
    """
    now, then = here.artifacts.get("ingest"), artifact_of(here.store, before, "ingest") if before else None
    if before is None or now is None or then is None or not now.built:
        return None
    known = {part.key for part in then.parts}
    new: dict[str, dict[str, int]] = {}
    for part in now.parts:
        if part.key not in known and part.record is not None:
            entry = new.setdefault(part.label.rpartition(".")[0], {"parts": 0, "documents": 0})
            entry["parts"] += 1
            entry["documents"] += part.record.rows
    gone = len(known - {part.key for part in now.parts})
    return {"since": before["id"], "sources": new, "parts_gone": gone, "kept_more": _kept_more(here, before)}


def describe_new(new: dict[str, Any]) -> str:
    """One line: what is new since which run."""
    sources = [f"{e['documents']:,} documents of {name} in {e['parts']} parts" for name, e in new["sources"].items()]
    gone = [f"{new['parts_gone']} parts are gone"] if new["parts_gone"] else []
    kept = [f"{new['kept_more']:+,} kept"] if new["kept_more"] is not None else []
    return f"new since {new['since']}: {', '.join([*sources, *gone, *kept]) if sources or gone else 'nothing'}"


def _kept_more(here: Session, before: dict[str, Any]) -> int | None:
    now, then = here.artifacts.get("count_survivors"), artifact_of(here.store, before, "count_survivors")
    if now is None or then is None or not now.built:
        return None
    return sum(read_counts(here.store, now).values()) - sum(read_counts(here.store, then).values())
