"""Near and exact duplicates: signatures, candidates, verified clusters, and one keeper of each."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from polylm.kernels import band_join, components, minhash, shingles, utf8
from polylm.tasks import keys
from polylm.tasks.corpus.language import BATCH_BYTES
from polylm.tasks.corpus.spill import Groups, Ints, Sets, bounds_of_runs, spill_folder
from polylm.tasks.rules import Rules, at_most
from polylm.tasks.stage import Columns, Corpus, Field, NoParams, Params, Rows, Workspace, files, gate, measure

EXACT = "exact"  # the job of the band whose hash is that of the whole normalised text
EDGES = pa.schema([("first", pa.int64()), ("doc", pa.int64())])
EDGES_AT_ONCE = 1 << 16
EDGE_WEIGHT = 12  # what comparing along an edge takes in memory, in shingles
CLUSTERS = {"doc": pa.int64(), "cluster": pa.int64(), "similarity": pa.float32(), "band": pa.int16()}
PIECES = 64  # ranges of hashes that a band is joined in, one in memory at a time
EDGE = np.dtype([(field.name, field.type.to_pandas_dtype()) for field in EDGES])
CLUSTERED = np.dtype([(name, kind.to_pandas_dtype()) for name, kind in CLUSTERS.items()])
HASHED = np.dtype([("hash", np.uint64), ("exact", np.uint64), ("doc", np.int64)])
LINK = np.dtype([("first", np.int32), ("member", np.int32), ("band", np.int16)])
Hashes: TypeAlias = NDArray[np.uint64]
Bools: TypeAlias = NDArray[np.bool_]


class BandParams(Params):
    threshold: float = Field(
        0.7,
        gt=0,
        lt=1,
        description="Jaccard similarity at which bands and rows are chosen.",
        source="data-juicer, RPv2",
    )
    permutations: int = Field(
        128, ge=16, le=512, description="Hash functions of a signature.", source="datasketch's default"
    )
    shingle: int = Field(5, ge=1, description="Tokens of a shingle.", source="FineWeb, FineWeb2")
    seed: int = Field(1, ge=0, lt=1 << 32, description="Of the hash functions.", source="datasketch's default")

    def shape(self) -> tuple[int, int]:
        """Bands and rows, as datasketch's MinHashLSH(threshold=...) chooses them."""
        return minhash.optimal_bands(self.threshold, self.permutations)

    def jobs(self) -> Sequence[str]:
        return [EXACT, *(f"band-{index:03}" for index in range(1, self.shape()[0] + 1))]


class ClusterParams(Params):
    min_similarity: float = Field(
        0.7, gt=0, le=1, description="True Jaccard of every member with its centre.", source="ours"
    )
    shingle: int = Field(5, ge=1, description="Tokens of a shingle.", source="FineWeb, FineWeb2")
    batch_shingles: int = Field(
        2_000_000,
        ge=1,
        description="Shingles of the candidates that are compared at once; an edge counts as 12.",
        unit="8 bytes each",
    )


@measure(reads=["text"], writes={"bands": pa.list_(pa.uint64())}, version=1, libraries=["pyarrow", "unicodedata"])
def sign(rows: Rows, params: BandParams) -> Columns:
    """Hash every document for the search for duplicates: its whole text, then each band of its MinHash signature.

    Signatures are datasketch's (`scheme="legacy"`); a text without a token has no bands. Memory: one part, 10 to 40 times
    `BATCH_BYTES` (a token, its shingle and its hash take 28 bytes), and 8 bytes a band and row.
    """
    bands, depth = params.shape()
    a, b = minhash.permutations(params.permutations, params.seed)
    batches = utf8.row_batches(rows["text"], BATCH_BYTES)
    hashed = [_hash_bands(texts, params.shingle, a, b, bands, depth) for texts in batches]
    hashes = np.concatenate([np.empty((0, bands + 1), np.uint64), *(hashes for hashes, _ in hashed)])
    has_tokens = np.concatenate([np.empty(0, np.bool_), *(has_tokens for _, has_tokens in hashed)])
    lists = pa.FixedSizeListArray.from_arrays(pa.array(hashes.ravel()), bands + 1).cast(pa.list_(pa.uint64()))
    return {"bands": lists.take(pa.array(np.arange(len(lists)), mask=~has_tokens))}


