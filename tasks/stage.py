"""How a stage is declared: what it reads, what it writes, its parameters and one pure function.

    @measure(reads=["text"], writes={"emoji": pa.uint32()}, version=1)
    def measure_emoji(rows: Rows, params: NoParams) -> Columns: ...

    @gate(reads=["emoji", "chars"])
    def filter_emoji(rows: Rows, params: EmojiParams) -> Rules: ...

    @files(reads=["language", "confidence"], writes={"language": pa.string(), "floor": pa.float64()}, cheap=True)
    def fit_language_floors(corpus: Corpus, params: FloorParams) -> pa.Table: ...

That is all that a stage's author writes; `tasks.run` gives every stage the same keys, re-use, workers and records.
Stages are found by looking (`all_stages`); nothing is registered.
"""

import functools
import importlib
import importlib.metadata
import inspect
import json
import pkgutil
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_type_hints

import pyarrow as pa
import pydantic
from pydantic import BaseModel, ConfigDict

Rows = Mapping[str, Any]
"""Columns of one part by name. Arrow arrays in measures and files stages (only the rows that `where` kept); in gates
numbers are float64 arrays with null = NaN, and strings are dictionary-encoded Arrow arrays."""

Columns = Mapping[str, Any]
"""What a measure returns: every column that it declares, as many values as it was shown rows."""

Kind = Literal["measure", "gate", "files"]
Each = Literal["file", "part", "language", "task", "band", "whole"]
installed = functools.cache(importlib.metadata.version)
DOC = "doc"  # the column that is not stored: the document's number (`keys.address` prints it)
REASON = "rejected_because"  # the column that every gate writes


class StageError(ValueError):
    """A stage was declared, called or fed against its contract; the message says what was found and expected."""


class Params(BaseModel):
    """Base of all parameters: frozen, and strict about names that do not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def jobs(self) -> Sequence[str]:
        """The jobs of a stage that has one for each language, task or band, by name."""
        raise AssertionError(f"{type(self).__name__} of a stage with each='language', 'task' or 'band' needs jobs()")


class NoParams(Params):
    """For stages with nothing to choose."""


def Field(default: Any = ..., *, description: str, source: str = "", unit: str = "", **bounds: Any) -> Any:
    """A parameter: its default, its meaning, its unit, where its value comes from, and its bounds (`ge`, `le`, ...)."""
    extra: dict[str, Any] = {key: value for key, value in {"source": source, "unit": unit}.items() if value}
    return pydantic.Field(default, description=description, json_schema_extra=extra or None, **bounds)


class Corpus(Protocol):
    """The rows of every part in order, one part in memory at a time; rows that `where` rejected are left out."""

    def __iter__(self) -> Iterator[Rows]: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Workspace:
    """Where a job works: `out` becomes the artifact (files under `out/logs` are no content, and in no key); `scratch`
    survives a crash of the job; `shared` is the stage's own and is never removed (paid answers)."""

    out: Path
    scratch: Path
    shared: Path

    def tell(self, done: int, of: int, more: str = "") -> None:
        """Say how far this job is, at most once a second or so; the run's observers are told (`Progress`)."""
        new = self.scratch / "progress.new"
        new.write_text(json.dumps([done, of, more]), encoding="utf-8")
        new.replace(self.scratch / "progress.json")


@dataclass(frozen=True)
class Progress:
    """How far a long job is, in units of its own; `more` is what else is worth a line, such as the loss."""

    done: int
    of: int
    more: str

    @classmethod
    def of_job(cls, scratch: Path) -> "Progress | None":
        """What a job told last; None if it has not, or the file is damaged: nothing stands on it."""
        try:
            done, of, more = json.loads((scratch / "progress.json").read_bytes())
            return cls(int(done), max(1, int(of)), str(more))
        except (OSError, ValueError, TypeError):
            return None


