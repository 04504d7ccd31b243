"""Two runs side by side: which params, stages, verdicts and figures differ, and which documents were judged otherwise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel

from polylm.dashboard.distinct import apart, titled
from polylm.dashboard.funnel import gates_of
from polylm.dashboard.gates import stage_of
from polylm.dashboard.queries import Queries
from polylm.dashboard.store_reading import Runs
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.stage import REASON

_ABSENT = "–"


@dataclass(frozen=True)
class Difference:
    """A field of the recipes that differs; `about` is its description."""

    name: str
    a: str
    b: str
    about: str
    unit: str


@dataclass(frozen=True)
class StagePair:
    """The same stage in both runs; None where a run lacks it."""

    title: str
    a: Entry | None
    b: Entry | None

    @property
    def state(self) -> str:
        if self.a is None or self.b is None:
            return "only in the second" if self.a is None else "only in the first"
        return "same" if self.a.artifact == self.b.artifact else "differs"


@dataclass(frozen=True)
class Flip:
    """A document that one run kept and the other rejected, by part and row in each; `gate` "" is kept."""

    a: tuple[int, int]
    b: tuple[int, int]
    gate_a: str
    gate_b: str
    reason: str


@dataclass(frozen=True)
class Flips:
    """Documents that flipped: how many each way, and some of them."""

    lost: int  # kept in the first, rejected in the second
    gained: int
    matched: int  # documents that both runs have
    same_documents: bool  # both read the same artifact; otherwise documents are matched by their id
    shown: tuple[Flip, ...]


def run_before(runs: Runs, run: Run) -> Run | None:
    """What a run is compared with where nobody chooses: the run that it tells its news against, else the last of its recipe.

    A completed one: one that was stopped has judged less, and would differ in all that it did not come to. `runs` are the
    newest first.
    """
    told, last = str(run.new.get("since") or ""), None
    since = told if runs.has(told) else ""
    for one in runs.of(run.name).older(run.id):
        if last and one.id < since:
            break
        if one.state == "completed":
            last = last or one
            if not since or one.id == since:
                return one
    return last


def stages_are_known(here: Queries) -> bool:
    """Whether all stages are imported, which takes seconds, once: descriptions of params need them, a page can wait."""
    return here.cache.soon(("stages are imported",), lambda: stage_of("clean")) is not None


def param_differences(here: Queries, a: Run, b: Run) -> list[Difference]:
    """Fields of the resolved recipes that differ, with what the params say of them where all stages are imported."""
    models = {**_models(here, a), **_models(here, b)} if stages_are_known(here) else {}
    first, second = dict(_flat(a.recipe)), dict(_flat(b.recipe))
    names = [name for name in {**first, **second} if first.get(name, _ABSENT) != second.get(name, _ABSENT)]
    return [
        Difference(name, first.get(name, _ABSENT), second.get(name, _ABSENT), *_described(models, name))
        for name in names
    ]


def stage_pairs(here: Queries, a: Run, b: Run) -> list[StagePair]:
    """The stages of both in the order of the first; those that run several times are paired in their order."""
    first, second = _numbered(a), _numbered(b)
    told = {**apart(here, b), **apart(here, a)}
    entries = {**second, **first}
    return [StagePair(titled(entries[key], told), first.get(key), second.get(key)) for key in {**first, **second}]


def flips(here: Queries, a: Run, b: Run, offset: int, limit: int, way: str = "") -> Flips | None:
    """Documents that were kept in one run and rejected in the other; `way` is "lost", "gained" or "" for both.

    None while they are looked for. The same ingest artifact: row by row, a pass over both runs' verdicts (0.5 s for ten
    million documents). Else by id: the first document of each id, 9 bytes a document of both runs in memory.
    """
    if not (gates_of(here, a) and gates_of(here, b)):
        return Flips(0, 0, 0, False, ())
    same = a.entries("ingest")[-1].artifact == b.entries("ingest")[-1].artifact
    key = (
        "flips",
        *(entry.artifact for run in (a, b) for entry in gates_of(here, run)),
        a.entries("ingest")[-1].artifact,
        b.entries("ingest")[-1].artifact,
    )
    found = here.cache.soon(key, lambda: _matched(here, a, b, same))
    if found is None:
        return None
    rows_a, rows_b, matched = found
    judged_a, judged_b = rows_a["gate"], rows_b["gate"]
    lost, gained = judged_a < 0, judged_b < 0
    chosen = np.flatnonzero({"lost": lost, "gained": gained}.get(way, lost | gained))[offset : offset + limit]
    shown = tuple(_flip(here, a, b, rows_a[i], rows_b[i]) for i in chosen)
    return Flips(int(lost.sum()), int(gained.sum()), matched, same, shown)


VERDICT = np.dtype([("row", np.int64), ("gate", np.int8)])


def _matched(here: Queries, a: Run, b: Run, same: bool) -> tuple[NDArray[Any], NDArray[Any], int]:
    """The rows of flipped documents in each run, with the first gate that rejected them (-1: none); and how many matched."""
    if same:
        return _row_by_row(here, a, b)
    (ids_a, judged_a), (ids_b, judged_b) = _judged_ids(here, a), _judged_ids(here, b)
    _, at_a, at_b = np.intersect1d(ids_a, ids_b, return_indices=True)
    order = np.argsort(at_a)
    at_a, at_b = at_a[order], at_b[order]
    flipped = (judged_a[at_a] < 0) != (judged_b[at_b] < 0)
    return _rows(at_a[flipped], judged_a), _rows(at_b[flipped], judged_b), len(at_a)


def _row_by_row(here: Queries, a: Run, b: Run) -> tuple[NDArray[Any], NDArray[Any], int]:
    """Both runs' verdicts laid side by side; only flipped rows leave the database."""
    gates_a, gates_b = gates_of(here, a), gates_of(here, b)
    beside = {f"a_{i}": gate for i, gate in enumerate(gates_a)} | {f"b_{i}": gate for i, gate in enumerate(gates_b)}
    inner = f"SELECT row_number() OVER () - 1 AS row, {_first_gate('a', len(gates_a))} AS a, {_first_gate('b', len(gates_b))} AS b FROM {{beside}}"
    table = here.sql(
        f"SELECT row, a::TINYINT AS a, b::TINYINT AS b FROM ({inner}) WHERE (a < 0) <> (b < 0) ORDER BY row", beside
    )
    documents = sum(part.rows for part in here.manifest(gates_a[0]).parts)
    return _verdicts(table, "a"), _verdicts(table, "b"), documents


