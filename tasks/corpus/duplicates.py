"""Near and exact duplicates: signatures, candidates, verified clusters, and one keeper of each."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from polylm.kernels import band_join, components, minhash, normalize
from polylm.tasks.corpus.language import BATCH_BYTES
from polylm.tasks.corpus.spill import Groups, Ints, Sets, bounds_of_runs, spill_folder
from polylm.tasks.rules import Rules, at_most
from polylm.tasks.stage import Columns, Corpus, Field, NoParams, Params, Rows, Workspace, files, gate, measure
from polylm.tasks.store import read_columns

EXACT = "exact"  # the job of the band whose hash is that of the whole normalised text
EDGES = pa.schema([("first", pa.int64()), ("doc", pa.int64())])
EDGES_AT_ONCE = 1 << 16
EDGE_WEIGHT = 12  # what comparing along an edge takes in memory, in shingles
CLUSTERS = {"doc": pa.int64(), "cluster": pa.int64(), "similarity": pa.float32(), "band": pa.int16()}
PIECES = 64  # ranges of hashes that a band is joined in, one in memory at a time
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
    seed: int = Field(1, ge=0, description="Of the hash functions.", source="datasketch's default")

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
    batches = normalize.row_batches(rows["text"], BATCH_BYTES)
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
    it), and 32 bytes an edge.
    """
    band = list(params.jobs()).index(job)
    edges = [EDGES.empty_table()]
    with spill_folder(work.scratch) as folder:
        pieces = Groups(folder / "pieces", HASHED)
        for rows in corpus:
            hashed = _band_of(rows, band)
            pieces.add(hashed["hash"] // np.uint64(2**64 // PIECES), hashed)
        for piece in range(PIECES):
            hashed = pieces.read(piece)
            distinct = hashed if band == 0 else hashed[_firsts(hashed["exact"], hashed["doc"])]
            joined = band_join.join_band(distinct["hash"], distinct["doc"])
            edges.append(pa.table({"first": joined[:, 0].copy(), "doc": joined[:, 1].copy()}))
    return pa.concat_tables(edges)


@files(reads=["text", "doc"], writes=CLUSTERS, version=1, libraries=["pyarrow", "unicodedata"])
def verify_clusters(corpus: Corpus, params: ClusterParams, joined: dict[str, Path], work: Workspace) -> pa.Table:
    """Cluster candidates as stars: every member's true Jaccard similarity with its centre reaches the threshold.

    No chaining, so that one false link cannot swallow a source (datasets lost whole ones to it). Equal normalised texts are
    clustered by their hash alone and only the first is compared. Texts are read once; shingles wait on disk, 8 bytes each.
    Memory: one part, about 130 bytes a candidate or clustered document, and the shingles and edges of a batch or of the largest
    component.
    """
    near = [path for name, path in joined.items() if name != EXACT]
    stars = _verified_stars(corpus, params, near, work.scratch)
    exact = read_columns(joined[EXACT])
    return _with_twins(stars, exact["first"].to_numpy(), exact["doc"].to_numpy())


@measure(reads=["doc"], writes={name: kind for name, kind in CLUSTERS.items() if name != "doc"}, version=1)
def label_clusters(rows: Rows, params: NoParams, clusters: pa.Table) -> Columns:
    """Give every document its cluster (the number of the centre), its similarity with it and the band that found it.

    Null for a document without duplicates. Memory: 22 bytes a clustered document of the whole corpus.
    """
    places, here = _places(clusters["doc"].to_numpy(), rows["doc"].to_numpy())
    at = np.zeros(len(here), np.int64)
    at[here] = places
    names = [name for name in CLUSTERS if name != "doc"]
    return {name: clusters[name].combine_chunks().take(pa.array(at, mask=~here)) for name in names}


@files(reads=["cluster", "chars", "doc"], writes={"doc": pa.int64(), "keeper": pa.int64()}, cheap=True, version=1)
def choose_keepers(corpus: Corpus, params: NoParams) -> pa.Table:
    """Keep the longest document of every cluster, the first of equals, among those that no gate rejected.

    Lists the others with their keeper, in the order of their numbers. Reads twice. Memory: 100 bytes a cluster, 32 bytes
    a document that goes.
    """
    clusters, keepers = _keepers(corpus)
    dropped = [pa.schema([("doc", pa.int64()), ("keeper", pa.int64())]).empty_table()]
    for rows in corpus:
        cluster, _, docs = _clustered(rows)
        own = keepers[np.searchsorted(clusters, cluster)]
        dropped.append(pa.table({"doc": docs[own != docs], "keeper": own[own != docs]}))
    return pa.concat_tables(dropped)


@gate(reads=["doc"])
def drop_duplicates(rows: Rows, params: NoParams, keepers: pa.Table) -> Rules:
    """Reject every document of a cluster but its keeper."""
    _, is_dropped = _places(keepers["doc"].to_numpy(), rows["doc"])
    return {"duplicate": at_most(is_dropped, 0)}


def _hash_bands(texts: pa.Array, shingle: int, a: Hashes, b: Hashes, bands: int, depth: int) -> tuple[Hashes, Bools]:
    """Of each text: [exact, band 1, ...] hashes, and whether it has a token at all."""
    tokens = normalize.tokenize(texts)
    spans = normalize.shingles(tokens, shingle)
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
    file = pq.ParquetFile(path, page_checksum_verification=True)
    for batch in file.iter_batches(EDGES_AT_ONCE, use_threads=False):
        yield np.column_stack((batch["first"].to_numpy(), batch["doc"].to_numpy()))


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


def _verified_stars(corpus: Corpus, params: ClusterParams, near: Sequence[Path], scratch: Path) -> list[pa.Table]:
    """The clusters of near duplicates, a table for each batch of components that has any."""
    docs = _candidates(near)
    with spill_folder(scratch) as folder:
        sets = _shingle_sets(corpus, docs, params.shingle, folder / "sets")
        batches = _batches(near, docs, sets, params.batch_shingles)
        links = _links_by_batch(near, docs, batches, folder / "links")
        found = (
            _stars(nodes, links.read(batch), sets, docs, params.min_similarity) for batch, nodes in enumerate(batches)
        )
        return [table for table in found if table.num_rows]


def _batches(near: Sequence[Path], docs: Ints, sets: Sets, max_weight: int) -> list[Ints]:
    """Whole components, by index of candidate, that are compared at once."""
    roots, degrees = _components(near, docs)
    weights = np.diff(sets.offsets) + EDGE_WEIGHT * degrees.astype(np.int64)
    return list(components.component_batches(roots, weights, max_weight))


def _components(near: Sequence[Path], docs: Ints) -> tuple[components.Roots, NDArray[np.int32]]:
    """The component of each candidate, and how many edges it is the member of."""
    roots, degrees = np.arange(len(docs), dtype=np.int32), np.zeros(len(docs), np.int32)
    for path in near:
        for edges in _edges(path):
            local = np.searchsorted(docs, edges)
            components.components(local, len(docs), roots)
            np.add.at(degrees, local[:, 1], 1)
    return roots, degrees


def _shingle_sets(corpus: Corpus, docs: Ints, shingle: int, path: Path) -> Sets:
    """The distinct shingles of the candidates, in the order of their numbers; one pass over the corpus."""
    sets = Sets(path)
    for rows in corpus if len(docs) else ():
        _, here = _places(docs, rows["doc"].to_numpy())
        for texts in normalize.row_batches(rows["text"].filter(pa.array(here)), BATCH_BYTES):
            tokens = normalize.tokenize(texts)
            spans = normalize.shingles(tokens, shingle)
            sets.append(*minhash.distinct(minhash.xxh64(tokens.text, spans.starts, spans.ends), spans.offsets))
    assert len(sets.offsets) == len(docs) + 1, "a candidate is not in the corpus"
    return sets


def _links_by_batch(near: Sequence[Path], docs: Ints, batches: Sequence[Ints], folder: Path) -> Groups:
    """The edges of each batch of components, by index of candidate."""
    links = Groups(folder, LINK)
    batch_of = np.empty(len(docs), np.int32)
    for batch, nodes in enumerate(batches):
        batch_of[nodes] = batch
    for band, path in enumerate(near, 1):
        for edges in _edges(path):
            local = np.searchsorted(docs, edges)
            rows = np.empty(len(local), LINK)
            rows["first"], rows["member"], rows["band"] = local[:, 0], local[:, 1], band
            links.add(batch_of[local[:, 0]], rows)
    return links


def _stars(nodes: Ints, links: NDArray[Any], sets: Sets, docs: Ints, min_similarity: float) -> pa.Table:
    """The clusters of one batch, by documents' numbers."""
    edges = np.searchsorted(nodes, np.column_stack((links["first"], links["member"])))
    bands = np.ascontiguousarray(links["band"])
    stars = components.star_clusters(edges, bands, *sets.read(nodes), min_similarity=min_similarity)
    own = docs[nodes]
    return _clusters(own[stars.docs], own[stars.centres], stars.similarities, stars.bands)


def _with_twins(stars: list[pa.Table], first: Ints, twin: Ints) -> pa.Table:
    """Add equal texts: to the cluster of their first copy, which is a cluster of its own where it has none.

    Empties `stars`. One sorted table at a time is held beside the one that it comes from.
    """
    none = np.empty(0, np.int64)
    found = _sorted([*stars, _clusters(none, none, none, none)])
    stars.clear()
    alone = np.setdiff1d(first, found["doc"].to_numpy())
    if len(alone):
        found = _sorted([found, _clusters(alone, alone, np.ones(len(alone)), np.full(len(alone), -1))])
    places = np.searchsorted(found["doc"].to_numpy(), first)
    centre = found["cluster"].to_numpy()[places]
    bands = np.where(centre == first, 0, found["band"].to_numpy()[places])
    return _sorted([found, _clusters(twin, centre, found["similarity"].to_numpy()[places], bands)])


def _clusters(docs: Ints, centres: Ints, similarities: NDArray[Any], bands: NDArray[Any]) -> pa.Table:
    columns = zip(CLUSTERS.items(), (docs, centres, similarities, bands), strict=True)
    return pa.table({name: pa.array(values).cast(kind) for (name, kind), values in columns})


def _sorted(tables: Sequence[pa.Table]) -> pa.Table:
    """The tables as one, by document; column by column, because a whole table would be copied twice."""
    table = pa.concat_tables(tables)
    order = pa.array(np.argsort(table["doc"].to_numpy(), kind="stable"))
    return pa.table({name: table[name].combine_chunks().take(order) for name in CLUSTERS})


def _places(docs: Ints, numbers: Ints) -> tuple[Ints, Bools]:
    """Where in `docs` (sorted) the numbers that are in it stand, and which ones are."""
    places = np.searchsorted(docs, numbers)
    here = places < len(docs)
    here[here] = docs[places[here]] == numbers[here]
    return places[here], here


def _keepers(corpus: Corpus) -> tuple[Ints, Ints]:
    """The clusters that have a survivor, in order, and the keeper of each."""
    best = np.empty((3, 0), np.int64)
    waiting: list[Ints] = []
    for rows in corpus:
        waiting.append(_best(_clustered(rows)))
        # Merged when as many wait as are held: n log n in all, and never more than twice the clusters in memory.
        if sum(part.shape[1] for part in waiting) >= max(best.shape[1], 1 << 16):
            best, waiting = _best(np.concatenate([best, *waiting], axis=1)), []
    cluster, _, docs = _best(np.concatenate([best, *waiting], axis=1))
    return cluster, docs


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