@dataclass(frozen=True)
class Stage:
    """A declared stage. Calling it calls the pure function, so tests need nothing else."""

    function: Callable[..., Any]
    kind: Kind
    params: type[Params]
    reads: tuple[str, ...]
    writes: pa.Schema | None  # None: a folder
    version: int
    each: Each = "part"
    aligned: bool = True  # as many rows as the documents, in the same order
    cheap: bool = False
    reproducible: bool = True
    libraries: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def summary(self) -> str:
        return (self.function.__doc__ or "").partition("\n")[0]

    @property
    def runs_in_plan(self) -> bool:
        """Gates and fits take seconds, and what follows cannot be planned exactly without them."""
        return self.kind == "gate" or self.cheap

    @property
    def takes(self) -> frozenset[str]:
        """The names of the function's arguments, by which it asks for `work` and `job`."""
        return frozenset(inspect.signature(self.function).parameters)

    def library_versions(self) -> dict[str, str]:
        """Versions of the libraries whose output is the stage's output: part of the key. `unicodedata` is Python's table."""
        known = {"unicodedata": unicodedata.unidata_version}
        return {name: known.get(name) or installed(name) for name in self.libraries}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        # The module's attribute is this Stage, so a worker process fetches it from there.
        return load_stage, (self.function.__module__, self.name)


Declare = Callable[[Callable[..., Any]], Stage]


def measure(
    *, reads: Sequence[str], writes: Mapping[str, pa.DataType], version: int = 1, libraries: Sequence[str] = ()
) -> Declare:
    """Declare a stage that computes columns for every row; it never looks at a verdict.

    Raise `version` whenever the same input would give other output; name in `libraries` the distributions whose
    output is the stage's output. Floats are rounded to 4 decimals, so that machines agree.
    """
    return _declare("measure", reads, writes, version=version, libraries=tuple(libraries))


def gate(*, reads: Sequence[str], version: int = 1) -> Declare:
    """Declare a stage that turns columns, thresholds and fitted tables into rules (`tasks.rules`)."""
    return _declare("gate", reads, {REASON: pa.dictionary(pa.int8(), pa.string())}, version=version)


def files(
    *,
    reads: Sequence[str] = (),
    writes: Mapping[str, pa.DataType] | pa.Schema | None = None,
    each: Each = "whole",
    aligned: bool = False,
    cheap: bool = False,
    reproducible: bool = True,
    version: int = 1,
    libraries: Sequence[str] = (),
) -> Declare:
    """Declare a stage that writes a table (`writes`) or a folder, from a part, or from all parts at once.

    The function gets its rows or its `Corpus` if it reads columns, then the params, then the other inputs (a table as
    `pa.Table`, a folder as `Path`, several of either as a dict of paths by job), and by name `work: Workspace` and
    `job: str` if it asks.
    """
    return _declare(
        "files",
        reads,
        writes,
        version=version,
        each=each,
        aligned=aligned,
        cheap=cheap,
        reproducible=reproducible,
        libraries=tuple(libraries),
    )


def all_stages(package: str = "polylm.tasks") -> Iterator[Stage]:
    """Every stage in the folders of `package`, found by looking; the machinery beside them, Prefect's too, is not imported."""
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not module.ispkg and module.name.rpartition(".")[0] == package:
            continue
        for member in vars(importlib.import_module(module.name)).values():
            if isinstance(member, Stage) and member.function.__module__ == module.name:
                yield member


def load_stage(module: str, name: str) -> Stage:
    stage = getattr(importlib.import_module(module), name)
    assert isinstance(stage, Stage)
    return stage


def _declare(
    kind: Kind, reads: Sequence[str], writes: Mapping[str, pa.DataType] | pa.Schema | None, **rest: Any
) -> Declare:
    schema = writes if writes is None or isinstance(writes, pa.Schema) else pa.schema(list(writes.items()))

    def declare(function: Callable[..., Any]) -> Stage:
        params = get_type_hints(function).get("params")
        if not (isinstance(params, type) and issubclass(params, Params)):
            raise StageError(f"{function.__name__}: annotate `params` with a subclass of Params")
        if not (function.__doc__ or "").partition("\n")[0].endswith("."):
            raise StageError(f"{function.__name__}: its docstring begins with a sentence; `polylm stages` prints it")
        return Stage(function, kind, params, tuple(reads), schema, **rest)

    return declare
