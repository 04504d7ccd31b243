"""Signatures as datasketch's, planted duplicates found and verified, and never a cluster without a keeper."""

import random
import tempfile
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.kernels.shingles import tokenize
from polylm.tasks.corpus.duplicates import (
    CLUSTERS,
    BandParams,
    ClusterParams,
    choose_keepers,
    drop_duplicates,
    join_bands,
    label_clusters,
    sign,
    verify_clusters,
)
from polylm.tasks.stage import NoParams, Workspace

WORDS = [f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(676)]


def parts_of(texts, size=4, first=0):
    """Parts of a few documents each, numbered from `first`, with their signatures."""
    columns = {
        "text": pa.array(texts, pa.string()),
        "chars": pa.array([len(text or "") for text in texts], pa.uint32()),
        "doc": pa.array(range(first, first + len(texts)), pa.int64()),
    }
    columns |= sign({"text": columns["text"]}, BandParams())
    return [{name: values.slice(i, size) for name, values in columns.items()} for i in range(0, len(texts), size)]


def joined(parts, work, folder):
    """The edges of every band as files, as the stage's jobs leave them."""
    paths = {}
    for job in BandParams().jobs():
        paths[job] = folder / f"{job}.parquet"
        pq.write_table(join_bands(parts, BandParams(), work, job), paths[job])
    return paths


def cluster(texts, work, folder, **params):
    """{document: (cluster, similarity, band)}."""
    parts = parts_of(texts)
    return rows_of(verify_clusters(parts, ClusterParams(**params), joined(parts, work, folder), work))


def rows_of(table):
    return {row["doc"]: (row["cluster"], round(row["similarity"], 4), row["band"]) for row in table.to_pylist()}


def shingles(text):
    tokens = tokens_of(pa.array([text]))[0]
    return {" ".join(tokens[i : i + 5]) for i in range(max(1, len(tokens) - 4))} if tokens else set()


def tokens_of(texts):
    found = tokenize(texts)
    bounds = pairwise(found.text_offsets)
    return [found.text[first:last].tobytes().decode().split() for first, last in bounds]


def jaccard(left, right):
    left, right = shingles(left), shingles(right)
    return len(left & right) / len(left | right)


def long_text(seed, words=120):
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def changed(text, count, seed=0):
    """The same text with its last `count` words replaced."""
    return " ".join([*text.split()[:-count], *random.Random(seed).choices(WORDS, k=count)])


def test_bands_are_those_of_datasketchs_signatures_on_the_sample(sample):
    bands, depth = BandParams().shape()
    for rows in sample[::3]:
        signed = sign(rows, BandParams())["bands"].to_pylist()
        for tokens, found in zip(tokens_of(rows["text"]), signed, strict=True):
            if not tokens:
                assert found is None
                continue
            reference = MinHash(num_perm=128, seed=1, scheme="legacy")
            reference.update_batch([" ".join(tokens[i : i + 5]).encode() for i in range(max(1, len(tokens) - 4))])
            raw = np.asarray(reference.hashvalues).astype("<u4").tobytes()
            cut = [raw[band * depth * 4 : (band + 1) * depth * 4] for band in range(bands)]
            expected = [xxhash.xxh64_intdigest(own, seed=band) for band, own in enumerate(cut, 1)]
            assert found == [xxhash.xxh64_intdigest(" ".join(tokens).encode()), *expected]


@pytest.mark.parametrize(("threshold", "permutations"), [(0.5, 128), (0.7, 128), (0.7, 256), (0.8, 128), (0.9, 64)])
def test_bands_and_rows_are_those_of_datasketch(threshold, permutations):
    lsh = MinHashLSH(threshold=threshold, num_perm=permutations)
    params = BandParams(threshold=threshold, permutations=permutations)
    assert params.shape() == (lsh.b, lsh.r)
    assert len(params.jobs()) == lsh.b + 1


def test_near_duplicates_planted_among_real_documents_are_found_and_verified(sample, work, tmp_path):
    texts = [text for text in sample[0]["text"].to_pylist() if text and len(text.split()) > 60][:30]
    planted = {i: changed(texts[i], 3, seed=i) for i in range(0, 30, 3)}
    every = [*texts, *planted.values()]
    found = cluster(every, work, tmp_path)
    for place, source in enumerate(planted):
        copy = len(texts) + place
        assert found[copy][0] == found[source][0], f"the copy of {source} was not found"
    for doc, (centre, similarity, _) in found.items():
        assert similarity == pytest.approx(1.0 if doc == centre else jaccard(every[doc], every[centre]), abs=1e-4)
        assert similarity >= 0.7


def test_equal_texts_are_a_cluster_whatever_their_case_digits_and_punctuation(work, tmp_path):
    texts = ["Sold in 1999, twice!", long_text(1), "sold in 2024 twice", long_text(2), "SOLD in 0000; twice?"]
    assert cluster(texts, work, tmp_path) == {0: (0, 1.0, -1), 2: (0, 1.0, 0), 4: (0, 1.0, 0)}


