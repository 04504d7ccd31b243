from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.model.rows import PackedFiles, packed_schema, to_arrays
from polylm.tasks.tokens.pack import PACKED, Documents, PackParams, best_fit_decreasing, pack, pack_documents

END = 0
LENGTHS = st.lists(st.integers(1, 40), max_size=30)


def documents_of(lengths, cell="en/doc"):
    """Documents whose tokens are all different, so that each can be followed through the rows."""
    tokens = np.split(np.arange(1, sum(lengths) + 1, dtype=np.int32), np.cumsum(lengths)[:-1]) if lengths else []
    return Documents.of(
        tokens=pa.array([list(ids) for ids in tokens], pa.list_(pa.int32())),
        docs=pa.array(range(1000, 1000 + len(lengths)), pa.int64()),
        languages=pa.array(["en"] * len(lengths), pa.string()),
        cells=pa.array([cell] * len(lengths), pa.string()),
    )


def packed(lengths, context=16, seed=0, **kwargs):
    return pack_documents(documents_of(lengths, **kwargs), context=context, separator=END, seed=seed)


def rows_of(table):
    arrays = to_arrays(table)
    return [arrays.row(index) for index in range(len(arrays))]


def predictions(table):
    """Every (token before, target) of the rows, as the model trains on them."""
    pairs = []
    for row in rows_of(table):
        targets = np.flatnonzero(row.is_target)
        pairs += zip(row.tokens[targets - 1].tolist(), row.tokens[targets].tolist(), strict=True)
    return pairs


@settings(max_examples=200, deadline=None)
@given(lengths=LENGTHS, context=st.integers(2, 20), seed=st.integers(0, 3))
def test_every_token_and_every_end_is_predicted_once_from_the_token_before_it(lengths, context, seed):
    wanted, first = [], 1
    for length in lengths:
        document = [END, *range(first, first + length), END]
        wanted += pairwise(document)
        first += length
    assert Counter(predictions(packed(lengths, context, seed))) == Counter(wanted)


@settings(max_examples=200, deadline=None)
@given(lengths=LENGTHS, context=st.integers(2, 20))
def test_each_segment_names_the_document_that_it_holds(lengths, context):
    edges = np.cumsum([0, *lengths])
    for row in rows_of(packed(lengths, context)):
        assert row.starts[0] == 0
        assert (np.diff(row.starts) > 0).all()
        assert row.starts[-1] < row.length <= context + 1
        for place in range(row.length):
            token, doc = int(row.tokens[place]), int(row.docs[row.segments[place]])
            assert token == END or edges[doc - 1000] < token <= edges[doc - 999]


def test_a_row_of_whole_documents_is_separators_between_documents():
    (row,) = rows_of(packed([3, 2], context=16))
    first, second = ([1, 2, 3], [4, 5]) if row.tokens[1] == 1 else ([4, 5], [1, 2, 3])
    assert row.tokens[: row.length].tolist() == [END, *first, END, *second, END]
    assert (row.tokens[row.length :] == END).all()
    assert row.tokens[row.starts].tolist() == [END, END]
    assert row.loss_starts.tolist() == row.starts.tolist()


def test_a_continued_document_shows_its_last_token_again_without_loss():
    rows = sorted(rows_of(packed([10], context=4)), key=lambda row: row.tokens[1])
    assert [row.tokens[: row.length].tolist() for row in rows] == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8], [8, 9, 10, 0]]
    assert [row.loss_starts.tolist() for row in rows] == [[0], [1], [1]]
    assert {doc for row in rows for doc in row.docs.tolist()} == {1000}


def test_a_document_that_just_fits_is_not_cut():
    assert packed([15], context=16).num_rows == 1
    assert packed([16], context=16).num_rows == 2


