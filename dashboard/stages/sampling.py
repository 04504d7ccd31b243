"""Up to a million rows as a gate sees them, held in memory in the order of their labels, and the gate asked about them.

The sample is stratified by label: every label has its share of the rows, and a rare one 2,000 or all that there are.
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from polylm.dashboard.cache import Cache
from polylm.dashboard.funnel import gates_of
from polylm.dashboard.gates import extras_of, gate_jobs, stage_of
from polylm.dashboard.queries import Queries
from polylm.tasks import build
from polylm.tasks.build import Job
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.rules import Rules
from polylm.tasks.stage import REASON, Params
from polylm.tasks.store import StoreError

ROWS = 1_000_000
LEAST_ROWS = 2_000  # of a label, or all that it has
MOST_PARTS = 256  # that are read, evenly spaced: of larger stores a sample of parts
BLOCK_ROWS = 16_384  # a gate's columns of a block stay in the processor's cache
MOST_RULES = 64  # one bit each
PROBE_ROWS = 256
Bits = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

_samples = Cache(6)  # 8 bytes a row and column: 0.25 GB for a million rows of `filter_text`, 0.03 GB for other gates
_threads = ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="gate")


@dataclass(eq=False)
class Sample:
    """Rows sorted by label, in random order within one: so the first n of a label are a sample too."""

    job: Job
    columns: dict[str, Any]  # what the gate is shown
    part: Ints
    row: Ints
    labels: list[str]
    starts: Ints  # of each label's rows, and the end
    population: Ints  # documents of each label in the whole store
    amount: npt.NDArray[np.float64]  # bytes (or characters) of each row
    unit: str  # "bytes", "chars", or "" where neither is known
    elsewhere: npt.NDArray[np.bool_]  # rejected by another gate of the run
    parts: tuple[int, int]  # read, and of how many
    extras: list[Any] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    bits: Bits = field(default_factory=lambda: np.zeros(0, np.uint64))  # bit i: rule i is broken, as the run had it
    rows_a_second: float = 0.0  # at which the gate judges here
    kept: dict[int, Any] = field(default_factory=dict)  # by label, what it kept in the run: counted once

    @property
    def rows(self) -> int:
        return len(self.part)

    @cached_property
    def probe(self) -> tuple[Ints, Rules]:
        """The first 256 rows of every label, and what the gate said of them in the run: where a move is looked for."""
        return self.probe_of(range(len(self.labels)))

    def probe_of(self, labels: Iterable[int]) -> tuple[Ints, Rules]:
        rows = [self.of(label, PROBE_ROWS) for label in labels]
        places = np.concatenate([np.arange(one.start, one.stop) for one in rows])
        return places, self.ask(self.job.params, places)

    @property
    def documents(self) -> int:
        return int(self.population.sum())

    def of(self, label: int, most: int = 0) -> slice:
        """The rows of a label, or the first `most` of them."""
        begin, end = int(self.starts[label]), int(self.starts[label + 1])
        return slice(begin, min(end, begin + most) if most else end)

    def ask(self, params: Params, rows: slice | Ints, extras: Sequence[Any] | None = None) -> Rules:
        """The very gate on some rows; `extras` are its tables where they are not those of the run."""
        shown = {name: _rows_of(values, rows) for name, values in self.columns.items()}
        rules: Rules = self.job.stage(shown, params, *(self.extras if extras is None else extras))
        return rules

    def bits_of(
        self,
        params: Params,
        slices: Sequence[slice],
        only: Sequence[int] | None = None,
        extras: Sequence[Any] | None = None,
    ) -> list[Bits]:
        """Which rules are broken in these rows, one array a slice; `only` some of the rules. In blocks, on all cores."""
        blocks = [(i, block) for i, rows in enumerate(slices) for block in _blocks(rows)]
        found = [np.zeros(rows.stop - rows.start, np.uint64) for rows in slices]

        def judge(task: tuple[int, slice]) -> None:
            index, block = task
            begin = block.start - slices[index].start
            broken = _packed(self.ask(params, block, extras), only)
            found[index][begin : begin + len(broken)] = broken

        list(_threads.map(judge, blocks))
        return found


def sample_soon(here: Queries, run: Run, entry: Entry, rows: int = ROWS) -> Sample | None:
    """The sample of a gate, or None while it is being read: seconds for ten million rows, which are then all read once."""
    return _samples.soon(_key(here, entry, rows), lambda: draw(here, run, entry, rows))


def sample_of(here: Queries, run: Run, entry: Entry, rows: int = ROWS) -> Sample:
    """The sample of a gate, waited for."""
    return _samples.get(_key(here, entry, rows), lambda: draw(here, run, entry, rows))


def draw(here: Queries, run: Run, entry: Entry, rows: int = ROWS, seed: int = 0) -> Sample:
    """Read a sample and let the gate judge it as it did in the run; StoreError where today's gate cannot be asked."""
    jobs = gate_jobs(here, entry)
    if not jobs:
        raise StoreError(f"{entry.stage} has judged no part yet.")
    holder = _label_holder(here, run, entry)
    population = _population(here, holder, sum(job.parts[0].rows for job in jobs))
    shares = _shares(population, rows)
    chosen = np.unique(np.linspace(0, len(jobs) - 1, min(len(jobs), MOST_PARTS)).astype(np.int64))
    generator = np.random.default_rng(seed)
    pieces = [_piece(here, run, entry, jobs[i], int(i), holder, shares, generator) for i in chosen]
    sample = _joined(jobs[0], pieces, population, (len(chosen), len(jobs)), generator)
    sample.unit = _unit(here, run)[0]
    sample.extras = extras_of(jobs[0])
    _judge(sample)
    return sample


