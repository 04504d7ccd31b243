import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polylm.tasks.evaluation.bits import bits_per_byte, bits_rows, score_texts
from polylm.tasks.evaluation.errors import standard_error
from polylm.tasks.evaluation.languages import Paragraph, held_out_texts
from polylm.tasks.evaluation.table import AVERAGE


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=20))
def test_guessing_bytes_costs_eight_bits_without_error(sizes):
    value, deviations = bits_per_byte([size * math.log(256) for size in sizes], sizes)
    assert value == pytest.approx(8)
    assert deviations == pytest.approx([0] * len(sizes), abs=1e-9)


def test_the_error_is_that_of_a_ratio_of_sums():
    value, deviations = bits_per_byte([math.log(2) * 10, math.log(2) * 30], [10, 10])
    assert value == pytest.approx(2)
    assert standard_error(dict(enumerate(deviations))) == pytest.approx(math.sqrt(2 / 1 * (10**2 + 10**2)) / 20)


def test_one_text_has_no_error():
    assert standard_error(dict(enumerate(bits_per_byte([1.0], [4])[1]))) is None


def test_languages_count_alike_in_the_mean_whatever_their_length():
    texts = {"en": [Paragraph(1, 0, "ab")], "th": [Paragraph(1, 0, "กข")]}  # 2 and 6 bytes
    rows = bits_rows("base", {"en": [2 * math.log(2)], "th": [18 * math.log(2)]}, texts)
    assert [(row["language"], round(row["value"], 6)) for row in rows] == [("en", 1), ("th", 3), (AVERAGE, 2)]


def direct_nats(exported, text):
    """The slow reference: one text, no batch, no lm-eval."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = torch.tensor(AutoTokenizer.from_pretrained(exported)(text)["input_ids"])
    with torch.no_grad():
        scores = AutoModelForCausalLM.from_pretrained(exported)(ids[None]).logits[0, :-1].log_softmax(-1)
    return -float(scores.gather(1, ids[1:, None]).sum()), len(ids)


def test_nats_equal_a_plain_forward_pass(lm, exported):
    texts = [min(held_out_texts(code), key=len) for code in ("en", "th", "zh", "ar")]
    expected = [direct_nats(exported, text)[0] for text in texts]
    assert score_texts(lm, texts) == pytest.approx(expected, abs=1e-3)


def test_a_text_longer_than_the_context_counts_every_token_once(lm):
    long = " ".join(held_out_texts("en")[:20])
    ids = lm.tok_encode(long, add_special_tokens=False)
    assert len(ids) > 3 * lm.max_length
    # An untrained model gives every token about the same, so a window counted twice or left out would show.
    short = held_out_texts("en")[0]
    per_token = score_texts(lm, [short])[0] / len(lm.tok_encode(short, add_special_tokens=False))
    assert score_texts(lm, [long])[0] / len(ids) == pytest.approx(per_token, rel=0.05)
