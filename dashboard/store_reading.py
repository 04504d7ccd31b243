"""Runs, manifests and files of a store as values. Whatever an address names is looked up here; none of it becomes a path.

Manifests and records may be of other versions, cut short or changed by hand: what cannot be read is an error that names
the file and the way out, whatever JSON it holds.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, overload

import pyarrow as pa
from pydantic import Field, TypeAdapter, ValidationError

from polylm.dashboard.cache import Cache
from polylm.dashboard.errors import Damaged, Missing
from polylm.tasks.maintenance.files import read_json
from polylm.tasks.maintenance.run_records import Run, read_run, run_paths
from polylm.tasks.maintenance.run_records import run_id as id_of
from polylm.tasks.store import Shape, Store, StoreError

_REF = re.compile(r"([a-z0-9_]{1,80})/([0-9a-f]{8,64})")
_PARSED = 4_000  # manifests and run records that are held
_MOST = 2**63  # what no count of ours comes to, and no column holds
_Count = Annotated[int, Field(ge=0, lt=_MOST)]
_Key = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}(\.[0-9]{1,9})?$")]  # it becomes a path


@dataclass(frozen=True)
class ManifestPart:
    """One part of an artifact; `number` is that of its first document."""

    key: _Key
    label: str
    number: _Count | None
    rows: _Count
    reasons: Mapping[str, _Count]


@dataclass(frozen=True)
class Manifest:
    """What an artifact is made of, without opening any of its parts."""

    stage: str
    key: str
    shape: Shape
    sources: tuple[str, ...]
    params: Mapping[str, Any]
    version: _Count
    reads: tuple[str, ...]
    parts: tuple[ManifestPart, ...]
    jobs: tuple[_Key, ...] = ()  # of an ingest: whose own files are tables of bad records
    alarms: tuple[Mapping[str, Any], ...] = ()

    @property
    def ref(self) -> str:
        return f"{self.stage}/{self.key[:16]}"

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def reasons(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for part in self.parts:
            for reason, count in part.reasons.items():
                counts[reason] = counts.get(reason, 0) + count
        return counts


class Runs(Sequence[Run]):
    """The runs of a store, the newest first. A record is parsed when it is looked at: a store may hold thousands."""

    def __init__(self, paths: Mapping[str, Path], read: Callable[[Path], Run]) -> None:
        """`paths`: of the records by the runs' ids."""
        self._paths, self._read = paths, read
        self._of: dict[str, Runs] = {}

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> "Runs": ...
    def __getitem__(self, index: int | slice) -> "Run | Runs":
        if isinstance(index, slice):
            return Runs(dict(islice(self._paths.items(), *index.indices(len(self)))), self._read)
        return self._read(next(islice(self._paths.values(), range(len(self))[index], None)))

    def __iter__(self) -> Iterator[Run]:
        return map(self._read, self._paths.values())

    def has(self, run_id: str) -> bool:
        """Whether there is a run of that id; no record is parsed."""
        return run_id in self._paths

    def older(self, run_id: str) -> "Runs":
        """Those that began before a run."""
        return Runs({own: path for own, path in self._paths.items() if own < run_id}, self._read)

    def of(self, recipe: str) -> "Runs":
        """Those of a recipe, which a run's id tells too."""
        if recipe not in self._of:
            own = {run_id: path for run_id, path in self._paths.items() if run_id.partition("-")[2] == recipe}
            self._of[recipe] = Runs(own, self._read)
        return self._of[recipe]


class StoreReader:
    """Reads run records and manifests, each once as long as its file does not change."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self._parsed = Cache(_PARSED)
        self._manifests: dict[str, Path] = {}

    def runs(self) -> Runs:
        """All runs, the newest first."""
        return Runs({id_of(path): path for path in reversed(run_paths(self.store.root))}, self._run)

    def run(self, run_id: str) -> Run:
        """A run by its id; Missing where the store has none of that name."""
        for path in run_paths(self.store.root):
            if run_id == id_of(path):
                return self._run(path)
        raise Missing(f"No run {run_id[:100]!r} in this store.")

    def manifest(self, ref: str) -> Manifest:
        """A manifest by stage/key, where the beginning of the key will do; Missing or StoreError where it cannot."""
        if ref not in self._manifests:
            self._manifests[ref] = self._find(ref)
        path = self._manifests[ref]
        try:
            found = self._once(path, _manifest)
        except FileNotFoundError:
            raise Missing(f"The artifact {ref} is gone from this store.") from None
        if not isinstance(found, Manifest):
            raise StoreError(f"The manifest of {ref} is damaged ({found}): the next run of the recipe writes it again.")
        return found

    def part_paths(self, manifest: Manifest) -> list[Path]:
        return [self.store.path(manifest.shape, manifest.stage, part.key) for part in manifest.parts]

    def _find(self, ref: str) -> Path:
        told = _REF.fullmatch(ref)
        found = list((self.store.root / "artifacts" / told[1]).glob(f"{told[2]}*.json")) if told else []
        if len(found) != 1:
            raise Missing(f"No artifact {ref[:100]!r} in this store." if not found else f"Several artifacts are {ref}.")
        return found[0]

    def _run(self, path: Path) -> Run:
        try:
            run = self._once(path, _record)
        except OSError:  # gone since it was listed, or a link that leads nowhere
            run = _record(path)
        assert isinstance(run, Run)
        return run.as_it_is()

    def _once(self, path: Path, parse: Any) -> Any:
        stat = path.stat()
        return self._parsed.get((path, stat.st_mtime_ns, stat.st_size), lambda: parse(path))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Errors of reading a file of an artifact, whatever they are, as one that names it: Damaged."""
    try:
        yield
    except FileNotFoundError as error:
        raise Damaged(path, "gone") from error
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        told = error.__cause__ if isinstance(error, StoreError) else error  # it names the path too
        if isinstance(told, OSError) and told.strerror:
            raise Damaged(path, f"not readable ({told.strerror})") from error
        raise Damaged(path, f"damaged ({str(told)[:200]})") from error


def _manifest(path: Path) -> Manifest | str:
    """What a manifest says, or what is wrong with it."""
    told = read_json(path)
    if told is None:
        return "it is not what was written"
    named = {"params": {}, "version": 0, "reads": (), **told, "key": path.stem}
    try:
        manifest = _MANIFEST.validate_python(named)
    except ValidationError as error:
        problem = error.errors()[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"[:200]
    if manifest.stage != path.parent.name:
        return "it is of another stage"
    return _impossible(told) or manifest


def _record(path: Path) -> Run:
    """A run's record; one with numbers that cannot be counted with is damaged too."""
    run = read_run(path)
    if not (problem := _impossible(run.model_dump())):
        return run
    error = f"{id_of(path)}.json is damaged ({problem}): delete it; nothing but this note is lost"
    return Run(id=run.id, name=id_of(path).partition("-")[2], state="damaged", error=error)


def _impossible(told: Any) -> str:
    """What in a JSON value could not be shown or counted with; "" where there is nothing."""
    try:
        json.dumps(told, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:  # escapes may hold what is no text
        return "it holds lone surrogates"
    except RecursionError:
        return "it is nested too deeply"
    left = [told]
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value
        elif isinstance(value, int) and abs(value) >= _MOST:
            return "it holds a number that is too large"
    return ""


_MANIFEST = TypeAdapter(Manifest)
