"""Near and exact duplicates: signatures, candidates, verified clusters, and one keeper of each."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polylm.kernels import band_join, components, minhash, normalize
from polylm.tasks.rules import Rules, at_most
from polylm.tasks.stage import Columns, Corpus, Field, NoParams, Params, Rows, files, gate, measure
from polylm.tasks.store import read_columns

EXACT = "exact"  # the job of the band whose hash is that of the whole normalised text
CLUSTERS = {"doc": pa.int64(), "cluster": pa.int64(), "similarity": pa.float32(), "band": pa.int16()}


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
    batch_chars: int = Field(
        100_000_000,
        ge=1,
        description="Text of the candidates that are compared at once.",
        unit="characters; 8 bytes each",
    )


@measure(reads=["text"], writes={"bands": pa.list_(pa.uint64())}, version=1)
def sign(rows: Rows, params: BandParams) -> Columns:
    """Hash every document for the search for duplicates: its whole text, then each band of its MinHash signature.

    Signatures are datasketch's (`scheme="legacy"`); a text without a token has no bands.
    """
    bands, depth = params.shape()
    a, b = minhash.permutations(params.permutations, params.seed)
    hashed = [_hash_bands(texts, params.shingle, a, b, bands, depth) for texts in normalize.row_batches(rows["text"])]
    hashes, has_tokens = (np.concatenate(columns) for columns in zip(*hashed, strict=True))
    lists = pa.FixedSizeListArray.from_arrays(pa.array(hashes.ravel()), bands + 1).cast(pa.list_(pa.uint64()))
    return {"bands": lists.take(pa.array(np.arange(len(lists)), mask=~has_tokens))}


@files(reads=["bands", "doc"], writes={"first": pa.int64(), "doc": pa.int64()}, each="band", version=1)
def join_bands(corpus: Corpus, params: BandParams, job: str) -> pa.Table:
    """Link documents that share a hash in one band; 40 bytes of memory a document."""
    band = list(params.jobs()).index(job)
    pairs = [_band_of(rows, band) for rows in corpus]
    hashes, docs = (
        (np.concatenate(columns) for columns in zip(*pairs, strict=True))
        if pairs
        else (np.empty(0, np.uint64), np.empty(0, np.int64))
    )
    edges = band_join.join_band(hashes, docs)
    return pa.table({"first": edges[:, 0], "doc": edges[:, 1]})


@files(reads=["text", "chars", "doc"], writes=CLUSTERS, version=1)
def verify_clusters(corpus: Corpus, params: ClusterParams, joined: dict[str, Path]) -> pa.Table:
    """Cluster candidates as stars: every member's true Jaccard similarity with its centre reaches the threshold.

    No chaining, so that one false link cannot swallow a source (datasets lost whole ones to it). Equal texts are clustered
    by their hash alone and only the first is compared. Memory: 24 bytes a candidate and the shingles of `batch_chars`.
    """
    first, member, band = _candidates(joined)
    same = band == 0
    twins = dict(zip(member[same].tolist(), first[same].tolist(), strict=True))
    links = np.column_stack([_representatives(first[~same], twins), _representatives(member[~same], twins)])
    distinct = links[:, 0] != links[:, 1]
    found = list(_stars(corpus, params, links[distinct], band[~same][distinct]))
    return _with_twins(found, twins)


@measure(reads=["doc"], writes={name: kind for name, kind in CLUSTERS.items() if name != "doc"}, version=1)
def label_clusters(rows: Rows, params: NoParams, clusters: pa.Table) -> Columns:
    """Give every document its cluster (the number of the centre), its similarity with it and the band that found it."""
    docs = clusters["doc"].to_numpy()
    places = np.searchsorted(docs, rows["doc"].to_numpy())
    places = np.minimum(places, max(0, len(docs) - 1))
    here = docs[places] == rows["doc"].to_numpy() if len(docs) else np.zeros(len(rows["doc"]), np.bool_)
    at = pa.array(places, mask=~here)
    columns = ("cluster", "similarity", "band")
    return {
        name: clusters[name].combine_chunks().take(at) if len(docs) else pa.nulls(len(here), CLUSTERS[name])
        for name in columns
    }


@files(reads=["cluster", "chars", "doc"], writes={"doc": pa.int64(), "keeper": pa.int64()}, cheap=True, version=1)
def choose_keepers(corpus: Corpus, params: NoParams) -> pa.Table:
    """Keep the longest document of every cluster, the first of equals, among those that no gate rejected.

    Lists the others with their keeper. Memory: 24 bytes a clustered document.
    """
    rows = [_clustered(rows) for rows in corpus]
    cluster, chars, docs = (
        (np.concatenate(columns) for columns in zip(*rows, strict=True)) if rows else (np.empty(0, np.int64),) * 3
    )
    order = np.lexsort((docs, -chars, cluster))
    cluster, docs = cluster[order], docs[order]
    is_first = np.ones(len(docs), np.bool_)
    is_first[1:] = cluster[1:] != cluster[:-1]
    keepers = docs[is_first][np.cumsum(is_first) - 1]
    dropped = np.argsort(docs[~is_first])
    return pa.table({"doc": docs[~is_first][dropped], "keeper": keepers[~is_first][dropped]})


@gate(reads=["doc"])
def drop_duplicates(rows: Rows, params: NoParams, keepers: pa.Table) -> Rules:
    """Reject every document of a cluster but its keeper."""
    return {"duplicate": at_most(np.isin(rows["doc"], keepers["doc"].to_numpy()), 0)}


def _hash_bands(texts: pa.Array, shingle: int, a: Any, b: Any, bands: int, depth: int) -> tuple[Any, Any]:
    """Of each text: [exact, band 1, ...] hashes, and whether it has a token at all."""
    tokens = normalize.tokenize(texts)
    spans = normalize.shingles(tokens, shingle)
    signatures = minhash.signatures(minhash.sha1_32(tokens.text, spans.starts, spans.ends), spans.offsets, a, b)
    hashes = np.empty((len(texts), bands + 1), np.uint64)
    hashes[:, 0] = minhash.exact(tokens.text, tokens.text_offsets)
    hashes[:, 1:] = minhash.bands(signatures, bands, depth)
    return hashes, np.diff(tokens.offsets) > 0


def _band_of(rows: Rows, band: int) -> tuple[Any, Any]:
    """The hashes of one band of a part and the documents that have them."""
    valid = np.asarray(rows["bands"].is_valid())
    lists = rows["bands"].drop_null()
    width = len(lists.flatten()) // max(1, len(lists))
    hashes = lists.flatten().to_numpy().reshape(len(lists), width)[:, band] if len(lists) else np.empty(0, np.uint64)
    return np.ascontiguousarray(hashes), rows["doc"].to_numpy()[valid]


def _candidates(joined: dict[str, Path]) -> tuple[Any, Any, Any]:
    """All edges with the index of their band; 0 is the exact one."""
    tables = [read_columns(path) for path in joined.values()]
    bands = np.repeat(np.arange(len(tables), dtype=np.int16), [table.num_rows for table in tables])
    edges = pa.concat_tables(tables)
    return edges["first"].to_numpy(), edges["doc"].to_numpy(), bands


def _representatives(docs: Any, twins: dict[int, int]) -> Any:
    return np.fromiter((twins.get(doc, doc) for doc in docs.tolist()), np.int64, len(docs))


def _stars(corpus: Corpus, params: ClusterParams, links: Any, bands: Any) -> Iterator[pa.Table]:
    """The clusters of each batch of components, by documents' numbers."""
    docs, local = np.unique(links, return_inverse=True)
    edges = local.reshape(links.shape).astype(np.int64)
    weights = _chars_of(corpus, docs)
    roots = components.components(edges, len(docs))
    for batch in components.component_batches(roots, weights, params.batch_chars):
        inside = np.isin(edges[:, 0], batch)
        sets, offsets = _shingle_sets(corpus, docs[batch], params.shingle)
        own = np.searchsorted(batch, edges[inside])
        stars = components.star_clusters(own, bands[inside], sets, offsets, min_similarity=params.min_similarity)
        columns = {
            "doc": docs[batch][stars.docs],
            "cluster": docs[batch][stars.centres],
            "similarity": stars.similarities,
            "band": stars.bands,
        }
        yield pa.table({name: pa.array(values).cast(CLUSTERS[name]) for name, values in columns.items()})


