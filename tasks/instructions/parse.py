"""Split a model's answer into tasks: the format check of MultiAlpaca (PolyLM section 4, appendix A.2)."""

from dataclasses import dataclass
from itertools import pairwise

import regex

FIELDS = ("instruction", "input", "output")

# A number, bold marks and letter case are forgiven: models vary them, and the order of the fields is what carries meaning.
_FIELD = regex.compile(
    r"^[ \t*#]*(?:\d+[ \t]*[.)][ \t]*)?[*_]*(Instruction|Input|Output)[*_]*[ \t]*:[*_]*[ \t]*",
    regex.MULTILINE | regex.IGNORECASE,
)
_SEPARATOR = regex.compile(r"^[ \t]*#{3,}[ \t]*$", regex.MULTILINE)
_NO_INPUT = regex.compile(r"[<(\[]?[ \t]*no[ _-]?input[ \t]*[>)\]]?[.。]?", regex.IGNORECASE)


@dataclass(frozen=True)
class Candidate:
    """A block of an answer: the fields that were found, and why it is no task (None if it is one)."""

    instruction: str
    input: str
    output: str
    text: str
    rejected_because: str | None = None


def split_tasks(answer: str, *, finish_reason: str = "stop") -> list[Candidate]:
    """The blocks of an answer in order, each a task or a reason.

    Reasons: `cut_by_length` (the last block of an answer that the server ended at its token limit), `no_task` (the answer
    has no block at all), `repeated_field`, `missing_instruction`, `missing_input`, `missing_output`. What stands before the first
    block is a preamble, not a task.
    """
    blocks = _blocks(answer)
    if not blocks:
        return [Candidate("", "", "", answer, "no_task")]
    candidates = [_candidate(block) for block in blocks]
    if finish_reason == "length":
        last = candidates[-1]
        candidates[-1] = Candidate(last.instruction, last.input, last.output, last.text, "cut_by_length")
    return candidates


def _blocks(answer: str) -> list[str]:
    """Cut before every instruction and at every separator line; keep the pieces that have at least one field."""
    marks = list(_FIELD.finditer(answer))
    cuts = {mark.start() for mark in marks if mark[1].lower() == "instruction"}
    cuts |= {separator.end() for separator in _SEPARATOR.finditer(answer)}
    edges = [0, *sorted(cuts), len(answer)]
    pieces = [_SEPARATOR.sub("", answer[start:end]).strip() for start, end in pairwise(edges)]
    return [piece for piece in pieces if _FIELD.search(piece)]


def _candidate(block: str) -> Candidate:
    marks = list(_FIELD.finditer(block))
    ends = [mark.start() for mark in marks[1:]] + [len(block)]
    names = [mark[1].lower() for mark in marks]
    values = [block[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]
    fields = dict(zip(names, values, strict=True))
    reason = _why_malformed(names, fields)
    given = fields.get("input", "")
    return Candidate(
        instruction=fields.get("instruction", ""),
        input="" if _NO_INPUT.fullmatch(given) else given,
        output=fields.get("output", ""),
        text=block,
        rejected_because=reason,
    )


def _why_malformed(names: list[str], fields: dict[str, str]) -> str | None:
    if len(names) > len(fields):
        return "repeated_field"
    for field in FIELDS:
        if field not in fields:
            return f"missing_{field}"
    if not fields["instruction"]:
        return "missing_instruction"
    # An empty input means none, as in Alpaca's parser; an empty output is the judge's to reject.
    return None
