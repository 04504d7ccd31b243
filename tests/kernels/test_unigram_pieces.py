"""Pieces are SentencePiece's own, whatever the text; n-gram sums are KenLM's own, to the last bit."""

import io
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylm.kernels import unigram_pieces

sentencepiece = pytest.importorskip("sentencepiece")

WORDS = [
    "größe",
    "the",
    "theory",
    "...",
    "..",
    "こんにちは",
    "世界",
    "的",
    "안녕",
    "ที่นี่",
    "aaa",
    "aaaa",
    "<s>",
    "</s>",
    "ﬁn",
    "①",
    "a\u0301",
]


def trained(lines, **options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, hard_vocab_limit=False, num_threads=1, minloglevel=2,
        **{"model_type": "unigram", "vocab_size": 400, "character_coverage": 0.9995, **options},
    )  # fmt: skip
    return model.getvalue()


@pytest.fixture(scope="module")
def both():
    draw = random.Random(3)
    proto = trained([" ".join(draw.choices(WORDS, k=12)) for _ in range(400)])
    return sentencepiece.SentencePieceProcessor(model_proto=proto), unigram_pieces.read_model(proto)


def cut(pieces, texts):
    data = [text.encode() for text in texts]
    found = unigram_pieces.cut(
        pieces, np.frombuffer(b"".join(data) or b"\0", np.uint8).copy(), np.cumsum([0, *map(len, data)], dtype=np.int64)
    )
    rows = zip(found.offsets[:-1], found.offsets[1:], strict=True)
    return found, [[found.bytes_of(place).decode() for place in range(*row)] for row in rows]


texts = st.lists(
    st.one_of(st.text(max_size=30), st.lists(st.sampled_from(WORDS), max_size=9).map("".join), st.text(" \u2581\u3000.a", max_size=9)),
    max_size=6,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(texts)
def test_pieces_and_their_numbers_are_those_of_sentencepiece(both, some):
    processor, (_, pieces) = both
    some = [text.replace("\0", "") for text in some]
    found, mine = cut(pieces, some)
    assert mine == [processor.encode_as_pieces(text) for text in some]
    ids = [i for text in some for i in processor.encode(text)]
    assert [processor.unk_id() if i == unigram_pieces.UNKNOWN else i for i in found.ids.tolist()] == ids


def test_names_are_those_of_sentencepiece(both):
    processor, (names, _) = both
    assert [name.decode() for name in names] == [processor.id_to_piece(i) for i in range(processor.get_piece_size())]


def test_the_longest_text_and_no_text(both):
    processor, (_, pieces) = both
    long = "theory größe 世界x" * 20_000
    assert cut(pieces, ["", long, ""])[1] == [[], processor.encode_as_pieces(long), []]
    assert cut(pieces, [])[1] == []


def test_a_model_of_another_kind_is_refused():
    lines = [" ".join(WORDS)] * 50
    with pytest.raises(ValueError, match="another type than unigram"):
        unigram_pieces.read_model(trained(lines, model_type="bpe", vocab_size=70))
    with pytest.raises(ValueError, match="other white space"):
        unigram_pieces.read_model(trained(lines, add_dummy_prefix=False))
