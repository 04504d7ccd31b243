"""Slices of string arrays."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.kernels.utf8 import row_batches


@given(st.lists(st.none() | st.text(max_size=9), max_size=12), st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_batches_are_the_rows_in_order_and_small_enough(texts: list[str | None], max_bytes: int):
    batches = list(row_batches(pa.array(texts, pa.string()), max_bytes))
    assert [text for batch in batches for text in batch.to_pylist()] == texts
    sizes = [sum(len((text or "").encode()) for text in batch.to_pylist()) for batch in batches]
    assert all(size <= max_bytes or len(batch) == 1 for size, batch in zip(sizes, batches, strict=True))
