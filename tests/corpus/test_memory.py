"""What a stage holds is bounded by a part, a batch or a few bytes a document, however much text there is."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polylm.kernels import normalize
from polylm.tasks.corpus.duplicates import BandParams, ClusterParams, join_bands, sign, verify_clusters
from polylm.tasks.corpus.language import BATCH_BYTES
from polylm.tasks.corpus.text import StatisticsParams, measure_text

CHARACTERS = [chr(code) for code in range(0x4E00, 0x4E00 + 2_000)]


def peak_of(work):
    """Bytes that NumPy and Python held at most; Arrow's own are not seen."""
    work()  # tables and compiled kernels are there the second time
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def texts_of(size, rows=100):
    draw = np.random.default_rng(1)
    return ["".join(draw.choice(CHARACTERS, size // 3 // rows)) + "。" for _ in range(rows)]


class Parts:
    """Parts that are made when they are read, as a store's are."""

    def __init__(self, count, make):
        self.count, self.make = count, make

    def __iter__(self):
        return (self.make(index) for index in range(self.count))

    def __len__(self):
        return self.count


@pytest.mark.parametrize("stage", ["sign", "measure_text"])
def test_a_part_of_three_batches_takes_little_more_than_one(stage):
    def work(texts):
        if stage == "sign":
            return lambda: sign({"text": texts}, BandParams())
        language = pa.array(["xx"] * len(texts)).dictionary_encode()
        return lambda: measure_text({"text": texts, "language": language}, StatisticsParams())

    one, three = (pa.array(texts_of(int(count * 0.9 * BATCH_BYTES))) for count in (1, 3))
    assert peak_of(work(three)) < 1.3 * peak_of(work(one))
    assert len(list(normalize.row_batches(three, BATCH_BYTES))) >= 3


def test_a_band_of_four_times_the_documents_takes_less_than_half_more(work):
    def make(index, rows=5_000):
        draw = np.random.default_rng(index)
        hashes = draw.integers(0, 2**64, (rows, len(BandParams().jobs())), np.uint64)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(hashes.ravel()), hashes.shape[1]).cast(pa.list_(pa.uint64()))
        return {"bands": lists, "doc": pa.array(np.arange(index * rows, (index + 1) * rows))}

    few, many = (
        peak_of(lambda count=count: join_bands(Parts(count, make), BandParams(), work, "band-001")) for count in (4, 16)
    )
    assert many < 1.5 * few


def test_verifying_holds_a_batch_of_shingles_and_not_all(work, tmp_path):
    """Every document is a candidate; only the shingles of a batch are in memory."""
    texts = texts_of(400_000, rows=20)

    def make(index):
        own = pa.array([f"{text}{chr(0x4E00 + index)}" for text in texts])
        return {"text": own, "doc": pa.array(np.arange(index * 20, (index + 1) * 20))}

    def joined(parts):
        members = np.arange(20, parts * 20)
        edges = pa.table({"first": members % 20, "doc": members})
        for name in ("exact", "band-001"):
            pq.write_table(edges.slice(0, 0 if name == "exact" else None), tmp_path / f"{name}-{parts}.parquet")
        return {name: tmp_path / f"{name}-{parts}.parquet" for name in ("exact", "band-001")}

    params = ClusterParams(batch_shingles=100_000)
    peaks = {}
    for parts in (4, 16):
        paths = joined(parts)
        corpus = Parts(parts, make)
        assert verify_clusters(corpus, params, paths, work).num_rows == parts * 20
        peaks[parts] = peak_of(lambda corpus=corpus, paths=paths: verify_clusters(corpus, params, paths, work))
    assert peaks[16] < 1.5 * peaks[4]
