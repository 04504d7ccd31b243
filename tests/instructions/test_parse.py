"""Answers are split as the format says, and what does not fit keeps its text and gets a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polylm.tasks.instructions.parse import split_tasks

TWO = """\
Here are the tasks you asked for:
###
4. Instruction: Name a river.
4. Input:
<noinput>
4. Output:
The Vistula.
###
5. Instruction: Count the words.
Count them twice.
5. Input:
one two
5. Output:
Two.

Really two."""


def fields(answer, **kwargs):
    return [(one.instruction, one.input, one.output, one.rejected_because) for one in split_tasks(answer, **kwargs)]


def test_reads_numbered_blocks_and_leaves_the_preamble():
    assert fields(TWO) == [
        ("Name a river.", "", "The Vistula.", None),
        ("Count the words.\nCount them twice.", "one two", "Two.\n\nReally two.", None),
    ]


def test_drops_the_last_task_of_an_answer_that_was_cut():
    assert [one[3] for one in fields(TWO, finish_reason="length")] == [None, "cut_by_length"]


def test_an_answer_cut_before_its_first_output_has_only_a_cut_block():
    assert fields("###\n4. Instruction: Name a ri", finish_reason="length") == [("Name a ri", "", "", "cut_by_length")]


def test_forgives_bold_marks_letter_case_and_missing_numbers_and_lines():
    answer = "**Instruction:** Name a tree.\n**Input:** No input\n**Output:** A lime.\n\ninstruction: Name a bird\nINPUT:\nOutput: A rook."
    assert fields(answer) == [("Name a tree.", "", "A lime.", None), ("Name a bird", "", "A rook.", None)]


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("4. Instruction: Name a river.\n4. Output:\nThe Oder.", "missing_input"),
        ("4. Instruction: Name a river.\n4. Input:\n<noinput>", "missing_output"),
        ("###\n4. Input:\n<noinput>\n4. Output:\nThe Oder.", "missing_instruction"),
        ("4. Instruction:\n4. Input:\nx\n4. Output:\nThe Oder.", "missing_instruction"),
        ("4. Instruction: A\n4. Input:\nx\n4. Input:\ny\n4. Output:\nz", "repeated_field"),
    ],
)
def test_says_what_is_wrong_with_a_block(block, reason):
    assert [one[3] for one in fields(block)] == [reason]


def test_one_bad_block_spoils_no_other():
    answer = TWO.replace("4. Input:\n<noinput>\n", "")
    assert [one[3] for one in fields(answer)] == ["missing_input", None]


@pytest.mark.parametrize("answer", ["", "I am sorry, I cannot help with that.", "### \n###"])
def test_an_answer_without_any_block_is_one_rejection_with_its_text(answer):
    assert [(one.text, one.rejected_because) for one in split_tasks(answer)] == [(answer, "no_task")]


@given(st.text(), st.sampled_from(["stop", "length"]))
def test_any_text_is_read_without_an_exception(answer, finish_reason):
    assert split_tasks(answer, finish_reason=finish_reason)


@given(st.lists(st.sampled_from(["###", "4. Instruction: a", "Input:", "5. Output: b", "text", ""])))
def test_what_is_no_task_always_has_a_reason(lines):
    for one in split_tasks("\n".join(lines)):
        assert one.rejected_because or one.instruction
