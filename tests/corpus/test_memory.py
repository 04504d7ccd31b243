"""What a stage holds is bounded by a part, a batch or a few bytes a document, however much text there is."""

import tracemalloc
import weakref

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polylm.kernels import utf8
from polylm.tasks.corpus.duplicates import (
    BandParams,
    ClusterParams,
    choose_keepers,
    drop_duplicates,
    join_bands,
    label_clusters,
    sign,
    verify_clusters,
)
from polylm.tasks.corpus.language import BATCH_BYTES
from polylm.tasks.corpus.text import StatisticsParams, measure_text
from polylm.tasks.stage import NoParams

CHARACTERS = [chr(code) for code in range(0x4E00, 0x4E00 + 2_000)]


POOLS = []  # kept: what Arrow still holds points at the pool that it came from


def peaks_of(work):
    """Bytes that Python with NumPy, and Arrow, held at most."""
    usual = pa.default_memory_pool()
    POOLS.append(pa.proxy_memory_pool(usual))
    pa.set_memory_pool(POOLS[-1])
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1], POOLS[-1].max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)


def peak_of(work):
    """Bytes that NumPy and Python held at most."""
    work()  # tables and compiled kernels are there the second time
    return peaks_of(work)[0]


def growth(work, few, many):
    """Bytes that each further one of what `work` is given takes, in Arrow too."""
    work(few)

    def lowest(count):  # of two, because now and then an array is freed late
        return min(sum(peaks_of(lambda: work(count))) for _ in range(2))

    return (lowest(many) - lowest(few)) / (many - few)


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
    assert len(list(utf8.row_batches(three, BATCH_BYTES))) >= 3


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


@pytest.mark.parametrize("stage", ["join_bands", "verify_clusters"])
def test_no_part_is_held_while_the_next_is_read(stage, work, tmp_path):
    class Part(dict):
        """A dict that can be asked whether it is still there."""

    made = []

    def make(index):
        assert not made or made[-1]() is None, f"part {index - 1} is still there"
        texts = pa.array([f"one two three four {index}", "five"])
        part = Part(text=texts, doc=pa.array([index << 24, index << 24 | 1]), **sign({"text": texts}, BandParams()))
        made.append(weakref.ref(part))
        return part

    pairs = np.arange(1, 4) * 0, np.arange(1, 4) << 24
    paths = written(tmp_path / "edges", exact=NOTHING, near=pairs)
    if stage == "join_bands":
        join_bands(Parts(4, make), BandParams(), work, "exact")
    else:
        verify_clusters(Parts(4, make), ClusterParams(), paths, work)
    assert len(made) == 4


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


ROWS = 10_000  # of a part
FEW, MANY = 200_000, 400_000  # so that there are more edges than are read at once


def numbers_of(count, stride=1):
    """The numbers of documents 0, `stride`, 2 * `stride`, ... of parts of `ROWS`."""
    index = np.arange(0, count, stride)
    return index // ROWS << 24 | index % ROWS


def pairs_of(count):
    return numbers_of(count, 2), numbers_of(count, 2) + 1


def short_texts(count):
    def make(index):
        return {"text": pa.array(["one two three four five"] * ROWS), "doc": pa.array((index << 24) + np.arange(ROWS))}

    return Parts(count // ROWS, make)


def written(folder, **edges):
    """Each band's edges as a file."""
    folder.mkdir()
    for name, (first, doc) in edges.items():
        table = pa.table({"first": first, "doc": doc})
        pq.write_table(table, folder / f"{name}.parquet", use_dictionary=False, data_page_size=1 << 17)
    return {name: folder / f"{name}.parquet" for name in edges}


NOTHING = (np.empty(0, np.int64), np.empty(0, np.int64))


def test_a_candidate_takes_28_bytes_however_many_bands_find_it(work, tmp_path):
    paths = {n: written(tmp_path / str(n), exact=NOTHING, near=pairs_of(n), again=pairs_of(n)) for n in (FEW, MANY)}

    def verify(count):
        params = ClusterParams(batch_shingles=20_000)
        assert verify_clusters(short_texts(count), params, paths[count], work).num_rows == count

    assert growth(verify, FEW, MANY) < 32


def test_a_twin_takes_22_bytes_wherever_its_first_copy_is(work, tmp_path):
    def twins_of(count):
        return np.arange(100, count) % 100, numbers_of(count)[100:]

    paths = {
        count: written(tmp_path / str(count), exact=twins_of(count), near=NOTHING) for count in (500_000, 1_000_000)
    }

    def verify(count):
        assert verify_clusters(short_texts(0), ClusterParams(), paths[count], work).num_rows == count

    assert growth(verify, 500_000, 1_000_000) < 24


def test_an_edge_takes_16_bytes(work):
    def make(index):
        hashes = np.arange(ROWS, dtype=np.uint64) * np.uint64(2**64 // ROWS)  # the same in every part
        lists = pa.FixedSizeListArray.from_arrays(pa.array(hashes), 1).cast(pa.list_(pa.uint64()))
        return {"bands": lists, "doc": pa.array((index << 24) + np.arange(ROWS))}

    def join(count):
        edges = join_bands(Parts(count // ROWS, make), BandParams(), work, "exact")
        assert edges.num_rows == count - ROWS

    # A piece of the band, a 64th, grows too: by 80 bytes a document in it.
    assert growth(join, FEW, MANY) < 16 + 80 / 64 + 1


def test_a_document_that_goes_takes_16_bytes():
    def choose(count):
        def make(index):
            docs = (index << 24) + np.arange(ROWS)
            return {"doc": pa.array(docs), "cluster": pa.array(docs % 100), "chars": pa.array([9] * ROWS, pa.uint32())}

        assert choose_keepers(Parts(count // ROWS, make), NoParams()).num_rows == count - 100

    assert growth(choose, FEW, MANY) < 18


@pytest.mark.parametrize("stage", ["label_clusters", "drop_duplicates"])
def test_a_part_copies_only_its_own_rows_of_a_table_of_all(stage):
    def work(count):
        docs = tables[count]["doc"].chunk(0)[:ROWS]
        if stage == "drop_duplicates":
            assert drop_duplicates({"doc": docs.to_numpy()}, NoParams(), tables[count])["duplicate"].broken.all()
        else:
            assert label_clusters({"doc": docs}, NoParams(), tables[count])["cluster"].null_count == 0

    def table_of(count):
        docs = pa.chunked_array([numbers_of(count // 2), numbers_of(count)[count // 2 :]])
        columns = {"cluster": docs, "similarity": pa.nulls(count, pa.float32()), "band": pa.nulls(count, pa.int16())}
        return pa.table({"doc": docs, **columns})

    tables = {count: table_of(count) for count in (FEW, MANY)}
    assert growth(work, FEW, MANY) < 0.1
