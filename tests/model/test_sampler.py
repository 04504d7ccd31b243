"""Which rows are in which step."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.model.config import Segment
from polylm.model.sampler import CellRows, Quotas, Sampler

SHARES = {"en/web": 0.7, "de/book": 0.2, "th/web": 0.1}


def sampler(packed, *, steps=(30, 20), shares=(SHARES, SHARES), batch=4, seed=1, skip=(), files=None):
    segments = [
        Segment(name=f"stage-{number}", steps=count, files=(files or [packed, packed])[number], shares=shares[number])
        for number, count in enumerate(steps)
    ]
    return Sampler(segments, context=32, batch=batch, seed=seed, skip=skip)


@settings(deadline=None)
@given(
    shares=st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=40), batch=st.integers(1, 64), steps=st.integers(1, 60)
)
def test_every_step_is_full_and_every_cell_within_one_row_of_its_plan(shares, batch, steps):
    quotas = Quotas(shares, batch)
    planned = np.array(shares) / sum(shares)
    before = quotas.before(0)
    for step in range(1, steps + 1):
        now = quotas.before(step)
        assert (now >= before).all()
        assert now.sum() == step * batch
        assert np.abs(now - planned * step * batch).max() < 1 + 1e-5
        before = now


@settings(deadline=None)
@given(rows=st.lists(st.integers(1, 3_000), min_size=1, max_size=40), batch=st.integers(1, 64), more=st.integers(0, 9))
def test_counts_of_rows_are_met_to_the_row_at_their_end_and_within_one_before(rows, batch, more):
    """Within one row a cell is not enough there: thirty cells with one too many would shift a language's share by thirty."""
    rows = [*rows, -sum(rows) % batch] if sum(rows) % batch else rows
    quotas, steps = Quotas(rows, batch), sum(rows) // batch
    assert quotas.before(steps).tolist() == rows
    for step in {steps // 3, steps // 2, steps + more}:
        assert np.abs(quotas.before(step) - np.array(rows) * step * batch / sum(rows)).max() < 1 + 1e-9


def test_counts_of_three_thousand_million_rows_are_dealt_without_overflow():
    rows = [2_999_999_000, 999, 1]
    quotas = Quotas(rows, 1_000_000)
    assert quotas.before(3_000).tolist() == rows


def test_one_large_and_many_small_cells_keep_their_shares():
    """The case in which Webster's rule would give the large cell 40 of the first 40 rows instead of 20."""
    quotas = Quotas([0.5] + [0.01] * 50, 8)
    assert quotas.before(5)[0] == 20
    assert quotas.before(100).tolist() == [400] + [8] * 50


def test_quotas_do_not_depend_on_the_order_of_questions():
    forward = Quotas([3, 1, 2], 5)
    wanted = [forward.before(step).tolist() for step in range(20)]
    backward = Quotas([3, 1, 2], 5)
    assert [backward.before(step).tolist() for step in reversed(range(20))] == wanted[::-1]


def test_an_epoch_deals_every_row_once_and_the_next_in_another_order():
    cell = CellRows("de/book", [(0, np.arange(700)), (2, np.arange(3, 500, 2))])
    epochs = [cell.deal(number * len(cell), len(cell), seed=5) for number in range(2)]
    wanted = sorted([(0, row) for row in range(700)] + [(2, row) for row in range(3, 500, 2)])
    assert sorted(epochs[0]) == sorted(epochs[1]) == wanted
    assert epochs[0] != epochs[1]
    assert epochs[0] != cell.deal(0, len(cell), seed=6)


def test_rows_are_dealt_block_by_block_so_that_few_row_groups_are_open():
    cell = CellRows("de/book", [(0, np.arange(256 * 20))])
    blocks = [row // 256 for _, row in cell.deal(0, 256 * 20, seed=5)]
    changes = sum(a != b for a, b in pairwise(blocks))
    assert changes == 19


def test_a_resume_needs_the_step_only(packed):
    whole = sampler(packed)
    wanted = [whole.rows_of_step(step) for step in range(50)]
    assert [sampler(packed).rows_of_step(step) for step in (49, 0, 31, 17)] == [wanted[s] for s in (49, 0, 31, 17)]


def test_a_cell_goes_on_in_the_next_segment_where_it_stopped(packed):
    dealt = [place for step in range(10) for place in sampler(packed, steps=(5, 5)).rows_of_step(step)]
    english = [place.row for place in dealt if place.cell == "en/web"]
    assert len(english) == len(set(english)) == 28
    assert Counter(place.cell for place in dealt) == {"en/web": 28, "de/book": 8, "th/web": 4}


def test_a_job_that_is_told_what_was_dealt_before_goes_on_as_the_next_segment_would(packed):
    together = sampler(packed, steps=(5, 5))
    dealt = Counter(place.cell for step in range(5) for place in together.rows_of_step(step))
    own = Segment(name="stage-1", steps=5, files=packed, shares=SHARES, dealt=dict(dealt))
    apart = Sampler([own], context=32, batch=4, seed=1)
    assert [apart.rows_of_step(step) for step in range(5)] == [together.rows_of_step(step) for step in range(5, 10)]


def test_rows_lie_in_cells_of_their_name(packed):
    deal = sampler(packed)
    files = deal.files_of_segment(0)
    for cell, file, row in deal.deal(3) + deal.deal(44):
        assert files.row(file, row).cell == cell


def test_skipped_batches_are_passed_over_and_the_rest_keeps_its_order(packed):
    one = {"en/web": 1.0}
    plain = sampler(packed, steps=(20,), shares=(one,), batch=2)
    skipping = sampler(packed, steps=(15,), shares=(one,), batch=2, skip=[(3, 4), (7, 7)])
    kept = [step for step in range(18) if step not in (3, 4, 7)]
    assert [skipping.rows_of_step(step) for step in range(15)] == [plain.rows_of_step(step) for step in kept]


def test_another_seed_deals_other_rows(packed):
    assert sampler(packed, seed=1).rows_of_step(0) != sampler(packed, seed=2).rows_of_step(0)


def test_a_cell_without_rows_and_a_step_past_the_end_are_errors(packed):
    with pytest.raises(
        ValueError, match=r"stage-0: its files have no row of fr/web; they have de/book, en/web, th/web"
    ):
        sampler(packed, shares=({"fr/web": 1.0}, SHARES))
    with pytest.raises(ValueError, match="step 50 is outside this training of 50 steps"):
        sampler(packed).rows_of_step(50)
