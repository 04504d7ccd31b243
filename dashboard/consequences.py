"""What else changes of gates do: which other documents they let in, and which of documents that are alike is kept then."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from polylm.dashboard import document as doc
from polylm.dashboard.document import Cluster
from polylm.dashboard.gates import extras_of, gate_jobs
from polylm.dashboard.keeping import Change, any_broken, unseen_gates, with_changes
from polylm.dashboard.queries import Place, Queries
from polylm.tasks import build, keys
from polylm.tasks.build import Job
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.stage import REASON

MOST_JUDGED = 1_000_000  # documents that are judged again to count what changes let in
HELD_ROWS = 50_000  # of a gate, up to which what it sees is kept: 25 MB for `filter_text`
Bools = np.ndarray[Any, np.dtype[np.bool_]]
T = TypeVar("T")


@dataclass(frozen=True)
class LetIn:
    """Other documents that changes let through their gates; `kept`: those that no other gate rejects either."""

    passing: int
    kept: int
    judged: int
    documents: int
    unseen: tuple[str, ...]  # gates whose columns were not measured of them: `kept` is "at most"


@dataclass(frozen=True)
class Alike:
    """What becomes of documents that are alike with changes made."""

    keeper: str  # the address of the one that is kept
    instead_of: str | None  # of the one that is kept without the changes
    remaining: int  # documents that no gate rejects
    asked: int  # of the cluster


def let_in(here: Queries, gates: Sequence[Entry], changes: Sequence[Change], place: Place) -> LetIn:
    """Judge all documents, or a million of them in parts evenly spread, by the gates of these changes with all of them made.

    Costs 1 to 3 s a gate and a million documents, and 7 ms of reading a part: for the background.
    """
    moved = _moved(here, changes)
    others = _without(gates, moved)
    manifests = [here.manifest(gate.entry) for gate in moved]
    parts = manifests[0].parts
    passing = kept = judged = 0
    for index in _spread([part.rows for part in parts]):
        judged += parts[index].rows
        if not any(manifest.parts[index].reasons for manifest in manifests):
            continue
        more = _any_of(_rejected(here, gate.entry, index) for gate in moved)
        more &= ~_any_of(gate.rejects(gate.seen(here, index), index) for gate in moved)
        if index == place.part:
            more[place.row] = False
        passing += int(more.sum())
        for other in others if more.any() else ():
            more &= ~_rejected(here, other, index)
        kept += int(more.sum())
    return LetIn(passing, kept, judged, manifests[0].rows, unseen_gates(here, gates, changes))


def alike_with(
    here: Queries, run: Run, gates: Sequence[Entry], changes: Sequence[Change], place: Place, cluster: Cluster
) -> Alike:
    """Which document of a cluster is kept when these changes are made, by the order of `choose_keepers`.

    Asks the first MOST_MEMBERS of a larger cluster.
    """
    moved = _moved(here, changes)
    others = [gate for gate in _without(gates, moved) if gate.stage != "drop_duplicates"]
    by_part: defaultdict[int, list[Place]] = defaultdict(list)
    for one in (place, *(here.place(run, address) for address in cluster.first)):
        if one not in by_part[one.part]:
            by_part[one.part].append(one)
    remaining: list[tuple[int, int, str]] = []
    now: list[str] = []
    for part, places in by_part.items():
        rows = [one.row for one in places]
        goes = _any_of(
            [
                *(gate.rejects(_rows(here, gate.jobs[part], rows), part) for gate in moved),
                *(_rejected(here, gate, part)[rows] for gate in others),
            ]
        )
        told = doc.rows_of(here, run, "clean", part, rows, ["chars"])
        ranked = [(-values["chars"], one.number, one.address) for one, values in zip(places, told, strict=True)]
        remaining += [rank for rank, gone in zip(ranked, goes, strict=True) if not gone]
        gone_now = _any_of(_rejected(here, gate, part)[rows] for gate in gates)
        now += [one.address for one, gone in zip(places, gone_now, strict=True) if not gone]
    assert remaining, f"no gate rejects {place.address} with these changes, or nobody asks for its like"
    keeper = min(remaining)[2]
    displaced = next((address for address in now if address != keeper), None)
    return Alike(keeper, displaced, len(remaining), sum(map(len, by_part.values())))


@dataclass(frozen=True)
class _Gate:
    """A gate with changes made, to be asked about any part."""

    entry: Entry
    jobs: list[Job]
    extras: list[Any]
    params: Any

    def seen(self, here: Queries, index: int) -> dict[str, Any]:
        def read(part: int) -> dict[str, Any]:
            return build.Shown.of(self.jobs[part].parts[0], here.store).for_gate()

        return _part(here, self.entry, "shown", index, read)

    def rejects(self, rows: dict[str, Any], index: int) -> Bools:
        return any_broken(self.jobs[index].stage(rows, self.params, *self.extras))


def _moved(here: Queries, changes: Sequence[Change]) -> list[_Gate]:
    """The gates of these changes, each with all of its own made."""
    own: dict[str, dict[str, Any]] = {}
    entries: dict[str, Entry] = {}
    for change in changes:
        if change.changes:
            entries[change.entry.artifact] = change.entry
            own[change.entry.artifact] = own.get(change.entry.artifact, {}) | change.changes
    found = []
    for artifact, entry in entries.items():
        jobs = gate_jobs(here, entry)
        found.append(_Gate(entry, jobs, extras_of(jobs[0]), with_changes(jobs[0], own[artifact])))
    return found


def _without(gates: Sequence[Entry], moved: Sequence[_Gate]) -> list[Entry]:
    asked = {gate.entry.artifact for gate in moved}
    return [gate for gate in gates if gate.artifact not in asked]


def _any_of(rejected: Iterable[Bools]) -> Bools:
    return np.array(np.logical_or.reduce(list(rejected)))


def _rows(here: Queries, job: Job, rows: Sequence[int]) -> dict[str, Any]:
    """What a gate sees of some rows of a part."""
    shown = build.Shown.of(job.parts[0], here.store)
    own = {name: values.take(pa.array(rows)) for name, values in shown.columns.items()}
    return build.Shown(own, np.ones(len(rows), np.bool_)).for_gate()


def _spread(rows: Sequence[int]) -> list[int]:
    """Indices of parts, evenly spread, of about MOST_JUDGED rows in all."""
    share = min(1.0, MOST_JUDGED / max(1, sum(rows)))
    count = max(1, round(len(rows) * share))
    return sorted({index * len(rows) // count for index in range(count)})


def _rejected(here: Queries, gate: Entry, index: int) -> Bools:
    def read(part: int) -> Bools:
        verdicts = keys.contiguous(here.part(gate, part, [REASON])[REASON])
        return np.array(verdicts.is_valid().to_numpy(zero_copy_only=False))

    return _part(here, gate, "rejected", index, read)


def _part(here: Queries, gate: Entry, what: str, index: int, read: Callable[[int], T]) -> T:
    """What is read of a part of a gate; of a small one all parts, once: the next rule and the next document need them too."""
    manifest = here.manifest(gate)
    if manifest.rows > HELD_ROWS:
        return read(index)
    every = here.cache.get((what, manifest.key), lambda: [read(i) for i in range(len(manifest.parts))])
    return every[index]
