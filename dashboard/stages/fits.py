"""A gate's bounds that are fitted from the corpus: the very fit, made again with other params while a slider moves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from polylm.dashboard.gates import params_of, stage_of
from polylm.dashboard.queries import Queries
from polylm.dashboard.stages.knobs import Knob, moved
from polylm.dashboard.stages.sampling import Sample
from polylm.dashboard.store_reading import Manifest
from polylm.tasks.maintenance.run_records import Entry
from polylm.tasks.stage import REASON, Params, Stage

MOST_ROWS = 200_000  # of which a fit is made again in about 0.1 s


@dataclass(frozen=True, eq=False)
class Fit:
    """A cheap fit that a gate reads, with the documents that it is made of."""

    made: Manifest
    stage: Stage
    params: Params
    corpus: list[dict[str, pa.Array]]
    index: int  # among the tables that the gate is given

    def tables(self, sample: Sample, moves: Mapping[Knob, float | None]) -> list[Any]:
        """The gate's tables, this one made with other params; BadRequest where they cannot be."""
        tables = list(sample.extras)
        tables[self.index] = self.stage(self.corpus, moved(self.params, moves))
        return tables


def fit_of(here: Queries, entry: Entry, sample: Sample) -> Fit | None:
    """The fit whose params move a gate; None where there is none, or where not all of its documents are in the sample:
    of fewer, it would be another one even with nothing moved."""
    if sample.rows != sample.documents or sample.rows > MOST_ROWS:
        return None
    tables = [read for read in here.reads(entry).values() if read.shape != "rows"]
    for index, made in enumerate(tables):
        stage, reads = stage_of(made.stage), list(here.reads(made.ref).values())
        if stage and stage.cheap and made.params and _sees_all(here, stage, reads, sample):
            return Fit(made, stage, params_of(here, made.ref), [_corpus(here, stage, reads, sample)], index)
    return None


def _sees_all(here: Queries, stage: Stage, reads: list[Manifest], sample: Sample) -> bool:
    """Whether it is made of columns that the gate reads too, of all documents."""
    if not all(read.shape == "rows" for read in reads):
        return False
    known = {name for read in reads for name in here.columns(read.ref)}
    return REASON not in known and set(stage.reads) <= known & set(sample.columns)


def _corpus(here: Queries, stage: Stage, reads: list[Manifest], sample: Sample) -> dict[str, pa.Array]:
    """The sample's columns as a fit is shown them: as they are stored."""
    kinds = {name: kind for read in reads for name, kind in here.columns(read.ref).items()}
    return {name: _stored(sample.columns[name], kinds[name]) for name in stage.reads}


def _stored(values: Any, kind: pa.DataType) -> pa.Array:
    if not isinstance(values, np.ndarray):
        return values if pa.types.is_dictionary(kind) else values.cast(kind)
    return pa.array(values, pa.float64(), mask=np.isnan(values)).cast(kind)