def test_a_twin_of_a_member_joins_the_members_cluster(work, tmp_path):
    text = long_text(3)
    near = changed(text, 2)
    found = cluster([text, long_text(4), near, near.upper()], work, tmp_path)
    assert set(found) == {0, 2, 3}
    assert found[3] == found[2]
    assert found[3][0] == 0
    assert found[3][2] > 0


def test_the_ends_of_a_chain_are_kept_apart(work, tmp_path):
    """Each is like the next, the first and the last have little in common."""
    words = long_text(5, 200).split()
    texts = [" ".join(words[i * 15 : i * 15 + 100]) for i in range(7)]
    assert jaccard(texts[0], texts[1]) >= 0.7 > 0.5 > jaccard(texts[0], texts[3])
    parts = parts_of(texts)
    paths = joined(parts, work, tmp_path)
    chain = pa.table({"first": pa.array(range(6), pa.int64()), "doc": pa.array(range(1, 7), pa.int64())})
    for name, path in paths.items():
        path.unlink()
        pq.write_table(chain if name == "band-001" else chain.slice(0, 0), path)
    found = rows_of(verify_clusters(parts, ClusterParams(), paths, work))
    assert {doc: centre for doc, (centre, _, _) in found.items()} == {0: 0, 1: 0, 2: 2, 3: 2, 4: 4, 5: 4}
    assert all(similarity == 1.0 or similarity >= 0.7 for _, similarity, _ in found.values())


def test_no_cluster_swallows_a_source(work, tmp_path):
    """A hundred documents, each a step from the last: clusters stay small, and of each one document is kept."""
    words = long_text(6, 400).split()
    texts = [" ".join(words[i * 3 : i * 3 + 100]) for i in range(100)]
    found = cluster(texts, work, tmp_path)
    for doc, (centre, _, _) in found.items():
        assert doc == centre or jaccard(texts[doc], texts[centre]) >= 0.7
    parts = parts_of(texts)
    table = pa.table({name: pa.array(values, kind) for (name, kind), values in zip(
        CLUSTERS.items(), zip(*((doc, *rest) for doc, rest in found.items()), strict=True), strict=True)})  # fmt: skip
    labelled = [rows | label_clusters(rows, NoParams(), table) for rows in parts]
    dropped = set(choose_keepers(labelled, NoParams())["doc"].to_pylist())
    kept = {found[doc][0] for doc in found if doc not in dropped}
    assert kept == {centre for centre, _, _ in found.values()}
    assert 5 < len(texts) - len(dropped) < len(texts)