@files(reads=["bands", "doc"], writes=EDGES, each="band", version=1)
def join_bands(corpus: Corpus, params: BandParams, work: Workspace, job: str) -> pa.Table:
    """Link documents that share a hash in one band, each with the first that has it.

    Of equal texts only the first is in a near band, for the exact band links the others to it already: ten copies of a
    source cost ten times the exact band, and nothing more. Memory: one part, a 64th of the band (80 bytes a document in
    it), and 16 bytes an edge.
    """
    band = list(params.jobs()).index(job)
    with spill_folder(work.scratch) as folder:
        pieces, edges = Groups(folder / "pieces", HASHED), Groups(folder / "edges", EDGE)
        for rows in corpus:
            hashed = _band_of(rows, band)
            del rows  # before the next part is read
            pieces.add(hashed["hash"] // np.uint64(2**64 // PIECES), hashed)
        for piece in range(PIECES):
            hashed = pieces.read(piece)
            distinct = hashed if band == 0 else hashed[_firsts(hashed["exact"], hashed["doc"])]
            joined = band_join.join_band(distinct["hash"], distinct["doc"])
            edges.add(np.full(len(joined), piece), _as_edges(joined))
        return pa.table(edges.columns())


@files(reads=["text", "doc"], writes=CLUSTERS, version=1, libraries=["pyarrow", "unicodedata"])
def verify_clusters(corpus: Corpus, params: ClusterParams, joined: dict[str, Path], work: Workspace) -> pa.Table:
    """Cluster candidates as stars: every member's true Jaccard similarity with its centre reaches the threshold.

    No chaining, so that one false link cannot swallow a source (datasets lost whole ones to it). Equal normalised texts are
    clustered by their hash alone and only the first is compared. Texts are read once; shingles wait on disk, 8 bytes each.
    Memory: one part, 28 bytes a candidate, then 22 bytes a clustered document, and the shingles and edges of a batch or of the
    largest component.
    """
    near = [path for name, path in joined.items() if name != EXACT]
    with spill_folder(work.scratch) as folder:
        clustered = Groups(folder / "clustered", CLUSTERED)  # by part, so that each is put in order on its own
        _add_stars(clustered, corpus, params, near, folder)
        _add_twins(clustered, joined[EXACT], folder)
        return pa.table(clustered.columns(sort_by="doc"))


@measure(reads=["doc"], writes={name: kind for name, kind in CLUSTERS.items() if name != "doc"}, version=1)
def label_clusters(rows: Rows, params: NoParams, clusters: pa.Table) -> Columns:
    """Give every document its cluster (the number of the centre), its similarity with it and the band that found it.

    Null for a document without duplicates. Memory: 22 bytes a clustered document of the whole corpus.
    """
    docs = rows["doc"].to_numpy()
    own = _between(clusters, docs)
    places, here = _places(own["doc"].to_numpy(), docs)
    at = np.zeros(len(here), np.int64)
    at[here] = places
    names = [name for name in CLUSTERS if name != "doc"]
    return {name: own[name].combine_chunks().take(pa.array(at, mask=~here)) for name in names}


@files(reads=["cluster", "chars", "doc"], writes={"doc": pa.int64(), "keeper": pa.int64()}, cheap=True, version=1)
def choose_keepers(corpus: Corpus, params: NoParams) -> pa.Table:
    """Keep the longest document of every cluster, the first of equals, among those that no gate rejected.

    Lists the others with their keeper, in the order of their numbers. Reads twice. Memory: 100 bytes a cluster, 16 bytes
    a document that goes.
    """
    clusters, keepers, count = _keepers(corpus)
    dropped = {name: np.empty(count - len(clusters), np.int64) for name in ("doc", "keeper")}
    filled = 0
    for rows in corpus:
        cluster, _, docs = _clustered(rows)
        own = keepers[np.searchsorted(clusters, cluster)]
        goes = own != docs
        here = slice(filled, filled := filled + int(goes.sum()))
        dropped["doc"][here], dropped["keeper"][here] = docs[goes], own[goes]
    return pa.table(dropped)


@gate(reads=["doc"])
def drop_duplicates(rows: Rows, params: NoParams, keepers: pa.Table) -> Rules:
    """Reject every document of a cluster but its keeper."""
    _, is_dropped = _places(_between(keepers, rows["doc"])["doc"].to_numpy(), rows["doc"])
    return {"duplicate": at_most(is_dropped, 0)}


def _hash_bands(texts: pa.Array, shingle: int, a: Hashes, b: Hashes, bands: int, depth: int) -> tuple[Hashes, Bools]:
    """Of each text: [exact, band 1, ...] hashes, and whether it has a token at all."""
    tokens = shingles.tokenize(texts)
    spans = shingles.shingles(tokens, shingle)
    signatures = minhash.signatures(minhash.sha1_32(tokens.text, spans.starts, spans.ends), spans.offsets, a, b)
    hashes = np.empty((len(texts), bands + 1), np.uint64)
    hashes[:, 0] = minhash.exact(tokens.text, tokens.text_offsets)
    hashes[:, 1:] = minhash.bands(signatures, bands, depth)
    return hashes, np.diff(tokens.offsets) > 0


def _band_of(rows: Rows, band: int) -> NDArray[Any]:
    """One band of a part: its hash, the hash of the whole text, and the document, where there is a signature."""
    valid = np.asarray(rows["bands"].is_valid())
    lists = rows["bands"].drop_null()
    hashed = np.empty(len(lists), HASHED)
    if len(lists):
        hashes = lists.flatten().to_numpy().reshape(len(lists), -1)
        hashed["hash"], hashed["exact"] = hashes[:, band], hashes[:, 0]
        hashed["doc"] = rows["doc"].to_numpy()[valid]
    return hashed


def _firsts(values: NDArray[Any], docs: Ints) -> Ints:
    """The place of the lowest document of each value."""
    order = np.lexsort((docs, values))
    return order[bounds_of_runs(values[order])[:-1]]


def _edges(path: Path) -> Iterator[Ints]:
    """The edges of one band, [M, 2], some at a time."""
    # Without a buffer, a column of a whole row group would be read at once.
    file = pq.ParquetFile(path, buffer_size=1 << 20, page_checksum_verification=True)
    for batch in file.iter_batches(EDGES_AT_ONCE, use_threads=False):
        yield np.column_stack((batch["first"].to_numpy(), batch["doc"].to_numpy()))


def _as_edges(pairs: Ints) -> NDArray[Any]:
    rows = np.empty(len(pairs), EDGE)
    rows["first"], rows["doc"] = pairs[:, 0], pairs[:, 1]
    return rows


def _candidates(near: Sequence[Path]) -> Ints:
    """The numbers of all documents that an edge names, in order."""
    docs = np.empty(0, np.int64)
    for path in near:
        for edges in _edges(path):
            numbers = np.unique(edges)
            new = numbers[~_places(docs, numbers)[1]]
            docs = np.insert(docs, np.searchsorted(docs, new), new) if len(new) else docs
    assert len(docs) < 1 << 31, "a link names its documents by 31 bits"
    return docs


def _add_stars(clustered: Groups, corpus: Corpus, params: ClusterParams, near: Sequence[Path], folder: Path) -> None:
    """Find the clusters of near duplicates, a batch of components at a time."""
    docs = _candidates(near)
    sets = _shingle_sets(corpus, docs, params.shingle, folder / "sets")
    batch_of, batches = _batches(near, docs, sets, params.batch_shingles)
    links = _links_by_batch(near, docs, batch_of, folder / "links")
    del batch_of
    for batch in range(batches):
        _add(clustered, _stars(links.read(batch), sets, docs, params.min_similarity))


def _batches(near: Sequence[Path], docs: Ints, sets: Sets, max_weight: int) -> tuple[components.Roots, int]:
    """The batch in which each candidate is compared, with its whole component; and how many batches there are."""
    roots, weights = np.arange(len(docs), dtype=np.int32), np.diff(sets.offsets)
    for path in near:
        for edges in _edges(path):
            local = np.searchsorted(docs, edges)
            components.components(local, len(docs), roots)
            np.add.at(weights, local[:, 1], EDGE_WEIGHT)
    return roots, components.component_batches(roots, weights, max_weight)


def _shingle_sets(corpus: Corpus, docs: Ints, shingle: int, path: Path) -> Sets:
    """The distinct shingles of the candidates, in the order of their numbers; one pass over the corpus."""
    sets = Sets(path, len(docs))
    for rows in corpus if len(docs) else ():
        _, here = _places(docs, rows["doc"].to_numpy())
        texts = rows["text"].filter(pa.array(here))
        del rows  # a text is in memory once, and no part beside the next one
        _append_sets(sets, texts, shingle)
        del texts
    assert len(sets) == len(docs), "a candidate is not in the corpus"
    return sets


def _append_sets(sets: Sets, texts: pa.Array, shingle: int) -> None:
    # Smaller batches than elsewhere: here they come on top of what is held for every candidate.
    for batch in utf8.row_batches(texts, BATCH_BYTES // 4):
        sets.append(*_shingle_hashes(batch, shingle))


def _shingle_hashes(texts: pa.Array, shingle: int) -> tuple[Hashes, Ints]:
    """The distinct shingles of each text, end to end, with their offsets."""
    tokens = shingles.tokenize(texts)
    spans = shingles.shingles(tokens, shingle)
    return minhash.distinct(minhash.xxh64(tokens.text, spans.starts, spans.ends), spans.offsets)


def _links_by_batch(near: Sequence[Path], docs: Ints, batch_of: components.Roots, folder: Path) -> Groups:
    """The edges of each batch of components, by index of candidate."""
    links = Groups(folder, LINK)
    for band, path in enumerate(near, 1):
        for edges in _edges(path):
            local = np.searchsorted(docs, edges)
            rows = np.empty(len(local), LINK)
            rows["first"], rows["member"], rows["band"] = local[:, 0], local[:, 1], band
            links.add(batch_of[local[:, 0]], rows)
    return links


def _stars(links: NDArray[Any], sets: Sets, docs: Ints, min_similarity: float) -> NDArray[Any]:
    """The clusters of one batch, by documents' numbers. Every candidate is in an edge, so the edges name them all."""
    nodes, edges = np.unique(np.column_stack((links["first"], links["member"])), return_inverse=True)
    bands = np.ascontiguousarray(links["band"])
    stars = components.star_clusters(edges.reshape(-1, 2), bands, *sets.read(nodes), min_similarity=min_similarity)
    own = docs[nodes]
    return _rows(own[stars.docs], own[stars.centres], stars.similarities, stars.bands)


def _add_twins(clustered: Groups, exact: Path, folder: Path) -> None:
    """Add equal texts: to the cluster of their first copy, which is a cluster of its own where it has none.

    By the part of the first copy. Twins already added to a part do not disturb: no first copy is among them.
    """
    twins = Groups(folder / "twins", EDGE)
    for edges in _edges(exact):
        twins.add(edges[:, 0] // keys.ROWS_A_PART, _as_edges(edges))
    for part in twins:
        found = _by_doc(clustered.read(part))
        for pairs in twins.pieces(part, EDGES_AT_ONCE):  # a text may have copies in every part
            alone = np.setdiff1d(pairs["first"], found["doc"])
            centres = _rows(alone, alone, np.ones(len(alone)), np.full(len(alone), -1))
            _add(clustered, centres)
            found = _by_doc(np.concatenate([found, centres]))
            firsts = found[np.searchsorted(found["doc"], pairs["first"])]
            bands = np.where(firsts["cluster"] == firsts["doc"], 0, firsts["band"])
            _add(clustered, _rows(pairs["doc"], firsts["cluster"], firsts["similarity"], bands))


def _add(clustered: Groups, rows: NDArray[Any]) -> None:
    clustered.add(rows["doc"] // keys.ROWS_A_PART, rows)


def _rows(docs: Ints, centres: Ints, similarities: NDArray[Any], bands: NDArray[Any]) -> NDArray[Any]:
    rows = np.empty(len(docs), CLUSTERED)
    rows["doc"], rows["cluster"], rows["similarity"], rows["band"] = docs, centres, similarities, bands
    return rows


def _by_doc(rows: NDArray[Any]) -> NDArray[Any]:
    return rows[np.argsort(rows["doc"], kind="stable")]


def _between(table: pa.Table, docs: Ints) -> pa.Table:
    """The rows of a table sorted by `doc` from the least to the largest of some numbers; nothing is copied."""
    if not len(docs):
        return table.slice(0, 0)
    chunks = [chunk.to_numpy() for chunk in table["doc"].chunks]
    # Not the first and the last: a gate is also shown rows that are in no order (the dashboard's samples).
    first = sum(int(np.searchsorted(chunk, np.min(docs))) for chunk in chunks)
    last = sum(int(np.searchsorted(chunk, np.max(docs), side="right")) for chunk in chunks)
    return table.slice(first, last - first)


def _places(docs: Ints, numbers: Ints) -> tuple[Ints, Bools]:
    """Where in `docs` (sorted) the numbers that are in it stand, and which ones are."""
    places = np.searchsorted(docs, numbers)
    here = places < len(docs)
    here[here] = docs[places[here]] == numbers[here]
    return places[here], here


def _keepers(corpus: Corpus) -> tuple[Ints, Ints, int]:
    """The clusters that have a survivor, in order, the keeper of each, and the number of survivors in them."""
    best, count = np.empty((3, 0), np.int64), 0
    waiting: list[Ints] = []
    for rows in corpus:
        clustered = _clustered(rows)
        count += clustered.shape[1]
        waiting.append(_best(clustered))
        # Merged when as many wait as are held: n log n in all, and never more than twice the clusters in memory.
        if sum(part.shape[1] for part in waiting) >= max(best.shape[1], 1 << 16):
            best, waiting = _best(np.concatenate([best, *waiting], axis=1)), []
    cluster, _, docs = _best(np.concatenate([best, *waiting], axis=1))
    return cluster, docs, count


def _best(rows: Ints) -> Ints:
    """Of [cluster, chars, doc] columns: one for each cluster, the longest, of equals the first."""
    cluster, chars, docs = rows
    order = np.lexsort((docs, -chars, cluster))
    return rows[:, order[bounds_of_runs(cluster[order])[:-1]]]


def _clustered(rows: Rows) -> Ints:
    """[cluster, chars, doc] of the rows that are in a cluster."""
    valid = rows["cluster"].is_valid()
    return np.stack(
        [
            rows[name].filter(valid).to_numpy(zero_copy_only=False).astype(np.int64)
            for name in ("cluster", "chars", "doc")
        ]
    )
