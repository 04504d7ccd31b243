"""Clusters of duplicates: components of candidates, and inside them stars whose members are verified against a centre.

The transitive closure of LSH hits is not a cluster: a chain of weak links joins documents that have nothing in common
(marin#6854 lost whole sources to one). So candidates only say whom to compare, and a document joins a cluster when
its true Jaccard similarity with the cluster's centre reaches the threshold.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from polylm.kernels.minhash import Hashes64, set_jaccard

Ints: TypeAlias = NDArray[np.int64]
Bands: TypeAlias = NDArray[np.int16]
Roots: TypeAlias = NDArray[np.signedinteger[Any]]
_F = TypeVar("_F", bound=Callable[..., Any])


def _jit(function: _F) -> _F:
    compiled: _F = numba.njit(cache=True, nogil=True)(function)
    return compiled


def components(edges: Ints, count: int, roots: Roots | None = None) -> Roots:
    """The lowest number of each node's component, for nodes 0 to `count` - 1; independent of the order of the edges.

    Union-find with path halving; the lower root wins. With `roots`, the result of earlier edges, it goes on from there, in
    place: bands can be fed one after the other and none is kept. Memory: 4 bytes a node, 8 from 2^31 nodes on.
    """
    if roots is None:
        roots = np.arange(count, dtype=np.int32 if count <= 1 << 31 else np.int64)
    assert len(roots) == count, f"{len(roots)} roots for {count} nodes"
    _unite(edges, roots)
    return roots


def component_batches(roots: Roots, weights: Ints, max_weight: int) -> int:
    """Share whole components out into batches, each of at most `max_weight` or of one component; how many there are.

    For clusters in bounded memory: load the shingle sets of one batch only. Batches are in the order of their components'
    roots. Works in place, because there may be as many nodes as documents: `roots` become the numbers of the nodes' batches,
    a root's weight that of its component.
    """
    assert len(roots) == len(weights), f"{len(roots)} roots, {len(weights)} weights"
    return int(_share_out(roots, weights, max_weight))


@dataclass(frozen=True, slots=True)
class Clusters:
    """Every document of a cluster of two or more, in ascending order, and what the search cost."""

    docs: Ints
    centres: Ints  # the cluster's centre; its own number for a centre
    similarities: NDArray[np.float64]  # true Jaccard with the centre, rounded to 4 decimals; 1 for a centre
    bands: Bands  # the lowest band that the document shares with its centre; -1 for a centre
    comparisons: int
    unchecked: int  # at most so many candidates were not compared because of `max_misses`: recall, never precision


def star_clusters(
    edges: Ints, bands: Bands, sets: Hashes64, offsets: Ints, *, min_similarity: float, max_misses: int = 1_000
) -> Clusters:
    """Greedy stars: the lowest document without a cluster is a centre and takes what is similar enough to it.

    Edges (first, member) with their bands are those of `join_band`, over documents 0 to len(offsets) - 2 whose sets
    `minhash.distinct` gave. Documents are candidates for each other when they share a run of a band. In ascending order, each
    document that is in no cluster yet is compared with the later candidates that are in none; those with a Jaccard
    similarity of `min_similarity` or more join it. So no member is below the threshold against its centre, and members of
    a chain too far from the centre form stars of their own. Components are independent of each other.

    The lowest, not the best connected, document is the centre because then documents added at the end change no cluster
    among the earlier ones but by joining it, and because a centre is the first copy seen. After `max_misses` failed
    comparisons a centre leaves the rest of that run: a run of N unlike documents costs N * max_misses, not N * N / 2.
    Independent of the order of edges. Memory beside sets and edges: 64 bytes an edge, 42 a document.
    """
    if not 0 < min_similarity <= 1:
        raise ValueError(f"min_similarity is {min_similarity}, expected more than 0 and at most 1")
    count = len(offsets) - 1
    assert edges.shape == (len(bands), 2)
    assert not len(edges) or (edges.min() >= 0 and edges.max() < count), "an edge names a document that has no set"
    members, run_offsets, run_bands = _runs(edges, bands)
    of_doc, doc_offsets = _runs_of_documents(members, run_offsets, count)
    centres, similarities = np.full(count, -1, np.int64), np.ones(count, np.float64)
    found_in = np.full(count, -1, np.int16)
    comparisons, unchecked = _stars(
        members, run_offsets, run_bands, of_doc, doc_offsets, sets, offsets, min_similarity, max_misses,
        centres, similarities, found_in,
    )  # fmt: skip
    docs = np.flatnonzero(centres >= 0)
    similarities = np.round(similarities[docs], 4)
    return Clusters(docs, centres[docs], similarities, found_in[docs], int(comparisons), int(unchecked))


def _runs(edges: Ints, bands: Bands) -> tuple[Ints, Ints, Bands]:
    """Members of every run in ascending order, their offsets, and each run's band; runs in order of (band, first)."""
    order = np.lexsort((edges[:, 1], edges[:, 0], bands))
    first, member, band = edges[order, 0], edges[order, 1], bands[order]
    starts = np.ones(len(order), bool)
    starts[1:] = (first[1:] != first[:-1]) | (band[1:] != band[:-1])
    at = np.flatnonzero(starts)
    members = np.insert(member, at, first[at])  # a run's first document is in its edges, but not as a member
    run_offsets = np.append(at + np.arange(len(at)), len(members)).astype(np.int64)
    return members, run_offsets, band[at]