def _chars_of(corpus: Corpus, docs: Any) -> Any:
    weights = np.zeros(len(docs), np.int64)
    for rows in corpus if len(docs) else ():
        places, here = _places(docs, rows["doc"].to_numpy())
        weights[places] = rows["chars"].to_numpy(zero_copy_only=False)[here]
    return weights


def _shingle_sets(corpus: Corpus, docs: Any, shingle: int) -> tuple[Any, Any]:
    """The distinct shingles of some documents, in the order of their numbers."""
    parts = []
    for rows in corpus:
        _, here = _places(docs, rows["doc"].to_numpy())
        if here.any():
            tokens = normalize.tokenize(rows["text"].filter(pa.array(here)))
            spans = normalize.shingles(tokens, shingle)
            parts.append(minhash.distinct(minhash.xxh64(tokens.text, spans.starts, spans.ends), spans.offsets))
    ends = np.cumsum([0, *(len(hashes) for hashes, _ in parts)])
    offsets = np.concatenate([[0], *(own[1:] + start for (_, own), start in zip(parts, ends, strict=False))]).astype(
        np.int64
    )
    return np.concatenate([hashes for hashes, _ in parts]), offsets


def _places(docs: Any, numbers: Any) -> tuple[Any, Any]:
    """Where in `docs` (sorted) the numbers that are in it stand, and which ones are."""
    places = np.searchsorted(docs, numbers)
    here = places < len(docs)
    here[here] = docs[places[here]] == numbers[here]
    return places[here], here


def _with_twins(found: Sequence[pa.Table], twins: dict[int, int]) -> pa.Table:
    """Add equal texts: to the cluster of their first copy, which is a cluster of its own where it has none."""
    table = pa.concat_tables([*found, pa.schema(list(CLUSTERS.items())).empty_table()])
    cluster = dict(
        zip(
            table["doc"].to_pylist(),
            zip(*(table[name].to_pylist() for name in ("cluster", "similarity", "band")), strict=True),
            strict=True,
        )
    )
    for first in dict.fromkeys(twins.values()):
        cluster.setdefault(first, (first, 1.0, -1))
    for twin, first in twins.items():
        centre, similarity, band = cluster[first]
        cluster[twin] = (centre, similarity, 0 if centre == first else band)
    ordered = sorted(cluster.items())
    columns = {
        "doc": [doc for doc, _ in ordered],
        **{name: [values[i] for _, values in ordered] for i, name in enumerate(("cluster", "similarity", "band"))},
    }
    return pa.table({name: pa.array(values, CLUSTERS[name]) for name, values in columns.items()})


def _clustered(rows: Rows) -> tuple[Any, Any, Any]:
    valid = rows["cluster"].is_valid()
    return tuple(
        rows[name].filter(valid).to_numpy(zero_copy_only=False).astype(np.int64) for name in ("cluster", "chars", "doc")
    )
