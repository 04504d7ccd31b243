"""Arrays on disk, for stages that see a whole corpus and may not hold it: written once, read back a piece at a time."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]


@contextmanager
def spill_folder(scratch: Path) -> Iterator[Path]:
    """An empty folder in a job's scratch, removed at the end; what a killed job left there goes first."""
    folder = scratch / "spill"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)


class Groups:
    """Rows of one type in numbered groups, a file each; rows of a group keep the order in which they were added.

    Files are opened for one write at a time, so there may be thousands. Memory: the rows of one call, twice.
    """

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        self._folder, self._dtype = folder, dtype
        folder.mkdir()

    def add(self, groups: NDArray[Any], rows: NDArray[Any]) -> None:
        """Put every row into its group."""
        order = np.argsort(groups, kind="stable")
        groups, rows = groups[order], rows[order]
        for first, last in pairwise(bounds_of_runs(groups).tolist()):
            with self._path(int(groups[first])).open("ab") as file:
                rows[first:last].astype(self._dtype, copy=False).tofile(file)

    def __iter__(self) -> Iterator[int]:
        """The numbers of the groups that have rows, in order."""
        return iter(sorted(int(path.name) for path in self._folder.iterdir()))

    def read(self, group: int) -> NDArray[Any]:
        path = self._path(group)
        return np.fromfile(path, self._dtype) if path.exists() else np.empty(0, self._dtype)

    def pieces(self, group: int, rows: int) -> Iterator[NDArray[Any]]:
        """A group that may be large, so many rows at a time."""
        with self._path(group).open("rb") as file:
            while len(piece := np.fromfile(file, self._dtype, rows)):
                yield piece

    def columns(self, sort_by: str | None = None) -> dict[str, NDArray[Any]]:
        """All rows, group after group, as an array a field; rows of a group by one field if asked.

        Every array is allocated once: a list of them that is put together at the end would take twice its size. Memory: the
        arrays and one group, twice.
        """
        count = sum(self._path(group).stat().st_size for group in self) // self._dtype.itemsize
        whole = {name: np.empty(count, self._dtype[name]) for name in self._dtype.names or ()}
        filled = 0
        for group in self:
            rows = self.read(group)
            rows = rows if sort_by is None else rows[np.argsort(rows[sort_by], kind="stable")]
            for name, values in whole.items():
                values[filled : filled + len(rows)] = rows[name]
            filled += len(rows)
        return whole

    def _path(self, group: int) -> Path:
        return self._folder / str(group)


class Sets:
    """`count` sets of hashes in one file, in the order of their owners; any of them can be read back.

    Memory: 8 bytes a set. `offsets`, [count + 1], says where each set begins and the last one ends, in hashes.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._path, self._filled = path, 0
        self.offsets: Ints = np.zeros(count + 1, np.int64)
        path.touch()

    def __len__(self) -> int:
        """How many sets were added."""
        return self._filled

    def append(self, hashes: NDArray[np.uint64], offsets: Ints) -> None:
        """Add sets; set i is `hashes[offsets[i]:offsets[i + 1]]`, the last ends where `hashes` does."""
        with self._path.open("ab") as file:
            hashes.tofile(file)
        first, last = self._filled, self._filled + len(offsets) - 1
        assert last < len(self.offsets), f"{last} sets, {len(self.offsets) - 1} expected"
        self.offsets[first + 1 : last + 1] = offsets[1:] - offsets[0] + self.offsets[first]
        self._filled = last

    def read(self, owners: Ints) -> tuple[NDArray[np.uint64], Ints]:
        """The sets of some owners, in ascending order, end to end, with their offsets."""
        starts, ends = self.offsets[owners], self.offsets[owners + 1]
        offsets = np.concatenate(([0], np.cumsum(ends - starts)))
        out = np.empty(int(offsets[-1]), np.uint64)
        with self._path.open("rb") as file:
            # Neighbours are read at once; owners that are not neighbours end a run where the next starts elsewhere.
            breaks = np.flatnonzero(np.concatenate(([True], starts[1:] != ends[:-1], [True])))
            for first, last in pairwise(breaks.tolist() if len(owners) else ()):
                file.seek(int(starts[first]) * 8)
                out[offsets[first] : offsets[last]] = np.fromfile(file, np.uint64, int(offsets[last] - offsets[first]))
        return out, offsets


def bounds_of_runs(sorted_values: NDArray[Any]) -> Ints:
    """Where each run of equal values begins, and the end of the last; empty for no values."""
    if not len(sorted_values):
        return np.empty(0, np.int64)
    return np.flatnonzero(np.concatenate(([True], sorted_values[1:] != sorted_values[:-1], [True])))
