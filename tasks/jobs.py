"""The jobs of a stage, named by what they read: one a part, a file, a name that the params give, or one over all.

A job that reads something not yet built has no key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from polylm.tasks import keys
from polylm.tasks.build import Job, PartInput
from polylm.tasks.session import Session
from polylm.tasks.stage import DOC, Params, Stage, StageError
from polylm.tasks.store import Artifact, Store


class Pieces(Protocol):
    """What an ingest stage reads: pieces of input files, in the order in which their parts are numbered."""

    def pieces(self, params: Params, store: Store) -> Sequence[Any]: ...


def jobs_of(stage: Stage, params: Params, inputs: Sequence[Any], where: Sequence[Artifact], here: Session) -> list[Job]:
    """The jobs of a stage; one whose inputs are not built yet has the key ""."""
    if stage.each == "file":
        return _file_jobs(stage, params, inputs[0], here)
    told = _Inputs.of(stage, inputs, where)
    extras = told.extras(here.store)
    base = _base(stage, params)
    numbered = DOC in stage.reads
    parts = (
        [told.part(i, numbered=numbered) for i in range(len((told.beside or told.where)[0].parts))]
        if stage.reads
        else []
    )
    if stage.each == "part":
        rows = (told.beside or told.where)[0].parts
        return [_job(stage, params, base, here, rows[i].label, [part], extras, None) for i, part in enumerate(parts)]
    names = [None] if stage.each == "whole" else list(params.jobs())
    return [_job(stage, params, base, here, name or "", parts, extras, name) for name in names]


@dataclass(frozen=True)
class _Inputs:
    """A stage's inputs told apart: those laid beside its rows, and those that it gets whole."""

    beside: tuple[Artifact, ...]
    whole: tuple[Artifact, ...]
    columns: tuple[tuple[Artifact, tuple[str, ...]], ...]
    where: tuple[Artifact, ...]

    @classmethod
    def of(cls, stage: Stage, inputs: Sequence[Any], where: Sequence[Artifact]) -> "_Inputs":
        beside = tuple(item for item in inputs if isinstance(item, Artifact) and item.shape == "rows")
        whole = tuple(item for item in inputs if isinstance(item, Artifact) and item.shape != "rows")
        taken: dict[str, list[str]] = {}
        for name in stage.reads:
            holders = [item for item in beside if name in item.columns]
            if name != DOC and len(holders) != 1:
                names = ", ".join(item.stage for item in holders) or "none"
                raise StageError(f"{stage.name}: column {name!r} must be in one input, found in {names}")
            if holders:
                taken.setdefault(holders[0].stage, []).append(name)
        columns = tuple((item, tuple(taken[item.stage])) for item in beside if item.stage in taken)
        lengths = {len(item.parts) for item in (*beside, *where)}
        if len(lengths) > 1:
            raise StageError(f"{stage.name}: inputs have {sorted(lengths)} parts: they are not of the same documents")
        return cls(beside, whole, columns, tuple(where))

    def part(self, index: int, *, numbered: bool) -> tuple[PartInput, list[Any]] | None:
        """What a job reads of part `index`, and that content's identity; None where it is not built yet."""
        parts = [(item, item.parts[index], names) for item, names in self.columns]
        gates = [(gate, gate.parts[index]) for gate in self.where]
        first = (self.beside or self.where)[0].parts[index]
        if any(part.record is None for _, part, _ in parts) or any(part.record is None for _, part in gates):
            return None
        if numbered and first.number is None:
            return None
        files = tuple((item.stage, str(part.key), names) for item, part, names in parts)
        where = tuple((gate.stage, str(part.key)) for gate, part in gates)
        rows = first.record.rows if first.record else 0
        identity = [
            sorted((name, part.columns[name]) for _, part, names in parts for name in names),
            [part.record.kept for _, part in gates if part.record],
            [first.number, rows] if numbered else rows,  # a number's column has no digest that knows its length
        ]
        return PartInput(files, where, first.number if numbered else None, rows), identity

    def extras(self, store: Store) -> tuple[tuple[Any, ...], list[Any]] | None:
        if not all(item.built for item in self.whole):
            return None
        identity = [
            [[part.label if _many(item) else "", sorted(part.columns.items())] for part in item.parts]
            for item in self.whole
        ]
        return tuple(_extra(item, store) for item in self.whole), identity


def _extra(item: Artifact, store: Store) -> Any:
    if item.shape == "file":
        return "file", item.path
    paths = {part.label: store.path(item.shape, item.stage, str(part.key)) for part in item.parts}
    return paths if _many(item) else (item.shape, next(iter(paths.values())))


def _many(item: Artifact) -> bool:
    return item.shape in ("tables", "folders")


def _base(stage: Stage, params: Params) -> dict[str, Any]:
    """What a job's identity begins with, whatever it reads. Params as a digest: the manifest has them, and once."""
    libraries = stage.library_versions()
    return {
        "params": keys.digest(params.model_dump(mode="json")),
        **({"libraries": libraries} if libraries else {}),
        **({} if stage.reproducible else {"reproducible": False}),
    }


def _job(
    stage: Stage,
    params: Params,
    base: Mapping[str, Any],
    here: Session,
    label: str,
    parts: Sequence[tuple[PartInput, list[Any]] | None],
    extras: tuple[tuple[Any, ...], list[Any]] | None,
    name: str | None,
) -> Job:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or extras is None:
        return Job(stage, params, "", label, {}, here.store.root)
    reads: Any = [identity for _, identity in known]
    if stage.each != "part":
        reads = keys.digest(reads)
    identity = {**base, "reads": reads, "extras": keys.digest(extras[1]), **({"job": name} if name else {})}
    key = keys.job_key(stage.name, stage.version, identity)
    return Job(
        stage, params, key, label, identity, here.store.root, tuple(part for part, _ in known), extras[0], name=name
    )


def _file_jobs(stage: Stage, params: Params, pieces: Pieces, here: Session) -> list[Job]:
    jobs = []
    for piece in pieces.pieces(params, here.store):
        identity = {**_base(stage, params), "piece": piece.identity}
        key = keys.job_key(stage.name, stage.version, identity)
        jobs.append(Job(stage, params, key, piece.label, identity, here.store.root, piece=piece))
    return jobs
