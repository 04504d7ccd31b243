"""The join of one band: which documents have the same hash."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]


def join_band(hashes: NDArray[np.uint64], docs: Ints, valid: NDArray[np.bool_] | None = None) -> Ints:
    """Link the documents that share a hash: the [M, 2] edges (lowest document of the run, other document).

    A run is what has one hash in one band. It gives one edge a member, never all its pairs, so M < N however long runs are
    and an edge (first, member) still says which run it came from. Rows where `valid` is false, the null hashes, join nothing.
    Edges are in order of (hash, document) and do not depend on the order of the rows.

    O(N log N). Memory: 52 bytes a row at the peak, edges included. Rows of different hashes never meet, so a band larger
    than memory is joined piece by piece, each piece a range of hashes; the edges are the same and in the same order.
    """
    if valid is not None:
        hashes, docs = hashes[valid], docs[valid]
    order = np.lexsort((docs, hashes))
    hashes, docs = hashes[order], docs[order]
    if not len(hashes):
        return np.empty((0, 2), np.int64)
    is_first = np.concatenate(([True], hashes[1:] != hashes[:-1]))
    first_docs = docs[is_first][np.cumsum(is_first) - 1]
    linked = docs != first_docs  # a document that is listed twice is no pair
    linked[1:] &= is_first[1:] | (docs[1:] != docs[:-1])
    return np.stack((first_docs[linked], docs[linked]), axis=1)
