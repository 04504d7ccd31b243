"""Components and verified stars, against slow references and by properties."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.kernels.band_join import join_band
from polylm.kernels.components import Clusters, component_batches, components, star_clusters
from polylm.kernels.minhash import distinct, jaccard

DOCS = 12
edge_lists = st.lists(st.tuples(st.integers(0, DOCS - 1), st.integers(0, DOCS - 1)), max_size=20)
# For each document a set of shingles and, for each of three bands, a hash (None: no signature).
corpora = st.lists(
    st.tuples(
        st.frozensets(st.integers(0, 9), max_size=8),
        st.tuples(*[st.none() | st.integers(0, 3)] * 3),
    ),
    max_size=14,
)
Corpus = list[tuple[frozenset[int], tuple[int | None, ...]]]


def as_sets(sets: list[frozenset[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.concatenate(([0], np.cumsum([len(s) for s in sets]))).astype(np.int64)
    return distinct(np.array([x for s in sets for x in s], np.uint64), offsets)


def as_edges(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    edges, bands = [np.empty((0, 2), np.int64)], [np.empty(0, np.int16)]
    for band in range(3):
        hashes = [hashes[band] for _, hashes in corpus]
        valid = np.array([h is not None for h in hashes], bool)
        edges.append(join_band(np.array([h or 0 for h in hashes], np.uint64), np.arange(len(corpus)), valid))
        bands.append(np.full(len(edges[-1]), band, np.int16))
    return np.concatenate(edges), np.concatenate(bands)


def cluster(corpus: Corpus, min_similarity: float = 0.5, **limits: int) -> Clusters:
    edges, bands = as_edges(corpus)
    return star_clusters(edges, bands, *as_sets([s for s, _ in corpus]), min_similarity=min_similarity, **limits)


def rows(clusters: Clusters) -> list[tuple[int, int, float, int]]:
    columns = (clusters.docs, clusters.centres, clusters.similarities, clusters.bands)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def batches_of(roots: np.ndarray, weights: np.ndarray, max_weight: int) -> list[np.ndarray]:
    batch_of = roots.copy()
    count = component_batches(batch_of, weights.copy(), max_weight)
    return [np.flatnonzero(batch_of == batch) for batch in range(count)]


def similarity(left: frozenset[int], right: frozenset[int]) -> float:
    return len(left & right) / len(left | right) if left | right else 0.0


def slow_stars(corpus: Corpus, min_similarity: float) -> list[tuple[int, int, float, int]]:
    stars: dict[int, tuple[int, float, int]] = {}
    for centre, (shingles, hashes) in enumerate(corpus):
        if centre in stars:
            continue
        for doc in range(centre + 1, len(corpus)):
            shared = [b for b in range(3) if hashes[b] is not None and hashes[b] == corpus[doc][1][b]]
            found = similarity(shingles, corpus[doc][0])
            if shared and doc not in stars and found >= min_similarity:
                stars[centre] = (centre, 1.0, -1)
                stars[doc] = (centre, round(found, 4), shared[0])
    return [(doc, *stars[doc]) for doc in sorted(stars)]


@given(edge_lists)
@settings(max_examples=60, deadline=None)
def test_components_are_named_after_their_lowest_member(edges: list[tuple[int, int]]):
    names = list(range(DOCS))
    for _ in range(DOCS):
        for left, right in edges:
            names[left] = names[right] = min(names[left], names[right])
    assert components(np.array(edges, np.int64).reshape(-1, 2), DOCS).tolist() == names


@given(edge_lists, st.randoms(use_true_random=True), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_components_depend_neither_on_the_order_of_edges_nor_on_when_they_come(edges, random, cut: int):
    whole = components(np.array(edges, np.int64).reshape(-1, 2), DOCS)
    random.shuffle(edges)
    shuffled = np.array([edge[::-1] for edge in edges], np.int64).reshape(-1, 2)
    roots = components(shuffled[:cut], DOCS)
    assert components(shuffled[cut:], DOCS, roots).tolist() == whole.tolist()


@given(edge_lists, st.lists(st.integers(1, 9), min_size=DOCS, max_size=DOCS), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_batches_are_whole_components_of_bounded_weight(edges, weights: list[int], max_weight: int):
    roots = components(np.array(edges, np.int64).reshape(-1, 2), DOCS)
    batches = batches_of(roots, np.array(weights), max_weight)
    assert sorted(doc for batch in batches for doc in batch) == list(range(DOCS))
    for batch in batches:
        assert len(batch)
        assert sum(weights[doc] for doc in batch) <= max_weight or len(set(roots[batch])) == 1
    for left, right in combinations(batches, 2):
        assert not set(roots[left]) & set(roots[right])
    for left, right in pairwise(batches):
        following = int(roots[right].min())
        assert (
            sum(weights[doc] for doc in left) + sum(weights[doc] for doc in right if roots[doc] == following)
            > max_weight
        ), "the next component had room"


def test_no_nodes_are_no_batches():
    empty = np.empty(0, np.int64)
    assert component_batches(components(empty.reshape(0, 2), 0), empty, 10) == 0


@given(corpora, st.sampled_from([0.25, 0.5, 0.8, 1.0]))
@settings(max_examples=150, deadline=None)
def test_stars_are_those_of_the_slow_reference(corpus: Corpus, min_similarity: float):
    assert rows(cluster(corpus, min_similarity)) == slow_stars(corpus, min_similarity)


@given(corpora, st.sampled_from([1 / 3, 0.5, 0.6]), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_no_member_is_below_the_threshold_against_its_centre(corpus: Corpus, min_similarity: float, max_misses: int):
    found = cluster(corpus, min_similarity, max_misses=max_misses)
    pairs = np.stack((found.centres, found.docs), axis=1)[found.docs != found.centres]
    assert (jaccard(*as_sets([s for s, _ in corpus]), pairs) >= min_similarity).all()
    centres, sizes = np.unique(found.centres, return_counts=True)
    assert set(centres) <= set(found.docs)
    assert (sizes >= 2).all()


@given(corpora, st.randoms(use_true_random=True))
@settings(max_examples=60, deadline=None)
def test_the_order_of_edges_does_not_matter(corpus: Corpus, random):
    edges, bands = as_edges(corpus)
    order = list(range(len(edges)))
    random.shuffle(order)
    sets = as_sets([s for s, _ in corpus])
    assert rows(star_clusters(edges[order], bands[order], *sets, min_similarity=0.5)) == rows(cluster(corpus))


@given(corpora, st.integers(0, 14), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_documents_added_at_the_end_move_no_earlier_document_to_another_star(
    corpus: Corpus, size: int, max_misses: int
):
    before, after = (rows(cluster(part, max_misses=max_misses)) for part in (corpus[:size], corpus))
    assert set(before) <= set(after)


@given(corpora, st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_batches_of_components_give_the_stars_of_the_whole(corpus: Corpus, max_weight: int):
    edges, bands = as_edges(corpus)
    roots, found = components(edges, len(corpus)), []
    for batch in batches_of(roots, np.ones(len(corpus), np.int64), max_weight):
        inside = np.isin(edges[:, 0], batch)
        sets = as_sets([corpus[doc][0] for doc in batch])
        local = star_clusters(np.searchsorted(batch, edges[inside]), bands[inside], *sets, min_similarity=0.5)
        found += [(int(batch[doc]), int(batch[centre]), *rest) for doc, centre, *rest in rows(local)]
    assert sorted(found) == rows(cluster(corpus))


def test_a_chain_of_weak_links_stays_apart():
    # marin#6854: each page is like the next, the first and the last share nothing; one component, but not one cluster.
    corpus = [(frozenset(range(10 * i, 10 * i + 100)), (i // 2, (i + 1) // 2, None)) for i in range(40)]
    edges, _ = as_edges(corpus)
    assert set(components(edges, 40).tolist()) == {0}
    found = cluster(corpus, min_similarity=0.7)
    assert np.unique(found.centres, return_counts=True)[1].max() == 2
    assert len(np.unique(found.centres)) == 20
    assert (found.similarities >= 0.7).all()


def test_exact_duplicates_have_similarity_one():
    found = cluster([(frozenset({1, 2}), (0, 1, 2)), (frozenset({3}), (1, 1, 1)), (frozenset({1, 2}), (0, 2, 2))])
    assert rows(found) == [(0, 0, 1.0, -1), (2, 0, 1.0, 0)]


def test_similarities_have_four_decimals_but_are_judged_before_rounding():
    corpus = [(frozenset(range(2)), (0, None, None)), (frozenset(range(3)), (0, None, None))]
    assert cluster(corpus, min_similarity=2 / 3).similarities.tolist() == [1.0, 0.6667]
    assert len(cluster(corpus, min_similarity=0.66667).docs) == 0


def test_a_giant_run_of_unlike_documents_costs_max_misses_a_centre():
    corpus = [(frozenset({i}), (0, None, None)) for i in range(2_000)]
    found = cluster(corpus, max_misses=5)
    assert len(found.docs) == 0
    assert found.comparisons <= 5 * 2_000
    assert found.unchecked > 0


def test_a_giant_run_of_copies_costs_one_comparison_a_copy():
    found = cluster([(frozenset({1, 2}), (0, 0, 0)) for _ in range(2_000)])
    assert found.comparisons == 1_999
    assert (found.unchecked, found.similarities.min()) == (0, 1.0)


def test_documents_that_share_many_bands_are_compared_once():
    found = cluster([(frozenset({1}), (0, 0, 0)), (frozenset({2}), (0, 0, 0))], max_misses=1)
    assert (found.comparisons, found.unchecked) == (1, 0)


def test_a_threshold_of_zero_is_refused():
    with pytest.raises(ValueError, match="min_similarity is 0, expected more than 0 and at most 1"):
        cluster([], min_similarity=0)
