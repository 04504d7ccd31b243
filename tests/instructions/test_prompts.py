"""The prompt asks what the paper asks, and the seeds are good enough to be shown in it."""

import dataclasses
from collections import Counter

import pytest

from polylm.tasks.instructions.judge import KeptInstructions, judge
from polylm.tasks.instructions.parse import split_tasks
from polylm.tasks.instructions.prompts import LANGUAGE_NAMES, Task, build_prompt, render_task

TASK = Task("t", "th", "ทำไมน้ำทะเลจึงมีรสเค็ม", "", "เพราะมีเกลือแร่สะสมอยู่")


def test_asks_for_seventeen_more_in_the_language_after_three_examples(seeds):
    examples = [task for task in seeds if task.language == "th"][:3]
    prompt = build_prompt("th", examples)
    assert "a set of 20 varied tasks in Thai" in prompt.text
    assert "The instructions should be in Thai." in prompt.text
    assert "Generate the following 17 tasks" in prompt.text
    assert [f"\n{number}. " in prompt.text for number in range(1, 10)] == [True] * 9
    assert (prompt.primer, prompt.stop) == ("###\n4. Instruction:", "\n21. Instruction:")
    assert prompt.example_ids == ("th-1", "th-2", "th-3")


def test_a_task_without_input_is_shown_with_its_mark():
    assert render_task(7, TASK).split("\n")[:4] == [
        "###",
        f"7. Instruction: {TASK.instruction}",
        "7. Input:",
        "<noinput>",
    ]


def test_the_hash_names_the_text(seeds):
    assert build_prompt("de", seeds[:3]).sha256 == build_prompt("de", seeds[:3]).sha256
    assert build_prompt("de", seeds[:3]).sha256 != build_prompt("de", seeds[1:4]).sha256


def test_another_language_needs_its_english_name():
    with pytest.raises(ValueError, match=r"no English name known for language 'sw'; known: en zh .*; give `name`"):
        build_prompt("sw", [TASK])
    assert "tasks in Swahili" in build_prompt("sw", [TASK], name="Swahili").text


def test_there_are_four_seeds_in_each_of_the_papers_languages(seeds):
    assert Counter(task.language for task in seeds) == dict.fromkeys(LANGUAGE_NAMES, 4)
    assert len({task.id for task in seeds}) == len(seeds)
    assert all(task.instruction and task.output for task in seeds)


def test_half_of_the_seeds_have_an_input(seeds):
    assert {
        language: sum(bool(task.input) for task in seeds if task.language == language) for language in LANGUAGE_NAMES
    } == (dict.fromkeys(LANGUAGE_NAMES, 2))


def test_seeds_pass_every_gate_that_generated_tasks_pass(seeds):
    for task in seeds:
        verdict = judge(task, lambda _, language=task.language: (language, 1.0))
        assert (verdict.rejected_because, verdict.task) == (None, task), task.id


def test_seeds_of_a_language_are_unlike_each_other(seeds):
    for task in seeds:
        others = [other for other in seeds if other.language == task.language and other.id != task.id]
        assert KeptInstructions(others).nearest(task, at_least=0.5) is None, task.id


def test_what_is_rendered_is_read_back(seeds):
    for language in LANGUAGE_NAMES:
        tasks = [task for task in seeds if task.language == language]
        answer = "\n".join(render_task(number, task) for number, task in enumerate(tasks, start=4))
        for task, found in zip(tasks, split_tasks(answer), strict=True):
            read = dataclasses.replace(task, instruction=found.instruction, input=found.input, output=found.output)
            assert (found.rejected_because, read) == (None, task)
