"""`verify --recompute`: make random parts again, and find what no digest in the store can show.

A part that was rewritten with other values, its record and seal made to match, is whole to every check of bytes. Only
its stage knows better. The same finds stages that do not give the same content twice.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from polylm.tasks import build
from polylm.tasks.build import Failure, Job
from polylm.tasks.maintenance.verify import Damage, Verified
from polylm.tasks.session import Observer, Session
from polylm.tasks.stage import Stage
from polylm.tasks.store import Record, StoreError


class Sample(Observer):
    """Is told the jobs of a replayed run and keeps a share of its per-part ones, and at least one.

    Which ones depends on the seed and their keys alone, so memory is bounded by the share.
    """

    def __init__(self, share: float, seed: int) -> None:
        self.share, self.seed = share, seed
        self.jobs: dict[str, Job] = {}
        self._next: tuple[float, Job] | None = None

    def jobs_named(self, stage: Stage, jobs: Sequence[Job]) -> None:
        for job in jobs if stage.each == "part" else ():
            if job.key:
                self._offer(self._place(job.key), job)

    def chosen(self) -> list[Job]:
        return list(self.jobs.values()) or ([self._next[1]] if self._next else [])

    def _offer(self, place: float, job: Job) -> None:
        if place < self.share:
            self.jobs.setdefault(job.key, job)
        elif self._next is None or place < self._next[0]:
            self._next = place, job

    def _place(self, key: str) -> float:
        """Where a key falls between 0 and 1."""
        return int.from_bytes(hashlib.sha256(f"{self.seed} {key}".encode()).digest()[:7]) / (1 << 56)


def parse_share(text: str) -> float:
    """A share as people write it, 1% or 0.01; ValueError where it is none."""
    told = re.fullmatch(r"([0-9]*\.?[0-9]+)(%?)", text, re.ASCII)
    share = float(told[1]) / (100 if told[2] else 1) if told else -1.0
    if not 0 < share <= 1:
        raise ValueError(f"--recompute {text}: expected a share such as 1% or 0.01, of at most 1")
    return share


def recomputed(sample: Sample, here: Session) -> Verified:
    """Make the sample's parts again, those that the store has, and name those whose content differs."""
    there = {job: record for job in sample.chosen() if (record := _record(job, here)) is not None}
    damage = [
        _damage(job, there[job], what, here)
        for job, made in here.pool.run(list(there), build.recompute)
        if (what := _difference(job, made, there[job]))
    ]
    return Verified(len(there), tuple(damage))


def _record(job: Job, here: Session) -> Record | None:
    try:
        return here.store.record("table", job.stage.name, job.key)
    except StoreError:  # `damaged` has named it
        return None


def _difference(job: Job, made: Any, record: Record) -> str | None:
    if isinstance(made, Failure):
        return f"({job.label}) cannot be made again ({made.message})"
    if made == record.columns:
        return None
    names = ", ".join(name for name in sorted({*made, *record.columns}) if made.get(name) != record.columns.get(name))
    if build.recompute(job) != made:
        return f"({job.label}) is different whenever it is made: {names}; its stage is not deterministic"
    return f"({job.label}) was edited, or made by other code under the same version: {names} differ"


def _damage(job: Job, record: Record, what: str, here: Session) -> Damage:
    path = here.store.part_path(job.stage.name, job.key).relative_to(here.store.root)
    return Damage(str(path), record.stage, what, "delete it, and run again")