def _runs_of_documents(members: Ints, run_offsets: Ints, count: int) -> tuple[Ints, Ints]:
    """The runs of each document, in their order."""
    runs = np.repeat(np.arange(len(run_offsets) - 1), np.diff(run_offsets))
    order = np.argsort(members, kind="stable")
    doc_offsets = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(members, minlength=count), out=doc_offsets[1:])
    return runs[order], doc_offsets


@_jit
def _unite(edges: Ints, roots: Roots) -> None:
    for e in range(len(edges)):
        left, right = _root(roots, edges[e, 0]), _root(roots, edges[e, 1])
        roots[max(left, right)] = min(left, right)
    for node in range(len(roots)):
        roots[node] = roots[roots[node]]  # parents are lower and already point at their root


@_jit
def _share_out(roots: Roots, weights: Ints, max_weight: int) -> int:
    # A root is the lowest node of its component: whoever comes later finds in its place what is known by then.
    for node in range(len(roots)):
        if roots[node] != node:
            weights[roots[node]] += weights[node]
    batch, weight = -1, 0
    for node in range(len(roots)):
        if roots[node] != node:
            roots[node] = roots[roots[node]]
            continue
        if batch < 0 or weight + weights[node] > max_weight:
            batch, weight = batch + 1, 0
        weight += weights[node]
        roots[node] = batch
    return batch + 1


@_jit
def _root(roots: Roots, node: int) -> int:
    while roots[node] != node:
        roots[node] = roots[roots[node]]
        node = roots[node]
    return node


# Numba's cache does not see a change of `set_jaccard`, which is in another file: clear NUMBA_CACHE_DIR after one.
@_jit
def _stars(
    members: Ints,
    run_offsets: Ints,
    run_bands: Bands,
    of_doc: Ints,
    doc_offsets: Ints,
    sets: Hashes64,
    offsets: Ints,
    min_similarity: float,
    max_misses: int,
    centres: Ints,
    similarities: NDArray[np.float64],
    found_in: Bands,
) -> tuple[int, int]:
    """Fill centres (-1: in no cluster), similarities and bands; comparisons made and candidates left unchecked."""
    comparisons = unchecked = 0
    compared_with = np.full(len(centres), -1, np.int64)
    # Members that are still free, as one linked list a run: who has joined a star is skipped once, not by every centre.
    heads, following = run_offsets[:-1].copy(), np.arange(1, len(members) + 1)
    for centre in range(len(centres)):
        if centres[centre] >= 0:
            continue
        for r in range(doc_offsets[centre], doc_offsets[centre + 1]):
            run, misses = of_doc[r], 0
            while members[heads[run]] < centre:
                heads[run] = following[heads[run]]
            last, m = heads[run], following[heads[run]]
            while m < run_offsets[run + 1]:
                if misses == max_misses:
                    unchecked += run_offsets[run + 1] - m
                    break
                doc = members[m]
                if centres[doc] < 0 and compared_with[doc] != centre:
                    compared_with[doc] = centre
                    comparisons += 1
                    similarity = set_jaccard(sets, offsets[centre], offsets[centre + 1], offsets[doc], offsets[doc + 1])
                    if similarity >= min_similarity:
                        centres[centre] = centres[doc] = centre
                        similarities[doc], found_in[doc] = similarity, run_bands[run]
                    else:
                        misses += 1
                if centres[doc] < 0:
                    last = m
                else:
                    following[last] = following[m]
                m = following[m]
    return comparisons, unchecked