def _judged_ids(here: Queries, run: Run) -> tuple[NDArray[Any], NDArray[Any]]:
    gates = gates_of(here, run)
    beside = {f"a_{i}": gate for i, gate in enumerate(gates)} | {"raw": run.entries("ingest")[-1]}
    table = here.sql(
        f"SELECT hash(raw.id) AS id, ({_first_gate('a', len(gates))})::TINYINT AS gate FROM {{beside}}", beside
    )
    return table["id"].to_numpy(), table["gate"].to_numpy()


def _first_gate(letter: str, count: int) -> str:
    cases = " ".join(f"WHEN {letter}_{i}.{REASON} IS NOT NULL THEN {i}" for i in range(count))
    return f"CASE {cases} ELSE -1 END"


def _verdicts(table: pa.Table, name: str) -> NDArray[Any]:
    rows = np.empty(table.num_rows, VERDICT)
    rows["row"], rows["gate"] = table["row"].to_numpy(), table[name].to_numpy()
    return rows


def _rows(at: NDArray[Any], judged: NDArray[Any]) -> NDArray[Any]:
    rows = np.empty(len(at), VERDICT)
    rows["row"], rows["gate"] = at, judged[at]
    return rows


def _flip(here: Queries, a: Run, b: Run, one: Any, other: Any) -> Flip:
    (gate_a, reason_a, at_a), (gate_b, reason_b, at_b) = _verdict(here, a, one), _verdict(here, b, other)
    return Flip(at_a, at_b, gate_a, gate_b, reason_a or reason_b)


def _verdict(here: Queries, run: Run, found: Any) -> tuple[str, str, tuple[int, int]]:
    gates = gates_of(here, run)
    at = _place(here, gates[0], int(found["row"]))
    if found["gate"] < 0:
        return "", "", at
    gate = gates[int(found["gate"])]
    return gate.stage, str(here.part(gate, at[0], [REASON])[REASON][at[1]].as_py()), at


def _place(here: Queries, entry: Entry, row: int) -> tuple[int, int]:
    """Part and row of the n-th document."""
    starts = np.cumsum([0, *(part.rows for part in here.manifest(entry).parts)])
    part = int(np.searchsorted(starts, row, side="right")) - 1
    return part, row - int(starts[part])


def _numbered(run: Run) -> dict[tuple[str, int], Entry]:
    counts: dict[str, int] = {}
    found = {}
    for entry in run.stages:
        counts[entry.stage] = counts.get(entry.stage, 0) + 1
        found[(entry.stage, counts[entry.stage])] = entry
    return found


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of a recipe with its dotted name; a list of plain values is one leaf."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str) and any(isinstance(v, Mapping) for v in value):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{name}.{index}")
    else:
        yield name, str(value)


def _models(here: Queries, run: Run) -> dict[str, type[BaseModel]]:
    """Which params each field of a recipe is, told by stages that ran with the very values."""
    found: dict[str, type[BaseModel]] = {}
    for entry in run.stages:
        stage = stage_of(entry.stage)
        params = here.manifest(entry).params if stage is not None and here.has(entry) else {}
        for name, value in run.recipe.items():
            if stage is not None and params and value == params:
                found.setdefault(name, stage.params)
    return found


def _described(models: Mapping[str, type[BaseModel]], name: str) -> tuple[str, str]:
    """Description and unit of a field by its dotted name; those of the nearest field above it that has one."""
    head, *rest = name.split(".")
    model: Any = models.get(head)
    about = unit = ""
    for step in rest:
        fields = getattr(model, "model_fields", {})
        if step not in fields:
            break
        field = fields[step]
        about = field.description or about
        extra = field.json_schema_extra
        unit = str(extra.get("unit") or "") if isinstance(extra, dict) else ""
        model = field.annotation
    return about, unit
