"""What was written in pieces is read back whole, against dicts and lists."""

import tempfile
from itertools import pairwise
from operator import itemgetter
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.kernels.minhash import distinct
from polylm.tasks.corpus.spill import Groups, Sets, bounds_of_runs, spill_folder

ROW = np.dtype([("value", np.int64), ("band", np.int16)])
calls = st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(-9, 9)), max_size=8), max_size=5)
sets_in_calls = st.lists(st.lists(st.frozensets(st.integers(0, 99), max_size=5), max_size=4), max_size=5)


@settings(max_examples=50, deadline=None)
@given(calls)
def test_a_group_holds_its_rows_in_the_order_of_writing(calls):
    expected = {group: [] for group in range(7)}
    with tempfile.TemporaryDirectory() as folder:
        groups = Groups(Path(folder) / "groups", ROW)
        for call in calls:
            rows = np.array([(value, group) for group, value in call], ROW)
            groups.add(np.array([group for group, _ in call], np.int64), rows)
            for group, value in call:
                expected[group].append((value, group))
        assert {group: groups.read(group).tolist() for group in expected} == expected
        assert list(groups) == [group for group, rows in expected.items() if rows]
        for group in groups:
            assert [row for piece in groups.pieces(group, 2) for row in piece.tolist()] == expected[group]
        for sort_by, order in ((None, list), ("value", lambda rows: sorted(rows, key=itemgetter(0)))):
            whole = [row for rows in expected.values() for row in order(rows)]
            columns = groups.columns(sort_by)
            assert [(name, values.dtype) for name, values in columns.items()] == [("value", "i8"), ("band", "i2")]
            assert list(zip(*(values.tolist() for values in columns.values()), strict=True)) == whole


@settings(max_examples=50, deadline=None)
@given(sets_in_calls, st.data())
def test_any_sets_are_read_back_in_order(calls, data):
    whole = [sorted(own) for call in calls for own in call]
    with tempfile.TemporaryDirectory() as folder:
        sets = Sets(Path(folder) / "sets", len(whole))
        for call in calls:
            offsets = np.cumsum([0, *(len(own) for own in call)])
            hashes = np.array([value for own in call for value in own], np.uint64)
            sets.append(*distinct(hashes, offsets))
        assert np.diff(sets.offsets).tolist() == [len(own) for own in whole]
        owners = [i for i in range(len(whole)) if data.draw(st.booleans())]
        hashes, offsets = sets.read(np.array(owners, np.int64))
        found = [hashes[first:last].tolist() for first, last in pairwise(offsets)]
        assert found == [whole[owner] for owner in owners]


def test_runs_begin_where_a_value_changes():
    assert bounds_of_runs(np.array([3, 3, 5, 7, 7])).tolist() == [0, 2, 3, 5]
    assert bounds_of_runs(np.array([])).tolist() == []


def test_what_a_killed_job_left_is_removed_first_and_nothing_stays(tmp_path):
    (tmp_path / "spill").mkdir()
    (tmp_path / "spill" / "half").write_bytes(b"left")
    with spill_folder(tmp_path) as folder:
        assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == []
