import pytest

from polylm.tasks.evaluation.languages import EvaluationError
from polylm.tasks.evaluation.likelihood import (
    CONNECTORS,
    MMLU_LANGUAGES,
    Item,
    load_model,
    mmlu_items,
    score_choices,
    understanding,
    xcopa_items,
)


def test_a_thai_premise_keeps_its_last_character():
    item = xcopa_items("th")[0]
    assert item.prompt.startswith("ผู้ชายเปิดก๊อกน")
    assert item.prompt.removesuffix("ดังนั้น")[-1] == "า"


def test_choices_go_on_with_the_sentence():
    item = xcopa_items("id")[0]
    assert item.prompt == "Lelaki itu telah menyalakan keran maka"
    assert item.choices == ("toilet itu telah terisi dengan air.", "air telah mengalir dari cerat keran tersebut.")
    assert (item.answer, item.delimiter) == (1, " ")


def test_turkish_capitals_become_turkish_small_letters():
    starts = {choice[0] for item in xcopa_items("tr") for choice in item.choices}
    assert "i" in starts
    assert not any(letter.isupper() for letter in starts)


def test_every_xcopa_language_has_100_questions_of_two_choices():
    for code in CONNECTORS:
        items = xcopa_items(code)
        assert len(items) == 100
        assert {len(item.choices) for item in items} == {2}


def test_the_wheel_has_285_questions_a_language_and_subjects_take_turns():
    for code in MMLU_LANGUAGES:
        items = mmlu_items(code)
        assert len(items) == 285
        assert all(len(item.choices) == 4 and 0 <= item.answer < 4 for item in items)
    german = mmlu_items("de")
    assert len({item.prompt for item in german[:57]}) == 57


def direct_score(exported, item, choice):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(exported)
    context = tokenizer(item.prompt)["input_ids"]
    whole = torch.tensor(tokenizer(item.prompt + item.delimiter + choice)["input_ids"])
    with torch.no_grad():
        scores = AutoModelForCausalLM.from_pretrained(exported)(whole[None]).logits[0, :-1].log_softmax(-1)
    of_choice = scores.gather(1, whole[1:, None])[len(context) - 1 :]
    return float(of_choice.sum()), len(of_choice)


@pytest.mark.parametrize("code", ["it", "zh", "vi"])
def test_log_likelihoods_equal_a_plain_forward_pass(lm, exported, code):
    items = xcopa_items(code)[:2]
    scores = score_choices(lm, {"task": items})["task"]
    for item, found in zip(items, scores, strict=True):
        for choice, (nats, tokens) in zip(item.choices, found, strict=True):
            expected, count = direct_score(exported, item, choice)
            assert nats == pytest.approx(expected, abs=1e-4)
            assert tokens == count


def test_normalising_by_tokens_favours_neither_long_nor_short(lm):
    # A repeated word has the same likelihood per token at any length under a model that knows nothing.
    item = Item("In the beginning", ("freedom", "freedom " * 20), 0, " ")
    (choices,) = score_choices(lm, {"task": [item]})["task"]
    (short, few), (long, many) = choices
    assert long < 5 * short
    assert long / many == pytest.approx(short / few, rel=0.3)


def test_accuracy_comes_with_chance_error_and_count(lm):
    rows = understanding(lm, "base", 5)
    assert [row["language"] for row in rows] == [*CONNECTORS, "mean"] * 2
    assert {row["metric"] for row in rows} == {"acc", "acc_norm"}
    first = rows[0]
    assert (first["n"], first["chance"]) == (5, 0.5)
    error = (first["value"] * (1 - first["value"]) / 4) ** 0.5
    assert first["stderr"] == (pytest.approx(error) if error else None)
    assert "5 of 100 questions a language" in first["note"]
    assert rows[6]["n"] == 30


def test_a_folder_that_is_no_export_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match=r"no config.json in it; expected a folder that the export stage wrote"):
        load_model(tmp_path)