@pytest.mark.parametrize("batch", [1, 500, 10_000_000])
def test_the_size_of_a_batch_changes_nothing(work, tmp_path, batch):
    texts = [changed(long_text(i // 4), 1 + i % 4, seed=i) for i in range(40)]
    (tmp_path / "other").mkdir()
    assert cluster(texts, work, tmp_path, batch_shingles=batch) == cluster(texts, work, tmp_path / "other")


def test_clusters_are_the_same_wherever_in_parts_and_sources_their_documents_stand(work, tmp_path):
    texts = [changed(long_text(i % 7), 1 + i % 3, seed=i % 2) for i in range(60)]
    numbers = np.array([(i // 24) << 48 | (i // 4 % 6) << 24 | i % 4 for i in range(60)])
    assert (np.diff(numbers) > 0).all()
    parts = [rows | {"doc": pa.array(numbers[rows["doc"].to_numpy()])} for rows in parts_of(texts)]
    found = verify_clusters(parts, ClusterParams(), joined(parts, work, tmp_path), work)
    assert found["doc"].to_pylist() == sorted(found["doc"].to_pylist())
    (tmp_path / "other").mkdir()
    expected = cluster(texts, work, tmp_path / "other")
    assert {band for _, _, band in expected.values()} > {-1, 0}
    assert rows_of(found) == {numbers[doc]: (numbers[centre], *rest) for doc, (centre, *rest) in expected.items()}
    labelled = [label_clusters(rows, NoParams(), found) for rows in parts]
    centres = [centre for rows in labelled for centre in rows["cluster"].to_pylist()]
    assert centres == [numbers[expected[doc][0]] if doc in expected else None for doc in range(60)]


def test_copies_of_a_source_add_edges_to_the_exact_band_only(work, tmp_path):
    texts = [long_text(7), changed(long_text(7), 2), long_text(8), changed(long_text(8), 2)]
    once, thrice = parts_of(texts), parts_of(texts * 3)
    for job in BandParams().jobs()[1:]:
        assert join_bands(thrice, BandParams(), work, job).equals(join_bands(once, BandParams(), work, job))
    exact = join_bands(thrice, BandParams(), work, "exact").to_pylist()
    assert sorted((row["first"], row["doc"]) for row in exact) == [(i, i + 4 * k) for i in range(4) for k in (1, 2)]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=30), st.integers(1, 7))
def test_a_band_links_what_shares_a_hash(rows, size):
    width = len(BandParams().jobs())
    hashes = [[exact << 60, (exact // 2 << 61) + band, *[7] * (width - 2)] for exact, band in rows]
    table = {"bands": pa.array(hashes, pa.list_(pa.uint64())), "doc": pa.array(range(len(rows)), pa.int64())}
    parts = [{name: values.slice(i, size) for name, values in table.items()} for i in range(0, len(rows), size)]
    firsts = {}
    for doc, own in enumerate(hashes):
        firsts.setdefault(own[0], doc)
    runs = defaultdict(list)
    for doc in firsts.values():
        runs[hashes[doc][1]].append(doc)
    expected = {(run[0], doc) for run in runs.values() for doc in run[1:]}
    with tempfile.TemporaryDirectory() as folder:
        found = join_bands(parts, BandParams(), Workspace(Path(folder), Path(folder), Path(folder)), "band-001")
    assert {(row["first"], row["doc"]) for row in found.to_pylist()} == expected
    assert found.num_rows == len(expected)


documents = st.lists(
    st.tuples(st.none() | st.integers(0, 4), st.integers(0, 3), st.booleans()), max_size=25
)  # cluster, chars, rejected


@settings(deadline=None)
@given(documents, st.integers(1, 6))
def test_keepers_are_the_longest_survivors(documents, size):
    alive = [(doc, cluster, chars) for doc, (cluster, chars, rejected) in enumerate(documents) if not rejected]
    parts = [
        {
            "doc": pa.array([doc for doc, _, _ in alive[i : i + size]], pa.int64()),
            "cluster": pa.array([cluster for _, cluster, _ in alive[i : i + size]], pa.int64()),
            "chars": pa.array([chars for _, _, chars in alive[i : i + size]], pa.uint32()),
        }
        for i in range(0, len(alive), size)
    ]
    keeper = {}
    for doc, cluster, chars in alive:
        if cluster is not None and (cluster not in keeper or chars > keeper[cluster][1]):
            keeper[cluster] = doc, chars
    expected = [(doc, keeper[cluster][0]) for doc, cluster, _ in alive if cluster is not None]
    expected = [(doc, own) for doc, own in expected if doc != own]
    table = choose_keepers(parts, NoParams())
    assert [(row["doc"], row["keeper"]) for row in table.to_pylist()] == expected
    # Every cluster that has a survivor keeps exactly one.
    survivors = {doc for doc, cluster, _ in alive if cluster is not None} - {doc for doc, _ in expected}
    assert len(survivors) == len(keeper)


def test_a_rejected_document_is_no_keeper():
    rows = {"doc": pa.array([4, 9]), "cluster": pa.array([4, 4]), "chars": pa.array([10, 10])}
    assert choose_keepers([rows], NoParams()).to_pylist() == [{"doc": 9, "keeper": 4}]
    without_the_first = {name: values.slice(1) for name, values in rows.items()}
    assert choose_keepers([without_the_first], NoParams()).to_pylist() == []


def test_the_gate_gives_its_reason_to_all_but_the_keeper():
    keepers = pa.table({"doc": pa.array([3, 8], pa.int64()), "keeper": pa.array([2, 2], pa.int64())})
    rule = drop_duplicates({"doc": np.array([1, 2, 3, 8, 9])}, NoParams(), keepers)["duplicate"]
    assert rule.broken.tolist() == [False, False, True, True, False]
    assert rule.margin.tolist() == [0, 0, -1, -1, 0]
    shuffled = drop_duplicates({"doc": np.array([9, 3, 1, 8, 2])}, NoParams(), keepers)["duplicate"]
    assert shuffled.broken.tolist() == [False, True, False, True, False], "as the dashboard's samples are"
    assert not drop_duplicates({"doc": np.array([1, 2])}, NoParams(), keepers.slice(0, 0))["duplicate"].broken.any()


def test_labels_stand_beside_their_documents():
    clusters = pa.table({"doc": [5, 7], "cluster": [5, 5], "similarity": [1.0, 0.8], "band": [-1, 3]})
    found = label_clusters({"doc": pa.array([4, 5, 6, 7, 8], pa.int64())}, NoParams(), clusters)
    assert found["cluster"].to_pylist() == [None, 5, None, 5, None]
    assert found["band"].to_pylist() == [None, -1, None, 3, None]


def test_stages_work_where_there_is_nothing(work, tmp_path):
    assert sign({"text": pa.array([], pa.string())}, BandParams())["bands"].to_pylist() == []
    assert sign({"text": pa.array([None, "…!?"], pa.string())}, BandParams())["bands"].to_pylist() == [None, None]
    for texts in ([], [None, None], ["…", long_text(1)]):
        parts = parts_of(texts)
        paths = joined(parts, work, tmp_path)
        found = verify_clusters(parts, ClusterParams(), paths, work)
        assert found.num_rows == 0
        assert found.schema == pa.schema(list(CLUSTERS.items()))
        for rows in parts:
            assert label_clusters(rows, NoParams(), found)["cluster"].null_count == len(rows["doc"])
    assert choose_keepers([], NoParams()).num_rows == 0
