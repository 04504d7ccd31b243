import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.tasks.stage import NoParams
from polylm.tasks.tokens import encode as module
from polylm.tasks.tokens.encode import encode, encode_column
from polylm.tasks.tokens.tokenizer import encode_texts, load_tokenizer

from .conftest import sentences


def test_documents_without_weight_are_null_and_the_others_are_whole(tokenizer):
    rows = {
        "text": pa.array(["The river", None, "川の水", "the water", ""]),
        "weight": pa.array([1, None, 2, None, 1], pa.uint8()),
    }
    tokens = encode(rows, NoParams(), tokenizer)["tokens"]
    loaded = load_tokenizer(tokenizer)
    assert tokens.type == pa.list_(pa.int32())
    assert [None if ids is None else loaded.decode(ids) for ids in tokens.to_pylist()] == [
        "The river",
        None,
        "川の水",
        None,
        "",
    ]


def test_a_part_without_selected_documents_is_all_null(tokenizer):
    rows = {"text": pa.array(["a", None]), "weight": pa.array([None, None], pa.uint8())}
    assert encode(rows, NoParams(), tokenizer)["tokens"].to_pylist() == [None, None]


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.none() | st.text(max_size=30), max_size=8), limit=st.integers(1, 40))
def test_batches_change_nothing(tokenizer, texts, limit):
    before, module.BATCH_BYTES = module.BATCH_BYTES, limit
    try:
        tokens = encode_column(pa.array(texts, pa.string()), tokenizer).to_pylist()
    finally:
        module.BATCH_BYTES = before
    loaded = load_tokenizer(tokenizer)
    assert tokens == [None if text is None else encode_texts(loaded, [text])[0] for text in texts]


def test_a_slice_of_a_column_is_encoded_as_such(tokenizer):
    texts = pa.array([*sentences(3)["ko"], None])
    whole = encode_column(texts, tokenizer)
    assert encode_column(texts[1:], tokenizer).to_pylist() == whole.to_pylist()[1:]
