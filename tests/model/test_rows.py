"""The schema of packed rows and random access to them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polylm.model.rows import PackedFiles, packed_schema, to_arrays

CONTEXT = 7


def table(rows):
    return pa.Table.from_pylist(
        [
            {
                "tokens": np.asarray(row["tokens"], "<i4").tobytes(),
                "starts": row["starts"],
                "loss_starts": row.get("loss_starts", row["starts"]),
                "docs": list(range(len(row["starts"]))),
                "languages": row.get("languages", ["en"] * len(row["starts"])),
                "length": row.get("length", CONTEXT + 1),
                "cell": row.get("cell", "en/web"),
            }
            for row in rows
        ],
        packed_schema(CONTEXT),
    )


def numbered(first, count):
    return table([{"tokens": [first + row] * (CONTEXT + 1), "starts": [0]} for row in range(count)])


def test_arrays_give_back_what_was_written_also_from_a_slice():
    rows = [
        {"tokens": range(8), "starts": [0, 3], "languages": ["th", "en"]},
        {"tokens": range(8, 16), "starts": [0], "length": 5, "cell": "de/book"},
        {"tokens": range(16, 24), "starts": [0, 1, 7]},
    ]
    packed = to_arrays(table(rows).slice(1))
    assert len(packed) == 2
    assert packed.row(0).tokens.tolist() == list(range(8, 16))
    assert (packed.row(0).length, packed.row(0).cell) == (5, "de/book")
    assert packed.row(1).starts.tolist() == [0, 1, 7]
    assert packed.row(1).docs.tolist() == [0, 1, 2]
    assert to_arrays(table(rows)).row(0).languages == ["th", "en"]


def test_segments_and_targets_of_pretraining():
    row = to_arrays(table([{"tokens": range(8), "starts": [0, 3], "length": 6}])).row(0)
    assert row.segments.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    # Not the first token, for nothing comes before it, and no padding; the first of the second document is one.
    assert row.is_target.tolist() == [False, True, True, True, True, True, False, False]


def test_only_answers_are_targets_in_fine_tuning():
    row = to_arrays(table([{"tokens": range(8), "starts": [0, 4], "loss_starts": [2, 7]}])).row(0)
    assert np.flatnonzero(row.is_target).tolist() == [2, 3, 7]


def test_reads_any_row_of_many_files_and_row_groups(tmp_path):
    pq.write_table(numbered(0, 600), tmp_path / "a.parquet", row_group_size=256)
    pq.write_table(numbered(1000, 3), tmp_path / "b.parquet", row_group_size=256)
    files = PackedFiles([str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")], CONTEXT)
    assert len(files) == 603
    for file, row, value in [(0, 599, 599), (1, 2, 1002), (0, 0, 0), (0, 255, 255), (0, 256, 256), (1, 0, 1000)]:
        assert files.row(file, row).tokens[0] == value
    with pytest.raises(ValueError, match=r"b\.parquet: row 3 of 3"):
        files.row(1, 3)


def test_a_file_that_is_missing_broken_or_of_another_context_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.parquet: no such file"):
        PackedFiles([str(tmp_path / "none.parquet")], CONTEXT)
    (tmp_path / "text.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(ValueError, match=r"text\.parquet: not a readable Parquet file"):
        PackedFiles([str(tmp_path / "text.parquet")], CONTEXT)
    pq.write_table(numbered(0, 1), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"tokens is fixed_size_binary\[32\], expected fixed_size_binary\[36\]"):
        PackedFiles([str(tmp_path / "a.parquet")], CONTEXT + 1)
    pq.write_table(numbered(0, 1).drop(["docs"]), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match="column docs is missing"):
        PackedFiles([str(tmp_path / "c.parquet")], CONTEXT)
