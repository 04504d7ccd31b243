"""Each gate rejects the defect it is for, says so, and leaves good tasks alone."""

import pytest

from polylm.tasks.instructions.judge import REASONS, KeptInstructions, Limits, judge, judge_similarity
from polylm.tasks.instructions.prompts import Task


def task(
    instruction="Explain why the sky is blue to a child.",
    input="",
    output="Air scatters blue light most.",
    language="en",
):
    return Task("x", language, instruction, input, output)


def sure(language):
    return lambda text: (language, 0.99)


def reason(one, identify=None, **limits):
    return judge(one, identify or sure(one.language), Limits(**limits) if limits else None).rejected_because


LONG = " ".join(f"word{number}" for number in range(201))


@pytest.mark.parametrize(
    ("expected", "bad"),
    [
        ("web_link", task(output="See https://example.org for the reason.")),
        ("web_link", task(input="My shop is at shop-of-tea.com")),
        ("prompt_marker", task(output="Blue.\n12. Input: none")),
        ("prompt_marker", task(instruction="Name a colour of the sky ###")),
        ("placeholder", task(input="[insert text here]")),
        ("placeholder", task(input="Dear _____, thank you")),
        ("placeholder", task(output="Dear [Your Name], thank you")),
        ("placeholder", task(input="[...]")),
        ("empty_output", task(output="")),
        ("empty_output", task(output="None")),
        ("empty_output", task(output="N/A.")),
        ("empty_output", task(output="…")),
        ("output_is_input", task(input="Blue light", output="blue light")),
        ("input_repeats_instruction", task(input="Explain why the big sky is blue to a young child")),
        ("instruction_too_short", task(instruction="Explain this.")),
        ("instruction_too_short", task(instruction="?!")),
        ("instruction_too_long", task(instruction=LONG)),
        ("input_too_long", task(input=LONG)),
        ("output_too_long", task(output=LONG)),
    ],
)
def test_rejects(expected, bad):
    assert reason(bad) == expected
    assert expected in REASONS


@pytest.mark.parametrize(
    "good",
    [
        task(),
        task(input="3 + 4 = ?", output="7"),
        task(input="?!", output="A question and an exclamation mark."),
        task(instruction="What does the citation [1] refer to in this text?", output="To the first source, [1]."),
        task(instruction="Which emoji stands for rain?", output="🌧"),
        task(instruction="Which sign stands between 3 and 4?", output="<"),
        task(instruction="Is a tomato a fruit in botany?", output="No."),
        task(instruction="¿Por qué el cielo es azul?", output="Por la luz.", language="es"),
        task(instruction="空为什么是蓝的?", output="因为空气散射蓝光。", language="zh"),
    ],
)
def test_keeps(good):
    assert reason(good) is None


def test_the_first_gate_that_objects_gives_the_reason():
    assert reason(task(input="[insert text here]", output="None, see https://example.org")) == "web_link"


def test_an_input_that_stands_in_the_instruction_is_removed():
    verdict = judge(
        task(instruction="Translate into French: good morning", input="Good morning", output="Bonjour."), sure("en")
    )
    assert (verdict.task.input, verdict.rejected_because) == ("", None)


@pytest.mark.parametrize("nothing", ["N/A", "None.", "なし", "(no input)", "Нет", "ไม่มี"])
def test_an_input_that_says_there_is_none_is_removed(nothing):
    assert judge(task(input=nothing), sure("en")).task.input == ""


@pytest.mark.parametrize(
    ("language", "expected"), [("es", None), ("vi", "input_repeats_instruction"), ("ar", "input_repeats_instruction")]
)
def test_the_limit_of_repetition_is_the_papers_for_the_language(language, expected):
    one = task(instruction="a b c d e f", input="a b c u v w x", language=language)  # F = 6/13
    assert reason(one, sure(language)) == expected


def test_rejects_an_instruction_in_another_language(identify):
    german = task(instruction="Erkläre, warum der Himmel in der Nacht schwarz ist und die Sonne das nicht ändert.")
    verdict = judge(german, identify)
    assert verdict.rejected_because == "instruction_in_other_language"
    assert verdict.evidence.startswith("de ")


def test_rejects_an_output_in_another_language_unless_a_translation_was_asked_for(identify):
    german = "Der Himmel ist blau, weil die Luft das blaue Licht in alle Richtungen streut und das rote nicht."
    assert reason(task(output=german), identify) == "output_in_other_language"
    assert reason(task(instruction="Translate this sentence about the sky for me.", output=german), identify) is None


def test_short_text_unsure_labels_and_code_are_not_held_against_a_task():
    assert reason(task(instruction="Name a tall tree", output="Palme."), sure("de")) is None
    assert reason(task(), lambda text: ("de", 0.49)) is None
    code = "```\ndef add(left, right):\n    return left + right\n```"
    russian = task(instruction="Сложи числа.", output=code, language="ru")
    assert reason(russian, sure("en"), min_instruction_words=2) is None


def test_chinese_without_kana_or_hangul_is_not_called_japanese_or_korean():
    chinese = task("请判断下面这条顾客评价是好评还是差评", output="差评。顾客称赞包装但是商品破损。", language="zh")
    assert reason(chinese, sure("ja")) is None
    assert reason(chinese, sure("ko")) is None
    assert reason(chinese, sure("en")) == "instruction_in_other_language"


def test_an_instruction_at_the_limit_of_similarity_is_rejected_and_one_below_is_kept():
    kept = KeptInstructions([task(instruction="a b c d e f g x y z")])
    at_limit = judge_similarity(task(instruction="a b c d e f g k l m"), kept, 0.7, first_peer=1)
    assert (at_limit.rejected_because, at_limit.evidence) == ("similar_to_kept", "0.7000 to x")
    assert judge_similarity(task(instruction="a b c d e f u k l m"), kept, 0.7, first_peer=1).rejected_because is None


def test_similarity_to_a_peer_of_the_same_round_has_its_own_reason():
    kept = KeptInstructions([task(instruction="something else entirely")])
    kept.add(task(instruction="a b c d"))
    assert judge_similarity(task(instruction="a b c d"), kept, 0.7, first_peer=1).rejected_because == "similar_to_peer"
    assert judge_similarity(task(instruction="a b c d"), kept, 0.7, first_peer=2).rejected_because == "similar_to_kept"


@pytest.mark.parametrize("language", ["ja", "th", "ar", "ko", "zh", "he"])
def test_duplicates_are_found_in_every_script(language, seeds):
    of_language = [one for one in seeds if one.language == language]
    kept = KeptInstructions(of_language)
    assert judge_similarity(of_language[1], kept, 0.7, first_peer=9).evidence == f"1.0000 to {of_language[1].id}"
