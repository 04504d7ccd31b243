"""Which packed rows are in which step: a pure function of seed, step and what is skipped. No torch here.

Rows come in blocks of one row group. Each cell deals its blocks in an order that a Feistel permutation of
(seed, cell, epoch) names, and the rows inside a block likewise. Nothing depends on the number of ranks, so a
resume needs one integer: the step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from polylm.kernels.permutation import mix, permute, permute_all
from polylm.model.config import Segment
from polylm.model.rows import ROWS_PER_GROUP, PackedFiles

Integers = npt.NDArray[np.int64]

_SHARE_UNITS = 10**9
"""Shares that are no counts of rows are rounded to this many units, so that quotas are integers up to 9e9 rows."""

_MOST_ROWS = 3 * 10**9
"""Counts of rows are taken as they are up to this sum: the product of two such numbers is an int64."""


@dataclass(frozen=True)
class Place:
    """Where a dealt row lies."""

    cell: str
    file: str
    row: int


class CellRows:
    """The rows of one cell over many files, in blocks of one row group (4 bytes a row are held)."""

    def __init__(self, name: str, pieces: Sequence[tuple[int, Integers]]) -> None:
        self.name = name
        blocks = [(file, block) for file, rows in pieces for block in _blocks(rows)]
        self._files = np.array([file for file, _ in blocks], np.int32)
        self._sizes = np.array([len(block) for _, block in blocks], np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._rows = np.concatenate([block for _, block in blocks]).astype(np.int32)
        self._key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
        self._epoch_order = lru_cache(maxsize=4)(self._order_of_epoch)

    def __len__(self) -> int:
        return len(self._rows)

    def deal(self, first: int, count: int, seed: int) -> list[tuple[int, int]]:
        """Give (file, row) of the dealt rows number `first` to `first + count`, over as many epochs as needed."""
        return [self._deal_one(index, seed) for index in range(first, first + count)]

    def _deal_one(self, index: int, seed: int) -> tuple[int, int]:
        epoch, place = divmod(index, len(self))
        order, ends = self._epoch_order(epoch, seed)
        slot = int(np.searchsorted(ends, place, side="right"))
        block = int(order[slot])
        size = int(self._sizes[block])
        inside = place - (int(ends[slot]) - size)
        row = permute(inside, size, mix(seed, self._key, epoch, block))
        return int(self._files[block]), int(self._rows[self._starts[block] + row])

    def _order_of_epoch(self, epoch: int, seed: int) -> tuple[Integers, Integers]:
        count = len(self._sizes)
        order = permute_all(np.arange(count), count, mix(seed, self._key, epoch))
        return order, np.cumsum(self._sizes[order])


def _blocks(rows: Integers) -> list[Integers]:
    cuts = np.flatnonzero(np.diff(rows // ROWS_PER_GROUP)) + 1
    return np.split(rows, cuts)


def index_cells(files: PackedFiles) -> dict[str, CellRows]:
    """Find the rows of every cell, reading the `cell` column only."""
    pieces: dict[str, list[tuple[int, Integers]]] = {}
    for file in range(len(files.paths)):
        names, codes = np.unique(np.array(files.cells(file), dtype=object).astype(str), return_inverse=True)
        for code, name in enumerate(names.tolist()):
            pieces.setdefault(name, []).append((file, np.flatnonzero(codes == code)))
    return {name: CellRows(name, rows) for name, rows in sorted(pieces.items())}


class Quotas:
    """How many rows of each cell every step gets, so that the sum so far is within one row of the plan.

    Shares that are counts of rows are met exactly when as many rows were dealt, and so is every sum of cells.

    Row k of a cell with share p may come once p N > k and must have come when p N >= k + 1, where N counts all
    rows so far. Earliest deadline first meets every deadline: jobs of unit length on `batch` machines
    (Tijdeman's chairman assignment, step by step). Largest remainders alone are not monotone.
    """

    def __init__(self, shares: Sequence[float], batch: int) -> None:
        self._units, self._total = _whole_units(shares)
        self._batch = batch
        self._step = 0
        self._dealt: Integers = np.zeros(len(self._units), np.int64)

    def before(self, step: int) -> Integers:
        """Rows of each cell dealt before `step`; a step further on costs about 20 microseconds."""
        if step < self._step:
            self._step, self._dealt = 0, np.zeros_like(self._dealt)
        while self._step < step:
            self._dealt += self._next()
            self._step += 1
        return self._dealt.copy()

    def _next(self) -> Integers:
        wanted = self._units * ((self._step + 1) * self._batch)
        due: Integers = np.maximum(wanted // self._total - self._dealt, 0)
        released = -(-wanted // self._total) - self._dealt - due
        spare = self._batch - int(due.sum())
        assert spare >= 0, "a deadline was missed"
        open_cells = np.flatnonzero(released > 0)
        next_row = (self._dealt + due + 1)[open_cells]
        deadline = -(-next_row * self._total // (self._units[open_cells] * self._batch))
        due[open_cells[np.argsort(deadline, kind="stable")[:spare]]] += 1
        return due


def _whole_units(shares: Sequence[float]) -> tuple[Integers, int]:
    """Shares as whole numbers, and their sum."""
    if all(float(share).is_integer() for share in shares) and sum(shares) <= _MOST_ROWS:
        return np.array(shares, np.int64), int(sum(shares))
    exact = np.array(shares, np.float64) / float(np.sum(shares)) * _SHARE_UNITS
    units = np.floor(exact).astype(np.int64)
    rest = _SHARE_UNITS - int(units.sum())
    units[np.argsort(units - exact, kind="stable")[:rest]] += 1
    return units, _SHARE_UNITS


class Sampler:
    """Deals the rows of every step of a job.

    A cell goes on where it stopped when the next segment has the same files; other files start at their first row, or
    behind what `Segment.dealt` says that earlier jobs dealt.
    """

    def __init__(
        self, segments: Sequence[Segment], *, context: int, batch: int, seed: int, skip: Sequence[tuple[int, int]] = ()
    ) -> None:
        self.batch = batch
        self._segments = list(segments)
        self._context = context
        self._seed = seed
        self._skip = sorted(skip)
        self._files: dict[tuple[str, ...], PackedFiles] = {}
        self._cells: dict[tuple[str, ...], dict[str, CellRows]] = {}
        for segment in segments:
            self._check(segment)

    def segment_of_step(self, step: int) -> int:
        """Number the segment of a step."""
        ends = np.cumsum([segment.steps for segment in self._segments])
        if not 0 <= step < ends[-1]:
            raise ValueError(f"step {step} is outside this training of {ends[-1]} steps")
        return int(np.searchsorted(ends, step, side="right"))

    def files_of_segment(self, segment: int) -> PackedFiles:
        """Open the packed files of a segment, once."""
        key = tuple(self._segments[segment].files)
        if key not in self._files:
            self._files[key] = PackedFiles(key, self._context)
        return self._files[key]

    def rows_of_step(self, step: int) -> list[Place]:
        """Say which rows are in `step`, cells in the order of their names."""
        paths = self.files_of_segment(self.segment_of_step(step)).paths
        return [Place(cell, paths[file], row) for cell, file, row in self.deal(step)]

    def deal(self, step: int) -> list[tuple[str, int, int]]:
        """Give (cell, file number, row) of every row of `step`."""
        number = self.segment_of_step(step)
        segment = self._segments[number]
        names = sorted(segment.shares)
        data_step = self._data_step(step, number)
        first = self._quotas[number].before(data_step)
        last = self._quotas[number].before(data_step + 1)
        cells = self._index(number)
        dealt = []
        for place, name in enumerate(names):
            start = self._dealt_before(number, name) + int(first[place])
            count = int(last[place] - first[place])
            dealt += [(name, file, row) for file, row in cells[name].deal(start, count, self._seed)]
        return dealt

    @cached_property
    def _quotas(self) -> list[Quotas]:
        return [
            Quotas([segment.shares[name] for name in sorted(segment.shares)], self.batch) for segment in self._segments
        ]

    @cached_property
    def _data_starts(self) -> list[int]:
        """The data step with which each segment begins, and where the last one ends."""
        starts = [0]
        for segment in self._segments:
            starts.append(_after(starts[-1], segment.steps, self._skip))
        return starts

    def _data_step(self, step: int, number: int) -> int:
        start = self._data_starts[number]
        local = step - sum(segment.steps for segment in self._segments[:number])
        return _after(start, local + 1, self._skip) - 1 - start

    def _dealt_before(self, number: int, cell: str) -> int:
        total = self._segments[number].dealt.get(cell, 0)
        for earlier in reversed(range(number)):
            segment = self._segments[earlier]
            if segment.files != self._segments[number].files:
                break
            if cell in segment.shares:
                steps = self._data_starts[earlier + 1] - self._data_starts[earlier]
                total += int(self._quotas[earlier].before(steps)[sorted(segment.shares).index(cell)])
        return total

    def _index(self, number: int) -> dict[str, CellRows]:
        key = tuple(self._segments[number].files)
        if key not in self._cells:
            self._cells[key] = index_cells(self.files_of_segment(number))
        return self._cells[key]

    def _check(self, segment: Segment) -> None:
        found = self._index(self._segments.index(segment))
        if missing := sorted(set(segment.shares) - set(found)):
            raise ValueError(
                f"segment {segment.name}: its files have no row of {', '.join(missing)}; "
                f"they have {', '.join(sorted(found))}"
            )


def _after(start: int, count: int, skip: Sequence[tuple[int, int]]) -> int:
    """The data step after `count` steps from `start` that are not skipped."""
    end = start + count
    for first, last in skip:
        if last >= start and first < end:
            end += last - max(first, start) + 1
    return end
