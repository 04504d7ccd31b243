"""The permutation that orders training rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polylm.kernels.permutation import mix, permute, permute_all


@given(n=st.integers(1, 3000), seed=st.integers(0, 2**63))
def test_every_index_comes_once(n, seed):
    assert sorted(permute_all(np.arange(n), n, seed).tolist()) == list(range(n))


@given(n=st.integers(1, 500), seed=st.integers(0, 2**63), cut=st.integers(0, 500))
def test_chunks_and_single_indices_give_what_the_whole_gives(n, seed, cut):
    whole = permute_all(np.arange(n), n, seed)
    cut = min(cut, n)
    chunks = [permute_all(np.arange(start, stop), n, seed) for start, stop in ((0, cut), (cut, n))]
    assert np.concatenate(chunks).tolist() == whole.tolist() == [permute(index, n, seed) for index in range(n)]


def test_another_seed_gives_another_order():
    orders = {tuple(permute_all(np.arange(64), 64, seed)) for seed in range(200)}
    assert len(orders) == 200


def test_is_close_to_a_random_order():
    """Neighbours end up a third of the range apart on average, and no index is far more fixed than chance."""
    n = 20_000
    order = permute_all(np.arange(n), n, 7)
    assert abs(np.abs(np.diff(order)).mean() / n - 1 / 3) < 0.01
    assert (order == np.arange(n)).sum() <= 8


def test_works_far_beyond_what_fits_in_memory():
    n = 10**12
    values = permute_all(np.arange(1000), n, 3)
    assert len(set(values.tolist())) == 1000
    assert values.max() > n // 2
    assert permute(999, n, 3) == values[999]


@pytest.mark.parametrize("index", [-1, 5])
def test_names_an_index_outside_the_range(index):
    with pytest.raises(ValueError, match=rf"{index}.*\[0, 5\)"):
        permute(index, 5, 0)
    with pytest.raises(ValueError, match=r"\[0, 5\)"):
        permute_all(np.array([index]), 5, 0)


def test_mixed_keys_depend_on_order_and_number_of_values():
    assert len({mix(), mix(0), mix(0, 0), mix(1, 2), mix(2, 1), mix(3)}) == 6
