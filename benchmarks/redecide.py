"""A changed threshold over 10 million documents: seconds from `polylm run` to its exit, nothing but verdicts re-made.

    python benchmarks/redecide.py [--parts 100] [--rows 100000] [--store FOLDER] [--workers 2]

What was measured is that of the embedded sample's documents, drawn again and again by a seed, with texts of one letter and
clusters of about three; gates, fits, keepers and `select` are the real ones. They are made once; then thresholds of three kinds
are changed, one run each: a rule's, a floor's and a percentile's. One JSON line a figure. No peer: nothing else keeps every value.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polylm.deployments.settings import Settings
from polylm.flows.alarms import Watch
from polylm.flows.everything import build_everything, start
from polylm.flows.recipe_options import resolve
from polylm.tasks import build
from polylm.tasks.build import Done, Job
from polylm.tasks.pool import Pool
from polylm.tasks.session import session
from polylm.tasks.store import Record, Store, read_columns

CHANGES = {
    "a rule's threshold": "text.thresholds.en.gopher_short_doc=60",
    "a floor's bounds": "floors.lowest=0.35",
    "a percentile": "cutoffs.ceiling=0.99",
}


class SyntheticPool(Pool):
    """Makes up what measures, models and joins would give; every other job is done as it is."""

    def __init__(self, real: Pool, measured: dict[str, pa.Table], parts: int, rows: int) -> None:
        super().__init__(0)
        self.real, self.measured, self.parts, self.rows = real, measured, parts, rows

    def run(self, jobs: Iterable[Job], work: Any = build.build, **how: Any) -> Iterator[Any]:
        jobs = list(jobs)
        stage = jobs[0].stage
        if stage.runs_in_plan or stage.name == "select":
            yield from self.real.run(jobs, work, **how)
            return
        for job in jobs:
            yield job, Done(self._made(job))

    def close(self, *, kill: bool = False) -> None:
        self.real.close(kill=kill)

    def _made(self, job: Job) -> Record:
        store, watch = Store(job.store), build._Watch()
        if job.stage.each == "file":
            return self._ingested(job, store, watch)
        if job.stage.writes is None:
            return _no_model(job, store, watch)
        table = self._part(job, int(job.label.rpartition(".")[2])) if job.stage.each == "part" else None
        table = job.stage.writes.empty_table() if table is None else table
        return store.commit_table(table, build.record_of(job, table, watch))

    def _part(self, job: Job, number: int) -> pa.Table:
        """The same rows of the measured documents for every stage; texts and clusters are made up."""
        schema, draw = job.stage.writes, np.random.default_rng(number)
        drawn = draw.integers(0, self.measured["ingest"].num_rows, self.rows)
        columns = {}
        for field in schema:
            if field.name == "cluster":  # of one document in ten
                of = draw.integers(0, max(1, self.rows // 30), self.rows) + (number * self.rows)
                columns[field.name] = pa.array(of, field.type, mask=draw.random(self.rows) > 0.1)
            elif field.name == "text":  # of the part: parts of equal content would be one
                columns[field.name] = pa.array([str(number)] * self.rows)
            elif field.name == "bands":
                columns[field.name] = pa.nulls(self.rows, field.type)
            else:
                columns[field.name] = self.measured[job.stage.name][field.name].take(pa.array(drawn))
        return pa.table(columns, schema)

    def _ingested(self, job: Job, store: Store, watch: Any) -> Record:
        parts = []
        for index in range(self.parts):
            table = self._part(job, index)
            record = build.record_of(job, table, watch)
            key = f"{job.key}.{index}"
            store.commit_table(table, record, key=key)
            parts.append({"key": key, "rows": table.num_rows, "columns": record.columns, "facts": record.facts})
        from polylm.tasks.documents.schema import BAD_RECORD

        bad = BAD_RECORD.empty_table()
        return store.commit_table(bad, build.record_of(job, bad, watch, parts=parts))


def _no_model(job: Job, store: Store, watch: Any) -> Record:
    with store.locked(job.key) as work:
        out = work / "out"
        out.mkdir(exist_ok=True)
        found = {"has_model": False, "reference_bytes": [0, 0]}
        return store.commit_folder(out, build.record_of(job, pa.table({}), watch, metrics=found))


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    told.add_argument("--parts", type=int, default=100)
    told.add_argument("--rows", type=int, default=100_000)
    told.add_argument("--workers", type=int, default=2)
    told.add_argument("--store", type=Path)
    options = told.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.store or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / "source.jsonl"
        source.write_text('{"text": "stands for all documents"}\n')
        made_up(folder / "store", source, measured(folder / "sample", options.workers), options)
        for what, change in CHANGES.items():
            seconds, stages = re_decide(folder / "store", source, change, options.workers)
            figure(f"{what} over {options.parts * options.rows:,} documents", seconds, change=change, stages=stages)


def measured(store: Path, workers: int) -> dict[str, pa.Table]:
    """The tables of the sample's documents, by stage."""
    settings = Settings(store=store, workers=workers)
    here = start("sample", settings, changes=["flow=corpus"], until="select", watch=Watch("warn"))
    tables = {}
    for name, artifact in here.artifacts.items():
        if artifact.shape == "rows":
            paths = [here.store.part_path(name, str(part.key)) for part in artifact.parts]
            tables[name] = pa.concat_tables(read_columns(path) for path in paths).unify_dictionaries().combine_chunks()
    return tables


def made_up(store: Path, source: Path, tables: dict[str, pa.Table], options: argparse.Namespace) -> None:
    """A store with synthetic measures and the real verdicts over them."""
    settings = Settings(store=store, workers=options.workers)
    recipe = resolve("corpus", [f"x={source}"], [])
    with session(settings, name="corpus", recipe=recipe.model_dump(mode="json")) as here:
        here.pool = SyntheticPool(here.pool, tables, options.parts, options.rows)
        build_everything(recipe, Watch("warn"))


def re_decide(store: Path, source: Path, change: str, workers: int) -> tuple[float, dict[str, float]]:
    """Seconds of one run with a changed recipe, and of its stages that were built."""
    words = ["run", "corpus", "--source", f"x={source}", "--set", change, "--store", str(store), "--json"]
    words += ["--workers", str(workers), "--no-prefect", "--on-alarm", "warn"]
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-P", "-m", "polylm.flows.cli", *words], capture_output=True, text=True)
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(done.stderr)
    return seconds, {one["stage"]: one["seconds"] for one in json.loads(done.stdout)["stages"] if one["built"]}


def figure(name: str, ours: float, **more: Any) -> None:
    command = " ".join(["python", *sys.argv])
    print(json.dumps({"name": name, "ours": round(ours, 2), "unit": "s", "command": command, **more}), flush=True)


if __name__ == "__main__":
    main()
