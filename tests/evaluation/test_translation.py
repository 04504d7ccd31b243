import pytest

from polylm.tasks.evaluation.languages import LANGUAGES, EvaluationError
from polylm.tasks.evaluation.translation import (
    Effort,
    count_cut,
    find_directions,
    generate,
    prompt_of,
    score_direction,
    translate,
)


def scores(direction, hypotheses):
    return {row["metric"]: row for row in score_direction("m", direction, hypotheses, 100, "how")}


@pytest.mark.parametrize("code", [code for code in LANGUAGES if code != "en"])
def test_the_reference_itself_scores_100_in_every_language(code):
    (direction,) = find_directions([f"en-{code}"], 3)
    found = scores(direction, direction.references)
    assert found["BLEU"]["value"] == pytest.approx(100)
    assert found["chrF++"]["value"] == pytest.approx(100)
    assert found["BLEU"]["stderr"] is None  # all resamples are alike


@pytest.mark.parametrize(("code", "cut"), [("zh", "zh"), ("ja", "ja-mecab"), ("ko", "ko-mecab"), ("th", "char")])
def test_unspaced_scripts_are_cut_so_that_half_a_translation_scores(code, cut):
    (direction,) = find_directions([f"en-{code}"], 6)
    half = [text[: len(text) * 3 // 4] for text in direction.references]
    row = scores(direction, half)["BLEU"]
    assert f"tok:{cut}" in row["note"]
    assert 20 < row["value"] < 90  # with 13a, three quarters of a Chinese sentence are one wrong word


def test_chance_is_what_copying_the_source_gets():
    (direction,) = find_directions(["es-pt"], 10)
    row = scores(direction, direction.texts)["chrF++"]
    assert row["value"] == row["chance"] > 20


def test_the_example_is_not_among_the_questions():
    for direction in find_directions(["en-de", "th-en"], 1_000):
        assert len(direction.texts) == 47
        assert direction.example[0] not in direction.texts


def test_prompts_are_the_papers():
    (direction,) = find_directions(["en-de"], 2)
    request = "Translate this sentence from English to German."
    source, target = direction.example
    assert prompt_of(direction, "A.", chat=False) == f"{source}\n{request}\n{target}\nA.\n{request}\n"
    assert prompt_of(direction, "A.", chat=True) == f"<|user|>\nA.\n{request}\n<|assistant|>\n"


@pytest.mark.parametrize("name", ["en", "en-en", "en-xx"])
def test_a_direction_that_is_none_is_refused(name):
    with pytest.raises(EvaluationError, match=r"expected two languages such as en-de|evaluation texts exist for"):
        find_directions([name], 2)


def test_greedy_text_equals_plain_generation_and_stops_where_told(lm, exported):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(exported), AutoModelForCausalLM.from_pretrained(exported)
    prompt = "All human beings"
    ids = tokenizer(prompt, return_tensors="pt")
    plain = tokenizer.decode(model.generate(**ids, max_new_tokens=12)[0][ids["input_ids"].shape[1] :])
    (whole,) = generate(lm, [prompt], [], 12)
    assert whole == plain.split("</s>")[0]
    stop = whole[len(whole) // 2 :][:2]
    assert generate(lm, [prompt], [stop], 12) == [whole.split(stop)[0]]


def test_batches_do_not_change_the_text(lm):
    prompts = ["All", "All human beings are born free", "Everyone has the right to life, liberty and security"]
    assert generate(lm, prompts, [], 8) == [generate(lm, [prompt], [], 8)[0] for prompt in prompts]


def test_prompts_that_are_cut_are_counted_and_said(lm):
    assert count_cut(lm, ["short", "word " * 400], 16) == 1
    effort = Effort(paragraphs=2, max_new_tokens=100, resamples=10)
    rows = translate(lm, "base", find_directions(["th-en", "en-th"], 2), effort, chat=False)
    assert all("prompts cut on the left" in row["note"] for row in rows if "mean" not in row["language"])
    assert {row["language"] for row in rows} == {"th-en", "en-th", "mean xx-en", "mean en-xx"}


def test_more_new_tokens_than_context_is_refused(lm):
    with pytest.raises(EvaluationError, match=r"max_new_tokens 192: the model's context is only 192"):
        generate(lm, ["a"], [], 192)