@settings(max_examples=200, deadline=None)
@given(sizes=st.lists(st.integers(1, 12), max_size=40))
def test_best_fit_equals_the_slow_way(sizes):
    capacity, rooms, wanted = 12, [], np.zeros(len(sizes), int)
    free = {}
    for piece in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        fitting = [row for row, room in free.items() if room >= sizes[piece]]
        tightest = min((free[row] for row in fitting), default=capacity)
        # Of equally full rows, the one that came to be so last.
        row = next((row for row in reversed(rooms) if row in fitting and free[row] == tightest), len(free))
        free[row] = free.get(row, capacity) - sizes[piece]
        rooms = [other for other in rooms if other != row] + [row]
        wanted[piece] = row
    got = best_fit_decreasing(np.array(sizes, np.int64), capacity)
    assert got.tolist() == wanted.tolist()


def test_many_documents_fill_their_rows():
    lengths = np.random.default_rng(0).lognormal(5, 1.2, 5_000).astype(int) + 1
    table = packed(lengths.tolist(), context=512)
    assert np.mean(table["length"].to_numpy()) / 513 > 0.995


def test_the_seed_decides_the_order_and_nothing_else():
    lengths = [3, 9, 4, 14, 2, 6, 40, 11, 7]
    assert packed(lengths, seed=1).equals(packed(lengths, seed=1))
    assert not packed(lengths, seed=1).equals(packed(lengths, seed=2))
    assert Counter(predictions(packed(lengths, seed=1))) == Counter(predictions(packed(lengths, seed=2)))


def test_place_in_the_row_does_not_tell_length():
    rows = rows_of(packed([9, 5] * 50, context=16))
    assert {int(np.diff(row.starts)[0]) for row in rows} == {6, 10}


def part(tokenizer=None, **changes):
    rows = {
        "tokens": pa.array([[5, 6, 7], None, [8, 9], [10], [11, 12], []], pa.list_(pa.int32())),
        "cell": pa.array(["de/doc", None, "en/web", "de/doc", "en/web", "en/web"]),
        "split": pa.array(["train", None, "train", "valid", "train", "train"]),
        "language": pa.array(["de", "de", "en", "de", "en", "en"]).dictionary_encode(),
        "weight": pa.array([1, None, 3, 1, 1, 1], pa.uint8()),
        "doc": pa.array(range(7, 13), pa.int64()),
    }
    return rows | changes


def test_cells_are_not_mixed_and_splits_are_apart(tokenizer):
    train = rows_of(pack(part(), PackParams(context=16), tokenizer))
    assert [(row.cell, set(row.languages)) for row in train] == [("de/doc", {"de"}), ("en/web", {"en"})]
    valid = rows_of(pack(part(), PackParams(context=16, split="valid"), tokenizer))
    assert [(row.cell, row.docs.tolist()) for row in valid] == [("de/doc", [10])]


def test_a_document_is_packed_as_often_as_its_weight_says_and_an_empty_one_never(tokenizer):
    (_, row) = rows_of(pack(part(), PackParams(context=16), tokenizer))
    assert sorted(row.docs.tolist()) == [9, 9, 9, 11]


def test_a_part_without_selected_documents_gives_no_row(tokenizer):
    table = pack(part(weight=pa.array([None] * 6, pa.uint8())), PackParams(context=16), tokenizer)
    assert table.schema == packed_schema(16)
    assert table.num_rows == 0


def test_a_sliced_part_is_packed_as_such(tokenizer):
    rows = {name: values[2:] for name, values in part().items()}
    assert {doc for row in rows_of(pack(rows, PackParams(context=16), tokenizer)) for doc in row.docs.tolist()} == {
        9,
        11,
    }


def test_the_rows_are_what_the_ranks_read(tmp_path, tokenizer):
    table = pack(part(), PackParams(context=16), tokenizer)
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=256)
    files = PackedFiles([str(tmp_path / "rows.parquet")], context=16)
    assert files.row(0, 0).tokens.tolist()[:5] == [0, 5, 6, 7, 0]
    assert table.schema.names == PACKED.names


def test_a_context_of_one_is_refused():
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        PackParams(context=1)
