"""What a finished run cost, stage by stage, and from it what another number of documents would: hours, disk, memory, files.

    python -P benchmarks/scaling.py STORE [--run ID] [--documents 1e9] [--cores 64] [--part-rows 100000] [--clustered 0.3]

Reads the records of a store (`polylm status` lists its runs) and prints a table in Markdown. CPU seconds and bytes are taken
as proportional to documents; a stage runs on as many cores as it has jobs at that size. What memory grows with is what the
stages' docstrings say, with the share of documents that have a duplicate in this run, or the one given. Measure on your
own text: length and language decide.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polylm.tasks.maintenance.files import read_json
from polylm.tasks.stage import Stage, all_stages
from polylm.tasks.store import Artifact, Store

GIGABYTE = 1e9
# Bytes a document, and a document with a duplicate, that a process holds beyond what one part takes: from the docstrings
# of tasks/corpus/duplicates.py. A 64th of a band is joined at a time, at 80 bytes a document in it.
GROWS = {
    "join_bands": (80 / 64, 16.0),
    "verify_clusters": (0.0, 28.0 + 22.0),
    "label_clusters": (0.0, 22.0),
    "choose_keepers": (0.0, 100.0),
    "drop_duplicates": (0.0, 16.0),
}


@dataclass
class Cost:
    """What one stage took."""

    stage: Stage
    documents: int
    jobs: int = 0
    cpu_seconds: float = 0.0
    longest: float = 0.0  # seconds of the longest job
    peak: int = 0  # bytes of the largest process
    disk: int = 0
    files: int = 0
    clustered: float = field(default=0.0)  # share of documents with a duplicate

    @property
    def by_part(self) -> bool:
        return self.stage.each in ("part", "file")

    def jobs_at(self, documents: float, part_rows: int) -> int:
        """Jobs at another size: one a part, or as many bands, languages, ... as now."""
        return max(1, math.ceil(documents / part_rows)) if self.by_part else self.jobs

    def hours_at(self, documents: float, cores: int, part_rows: int) -> float:
        at_once = min(cores, self.jobs_at(documents, part_rows))
        return self.cpu_seconds * documents / self.documents / at_once / 3600

    def disk_at(self, documents: float) -> float:
        return self.disk * (documents / self.documents if self._grows_on_disk else 1)

    def memory_at(self, documents: float) -> float:
        each, clustered = GROWS.get(self.stage.name, (0.0, 0.0))
        return self.peak + (documents - self.documents) * (each + clustered * self.clustered)

    def files_at(self, documents: float, part_rows: int) -> int:
        return self.jobs_at(documents, part_rows) if self.by_part else self.files

    @property
    def _grows_on_disk(self) -> bool:
        # Models and fitted tables have a bounded size; pairs and clusters are lists of documents.
        return self.by_part or self.stage.name in GROWS


def main() -> None:
    asked = _arguments()
    costs = list(measure(asked.store, asked.run, asked.clustered))
    print("\n".join(table(costs, asked.documents, asked.cores, asked.part_rows)))


def measure(root: Path, run: str | None = None, clustered: float | None = None) -> Iterator[Cost]:
    """The cost of every stage of a run, in its order."""
    store = Store(root)
    record = _run(root, run)
    artifacts = [store.load_artifact(*entry["artifact"].split("/")) for entry in record["stages"]]
    stages = {stage.name: stage for stage in all_stages()}
    documents = next(_rows(artifact) for artifact in artifacts if stages[artifact.stage].each == "file")
    if clustered is None:
        clustered = next((_rows(one) for one in artifacts if one.stage == "verify_clusters"), 0) / documents
    for artifact in artifacts:
        cost = Cost(stages[artifact.stage], documents, clustered=clustered)
        for facts, files in _outputs(store, artifact):
            cost.jobs += 1
            cost.cpu_seconds += facts["cpu_seconds"]
            cost.longest = max(cost.longest, facts["seconds"])
            cost.peak = max(cost.peak, facts["peak_bytes"])
            cost.files += len(files)
            cost.disk += sum(file.stat().st_size for file in files)
        yield cost


def table(costs: list[Cost], documents: float, cores: int, part_rows: int) -> Iterator[str]:
    """Lines of Markdown: measured on the left, at the other size on the right."""
    yield (
        f"{costs[0].documents:,} documents measured; {documents:,.0f} on {cores} cores, {part_rows:,} a part, "
        f"{costs[0].clustered:.0%} with a duplicate"
    )
    yield ""
    yield "| stage | one job is | jobs | CPU s | documents/s a core | bytes a document | peak MB | hours | disk GB | peak GB | files |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for cost in costs:
        rate, size = cost.documents / max(cost.cpu_seconds, 1e-3), cost.disk / cost.documents
        now = f"{cost.jobs:,} | {cost.cpu_seconds:,.1f} | {rate:,.0f} | {size:,.2f} | {cost.peak / 1e6:,.0f}"
        hours, disk = cost.hours_at(documents, cores, part_rows), cost.disk_at(documents) / GIGABYTE
        memory, files = cost.memory_at(documents) / GIGABYTE, cost.files_at(documents, part_rows)
        yield f"| {cost.stage.name} | {cost.stage.each} | {now} | {hours:,.2f} | {disk:,.1f} | {memory:,.1f} | {files:,} |"
    hours = sum(cost.hours_at(documents, cores, part_rows) for cost in costs)
    disk = sum(cost.disk_at(documents) for cost in costs) / GIGABYTE
    memory = max(cost.memory_at(documents) for cost in costs) / GIGABYTE
    files = sum(cost.files_at(documents, part_rows) for cost in costs)
    cpu, size = sum(cost.cpu_seconds for cost in costs), sum(cost.disk for cost in costs) / costs[0].documents
    now = f"{sum(cost.jobs for cost in costs):,} | {cpu:,.1f} | {costs[0].documents / cpu:,.0f} | {size:,.2f}"
    peak = max(cost.peak for cost in costs) / 1e6
    yield f"| **all** | | {now} | {peak:,.0f} | **{hours:,.1f}** | **{disk:,.0f}** | **{memory:,.1f}** | {files:,} |"


def _run(root: Path, name: str | None) -> dict[str, Any]:
    found = [read_json(path) or {} for path in sorted((root / "runs").glob("*.json"))]
    ended = [run for run in found if run.get("state") == "completed" and name in (None, run["id"])]
    if not ended:
        raise SystemExit(f"{root} holds no completed run{f' {name}' if name else ''}: `polylm status --store {root}`")
    return ended[-1]


def _rows(artifact: Artifact) -> int:
    return sum(part.record.rows for part in artifact.parts if part.record)


def _outputs(store: Store, artifact: Artifact) -> Iterator[tuple[dict[str, Any], list[Path]]]:
    """Execution facts and files of each job. The facts of an ingest job's parts go on from each other: the last one counts."""
    last: dict[str, dict[str, Any]] = {}
    files: dict[str, list[Path]] = {}
    for part in artifact.parts:
        assert part.key is not None
        assert part.record is not None
        job = part.key.partition(".")[0]
        path = store.path(artifact.shape, artifact.stage, part.key)
        facts = part.record.facts or (store.record("table", artifact.stage, part.key) or part.record).facts
        last[job] = max(last.get(job, facts), facts, key=lambda entry: entry["seconds"])
        files.setdefault(job, []).extend(
            [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        )
    yield from ((last[job], files[job]) for job in last)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--run", help="A run's id; the last completed one by default.")
    parser.add_argument("--documents", type=float, default=1e9)
    parser.add_argument("--cores", type=int, default=64)
    parser.add_argument("--part-rows", type=int, default=100_000, help="Documents of a part, as the recipe has them.")
    parser.add_argument("--clustered", type=float, help="Share of documents that have a duplicate; as in the run.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
