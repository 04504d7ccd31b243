"""The join of a band, against a dictionary of lists."""

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.kernels.band_join import join_band

rows_of_a_band = st.lists(
    st.tuples(st.integers(0, 6).map(lambda h: h << 61), st.integers(0, 20), st.booleans()), max_size=30
)


def join(rows: list[tuple[int, int, bool]]) -> list[list[int]]:
    hashes, docs = np.array([r[0] for r in rows], np.uint64), np.array([r[1] for r in rows], np.int64)
    return join_band(hashes, docs, np.array([r[2] for r in rows], bool)).tolist()


def slow_join(rows: list[tuple[int, int, bool]]) -> list[list[int]]:
    runs = defaultdict(set)
    for value, doc, valid in rows:
        if valid:
            runs[value].add(doc)
    return [[min(runs[value]), doc] for value in sorted(runs) for doc in sorted(runs[value])[1:]]


@given(rows_of_a_band)
@settings(max_examples=60, deadline=None)
def test_every_member_of_a_run_is_linked_to_its_lowest_document(rows: list[tuple[int, int, bool]]):
    assert join(rows) == slow_join(rows)


@given(rows_of_a_band, st.randoms(use_true_random=True))
@settings(max_examples=60, deadline=None)
def test_the_order_of_rows_does_not_matter(rows: list[tuple[int, int, bool]], random):
    shuffled = rows.copy()
    random.shuffle(shuffled)
    assert join(shuffled) == join(rows)


@given(rows_of_a_band, st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_joining_ranges_of_hashes_one_by_one_gives_the_same_edges(rows: list[tuple[int, int, bool]], cut: int):
    low, high = [r for r in rows if r[0] < cut << 61], [r for r in rows if r[0] >= cut << 61]
    assert join(low) + join(high) == join(rows)


def test_null_hashes_join_nothing():
    hashes, docs = np.zeros(4, np.uint64), np.arange(4)
    assert len(join_band(hashes, docs)) == 3
    assert join_band(hashes, docs, np.array([True, False, False, True])).tolist() == [[0, 3]]
    assert join_band(hashes, docs, np.zeros(4, bool)).shape == (0, 2)


def test_a_run_of_a_million_gives_a_million_edges_not_their_square():
    edges = join_band(np.zeros(1_000_000, np.uint64), np.arange(1_000_000))
    assert len(edges) == 999_999
    assert not edges[:, 0].any()