@dataclass
class _Piece:
    """What was taken of one part."""

    columns: dict[str, Any]
    row: Ints
    part: int
    labels: Ints
    amount: npt.NDArray[np.float64]
    elsewhere: npt.NDArray[np.bool_]


def _key(here: Queries, entry: Entry, rows: int) -> tuple[Any, ...]:
    return here.store.root, here.manifest(entry).key, rows


def _label_holder(here: Queries, run: Run, entry: Entry) -> tuple[str, str] | None:
    """The artifact and column by which rows are told apart: languages, or the first labels that the gate reads."""
    if languages := run.entries("identify_language"):
        return languages[-1].artifact, "language"
    stage = stage_of(entry.stage)
    for read in here.reads(entry).values():
        for name, kind in here.columns(read.ref).items():
            if stage and name in stage.reads and pa.types.is_dictionary(kind):
                return read.ref, name
    return None


def _population(here: Queries, holder: tuple[str, str] | None, rows: int) -> dict[str, int]:
    if holder is None:
        return {"": rows}
    assert holder[1] in here.columns(holder[0])
    found = here.sql(f'SELECT l."{holder[1]}" AS label, count(*) AS n FROM {{beside}} GROUP BY ALL', {"l": holder[0]})
    counts = {label or "": n for label, n in zip(found["label"].to_pylist(), found["n"].to_pylist(), strict=True)}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _shares(population: Mapping[str, int], rows: int) -> dict[str, float]:
    total = max(1, sum(population.values()))
    if total <= rows:
        return dict.fromkeys(population, 1.0)
    least = min(LEAST_ROWS, rows // (2 * len(population)))
    share = (rows - least * len(population)) / total
    return {label: min(1.0, max(share, least / max(1, n))) for label, n in population.items()}


def _piece(
    here: Queries, run: Run, entry: Entry, job: Job, index: int, holder: tuple[str, str] | None,
    shares: Mapping[str, float], generator: np.random.Generator,
) -> _Piece:  # fmt: skip
    rows = job.parts[0].rows
    codes = _codes(here, index, holder, list(shares), rows)
    taken = np.flatnonzero(generator.random(rows) < np.array(list(shares.values()))[codes]).astype(np.int64)
    shown = build.Shown.of(job.parts[0], here.store)
    some = {name: values.take(pa.array(taken)) for name, values in shown.columns.items()}
    columns = build.Shown(some, np.ones(len(taken), np.bool_)).for_gate()
    unit, of = _unit(here, run)
    amount = np.zeros(rows) if of is None else _numbers(here.part(of, index, [unit])[unit])
    elsewhere = np.zeros(rows, np.bool_)
    for other in gates_of(here, run):
        if other.artifact != entry.artifact:
            elsewhere |= ~np.asarray(here.part(other, index, [REASON])[REASON].is_null())
    return _Piece(columns, taken, index, codes[taken], amount[taken], elsewhere[taken])


def _codes(here: Queries, index: int, holder: tuple[str, str] | None, names: list[str], rows: int) -> Ints:
    """The number of each row's label in a part."""
    if holder is None:
        return np.zeros(rows, np.int64)
    column = here.part(holder[0], index, [holder[1]])[holder[1]].combine_chunks().cast(pa.string())
    return np.asarray(pc.index_in(column.fill_null(""), pa.array(names, pa.string())).to_numpy(), np.int64)


def _unit(here: Queries, run: Run) -> tuple[str, Entry | None]:
    """In what the size of documents is known: bytes where they were counted, or characters."""
    for unit, stage in (("bytes", "measure_text"), ("chars", "clean")):
        for entry in run.entries(stage)[-1:]:
            if here.has(entry) and unit in here.columns(entry):
                return unit, entry
    return "", None


def _joined(
    job: Job, pieces: list[_Piece], population: Mapping[str, int], parts: tuple[int, int], generator: np.random.Generator
) -> Sample:  # fmt: skip
    names = list(population)
    codes = np.concatenate([piece.labels for piece in pieces])
    order = np.lexsort((generator.random(len(codes)), codes))
    return Sample(
        job=job,
        columns={name: _rows_of(_whole([p.columns[name] for p in pieces]), order) for name in pieces[0].columns},
        part=np.concatenate([np.full(len(p.row), p.part, np.int64) for p in pieces])[order],
        row=np.concatenate([p.row for p in pieces])[order],
        labels=names,
        starts=np.searchsorted(codes[order], np.arange(len(names) + 1)),
        population=np.array(list(population.values()), np.int64),
        amount=np.concatenate([p.amount for p in pieces])[order],
        unit="",
        elsewhere=np.concatenate([p.elsewhere for p in pieces])[order],
        parts=parts,
    )


def _judge(sample: Sample) -> None:
    sample.rules = list(sample.ask(sample.job.params, slice(0, min(sample.rows, 1))))
    assert len(sample.rules) <= MOST_RULES, f"{len(sample.rules)} rules, at most {MOST_RULES} are counted"
    began = time.perf_counter()
    (sample.bits,) = sample.bits_of(sample.job.params, [slice(0, sample.rows)])
    sample.rows_a_second = sample.rows / max(1e-6, time.perf_counter() - began)


def _packed(rules: Rules, only: Sequence[int] | None) -> Bits:
    named = list(rules.values())
    bits = np.zeros(len(named[0].value), np.uint64)
    for index in range(len(named)) if only is None else only:
        bits |= named[index].broken.astype(np.uint64) << np.uint64(index)
    return bits


def _blocks(rows: slice) -> Iterator[slice]:
    for begin in range(rows.start, rows.stop, BLOCK_ROWS):
        yield slice(begin, min(rows.stop, begin + BLOCK_ROWS))


def _rows_of(values: Any, rows: slice | Ints) -> Any:
    if isinstance(values, np.ndarray):
        return values[rows]
    return values.slice(rows.start, rows.stop - rows.start) if isinstance(rows, slice) else values.take(pa.array(rows))


def _whole(pieces: list[Any]) -> Any:
    if isinstance(pieces[0], np.ndarray):
        return np.concatenate(pieces)
    joined = pa.chunked_array(pieces).unify_dictionaries().combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.asarray(column.combine_chunks().cast(pa.float64()).fill_null(0.0))
