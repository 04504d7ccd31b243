"""Where a document went: the packed rows that hold it, and the training steps that saw them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow.compute as pc

from polylm.dashboard.document import last
from polylm.dashboard.gates import params_of
from polylm.dashboard.queries import Place, Queries
from polylm.model.config import Segment
from polylm.model.sampler import Sampler
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.tokens.curriculum import planned_rows, rows_before
from polylm.tasks.tokens.pack import PackParams
from polylm.tasks.training.train import TrainParams

MOST_DEALT = 200_000  # rows of a training that are dealt again to find a few of them: 0.1 ms each
SHOWN_STEPS = 12


@dataclass(frozen=True)
class PackedRow:
    """A row of `pack` or `pack_pairs`: which, and how much of it is this document's."""

    stage: str
    part: int
    row: int
    cell: str
    tokens: int
    of: int
    others: int  # documents beside it


@dataclass(frozen=True)
class Training:
    """A training stage, and the steps that saw each packed row, by (stage, part, row)."""

    entry: Entry
    segment: str
    steps: int
    seen: Mapping[tuple[str, int, int], list[int]] | None = field(repr=False)  # None: too many rows to deal again


def packed_rows(here: Queries, run: Run, place: Place) -> list[PackedRow]:
    """The packed rows with a piece of a document: those of its own part, and bilingual pairs cut from it."""
    found: list[PackedRow] = []
    packed, pairs = last(here, run, "pack"), last(here, run, "pack_pairs")
    if packed and place.part < len(here.manifest(packed).parts):
        found += _rows_with(here, packed, place.part, place.number)
    for part in range(len(here.manifest(pairs).parts)) if pairs else ():
        assert pairs is not None
        found += _rows_with(here, pairs, part, place.number)
    return found


def trainings(here: Queries, run: Run) -> list[Training] | None:
    """Every training stage of a run on packed documents, with all rows that it dealt; None while they are dealt again."""
    return here.cache.soon(
        ("trainings", run.id, tuple(entry.artifact for entry in run.entries("pretrain"))),
        lambda: [training_of(here, entry) for entry in run.entries("pretrain") if here.has(entry)],
    )


def _rows_with(here: Queries, packed: Entry, part: int, number: int) -> list[PackedRow]:
    table = here.part(packed, part, ["docs", "starts", "length", "cell"])
    docs = table["docs"].combine_chunks()
    inside = np.asarray(pc.equal(docs.flatten(), number))
    rows = np.unique(pc.list_parent_indices(docs).to_numpy()[inside]).tolist()
    return [_packed_row(packed.stage, part, row, table.slice(row, 1).to_pylist()[0], number) for row in rows]


def _packed_row(stage: str, part: int, row: int, told: Mapping[str, object], number: int) -> PackedRow:
    docs, starts, length = np.array(told["docs"]), np.array(told["starts"]), told["length"]
    assert isinstance(length, int)
    sizes = np.diff(np.append(starts, length))
    own = int(sizes[docs == number].sum())
    return PackedRow(stage, part, row, str(told["cell"]), own, length, len(set(docs.tolist()) - {number}))


def training_of(here: Queries, entry: Entry) -> Training:
    """A training with all rows that it dealt, if they are not more than MOST_DEALT."""
    params = params_of(here, entry)
    assert isinstance(params, TrainParams)
    if params.steps * params.batch > MOST_DEALT:
        return Training(entry, params.segment, params.steps, None)
    reads = here.reads(entry)
    places = {
        str(path): (stage, part) for stage in ("pack", "pack_pairs") for part, path in enumerate(here.paths(reads[stage].ref))
    }  # fmt: skip
    sampler = _sampler(here, entry, params, list(places))
    seen: dict[tuple[str, int, int], list[int]] = {}
    for step in range(params.steps):
        for place in sampler.rows_of_step(step):
            seen.setdefault((*places[place.file], place.row), []).append(step)
    return Training(entry, params.segment, params.steps, seen)


def _sampler(here: Queries, entry: Entry, params: TrainParams, files: list[str]) -> Sampler:
    """The sampler that the stage gave its ranks: its own segment, dealt behind those before it (`tasks.training.train`)."""
    reads = here.reads(entry)
    planned = planned_rows(here.small_table(reads["plan_curriculum"].ref))
    shares, dealt = planned[params.segment], rows_before(planned, params.segment)
    packing = params_of(here, reads["pack"].ref)
    assert isinstance(packing, PackParams)
    segment = Segment(name=params.segment, steps=params.steps, files=files, shares=shares, dealt=dealt)
    return Sampler([segment], context=packing.context, batch=params.batch, seed=params.seed)
