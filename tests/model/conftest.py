"""Tiny packed rows and jobs for the tests of the trainer."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from polylm.model.config import ModelConfig, Optimizer, Placement, Segment, TrainJob
from polylm.model.rows import ROWS_PER_GROUP, packed_schema

torch.set_num_threads(1)  # tiny products; other tests want the cores

CONTEXT = 32
VOCABULARY = 259  # odd, so that two ranks get unequal shards
LANGUAGES = ["de", "en", "th"]
TINY = ModelConfig(layers=2, width=32, heads=4, feed_forward=64, vocabulary=VOCABULARY, context=CONTEXT)


def write_packed(path, cells, context=CONTEXT, seed=0):
    """Write rows of these cells ("de/book"): two documents and some padding each, counting up modulo a language's prime."""
    random = np.random.default_rng(seed)
    rows = []
    for number, cell in enumerate(cells):
        language = cell.split("/")[0]
        step = 3 + LANGUAGES.index(language)
        tokens = (random.integers(250) + step * np.arange(context + 1)) % 250 + 2
        middle = int(random.integers(4, context - 8))
        tokens[[0, middle]] = 1
        rows.append(
            {
                "tokens": tokens.astype("<i4").tobytes(),
                "starts": [0, middle],
                "loss_starts": [0, middle],
                "docs": [2 * number, 2 * number + 1],
                "languages": [language, language],
                "length": context + 1 - int(random.integers(0, 4)),
                "cell": cell,
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, packed_schema(context)), path, row_group_size=ROWS_PER_GROUP)
    return str(path)


@pytest.fixture(scope="session")
def packed(tmp_path_factory):
    """Two packed files: German and English, and Thai."""
    folder = tmp_path_factory.mktemp("packed")
    first = write_packed(folder / "a.parquet", ["de/book", "en/web"] * 40, seed=1)
    return [first, write_packed(folder / "b.parquet", ["th/web"] * 7, seed=2)]


@pytest.fixture(scope="session")
def make_job(packed, tmp_path_factory):
    """Make a job of 12 steps in two segments; keyword arguments replace fields."""

    def make(folder="run", placement=None, **changes):
        segments = [
            Segment(name="stage-1", steps=7, files=packed, shares={"en/web": 0.7, "de/book": 0.2, "th/web": 0.1}),
            Segment(name="stage-2", steps=5, files=packed, shares={"en/web": 0.4, "de/book": 0.3, "th/web": 0.3}),
        ]
        fields = {
            "model": TINY,
            "segments": segments,
            "languages": LANGUAGES,
            "batch": 4,
            "optimizer": Optimizer(peak_rate=1e-2, warmup_steps=3),
            "seed": 1,
            "checkpoint_every": 5,
            "placement": placement or Placement(micro_batch=2),
        }
        return TrainJob(folder=str(tmp_path_factory.mktemp("job") / folder), **(fields | changes))

    return make


@pytest.fixture(scope="session")
def tiny():
    """The shape of a network that takes milliseconds."""
    return TINY
