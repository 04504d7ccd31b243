"""A split that keeps a page's translations together, and the corpus as a view of cells."""

import json

import numpy as np
import pyarrow as pa
import pytest

from polylm.tasks.corpus.select import select
from polylm.tasks.corpus.split import SplitParams, assign_split
from polylm.tasks.stage import NoParams


def rows_of(texts, *, kinds=None, aligned=None, languages=None):
    count = len(texts)
    extras = [
        json.dumps({"align": page, "source": "x"}, separators=(",", ":")) if page else None
        for page in aligned or [None] * count
    ]
    return {
        "text": pa.array(texts, pa.string()),
        "language": pa.array(languages or ["en"] * count, pa.string()).dictionary_encode(),
        "kind": pa.array(kinds or [None] * count, pa.string()),
        "extra": pa.array(extras, pa.string()),
    }  # fmt: skip


def splits(rows, **params):
    return assign_split(rows, SplitParams(**params))["split"].to_pylist()


def test_every_document_has_weight_one_and_a_cell_of_language_and_kind():
    table = select(rows_of(["a", "b"], kinds=["doc", None], languages=["de", "th"]), NoParams())
    assert table["weight"].to_pylist() == [1, 1]
    assert table["cell"].to_pylist() == ["de/doc", "th/text"]


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_the_share_of_pages_is_held_out(share):
    found = splits(rows_of([f"text {i}" for i in range(20_000)]), valid_share=share)
    assert found.count("valid") / len(found) == pytest.approx(share, abs=0.01)


def test_translations_of_a_page_are_on_one_side():
    pages = [f"page/{i // 5}.html" for i in range(500)]
    found = splits(rows_of([f"text {i}" for i in range(500)], aligned=pages), valid_share=0.3)
    assert all(len(set(found[i : i + 5])) == 1 for i in range(0, 500, 5))
    assert 0 < found.count("valid") < 500


def test_the_split_is_of_the_text_and_not_of_its_place():
    texts = [f"text {i}" for i in range(300)]
    order = np.random.default_rng(1).permutation(300)
    found, shuffled = (
        splits(rows_of(texts), valid_share=0.3),
        splits(rows_of([texts[i] for i in order]), valid_share=0.3),
    )
    assert [found[i] for i in order] == shuffled
    assert splits(rows_of(texts), valid_share=0.3, seed=1) != found
    assert set(splits(rows_of(texts), valid_share=0)) == {"train"}


def test_another_field_that_holds_the_word_is_no_page():
    quoted = json.dumps({"note": '"align":"x"'}, separators=(",", ":"))
    rows = rows_of([f"text {i}" for i in range(200)])
    with_note = rows | {"extra": pa.array([quoted] * 200)}
    assert splits(with_note, valid_share=0.5) == splits(rows, valid_share=0.5)


def test_no_rows_are_no_view():
    assert select(rows_of([]), NoParams()).num_rows == 0
