"""Two texts word by word: what both have, what only one has."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

SHOWN_SAME = 160  # characters of a stretch that both have, at each of its ends
MOST_TOKENS = 3_000  # of a text that are compared: the price of a comparison goes as their square at worst
# A word, or one character of a script without spaces, or anything else alone; white space stands for itself.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"\s+|[{_UNSPACED}]|[^\W{_UNSPACED}]+|.", re.S)


@dataclass(frozen=True)
class Stretch:
    """A stretch of one text that is the same in the other, or only here; `left_out`: characters of its middle that are not shown."""

    text: str
    kind: Literal["same", "only"]
    left_out: int = 0
    end: str = ""


@dataclass(frozen=True)
class Diff:
    """Two texts side by side; `cut` where only their beginnings were compared."""

    left: list[Stretch]
    right: list[Stretch]
    cut: bool


def word_diff(left: str, right: str) -> Diff:
    """Compare two texts by words."""
    a, b = _TOKEN.findall(left), _TOKEN.findall(right)
    cut = max(len(a), len(b)) > MOST_TOKENS
    a, b = a[:MOST_TOKENS], b[:MOST_TOKENS]
    steps = SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    same = [tag == "equal" for tag, *_ in steps]
    return Diff(
        _stretches(a, [(one, two) for _, one, two, _, _ in steps], same),
        _stretches(b, [(one, two) for _, _, _, one, two in steps], same),
        cut,
    )


def _stretches(tokens: Sequence[str], spans: Sequence[tuple[int, int]], same: Sequence[bool]) -> list[Stretch]:
    return [
        _shortened("".join(tokens[begin:end])) if equal else Stretch("".join(tokens[begin:end]), "only")
        for (begin, end), equal in zip(spans, same, strict=True)
        if begin < end
    ]


def _shortened(text: str) -> Stretch:
    """What both texts have, without the middle of a long stretch."""
    left_out = len(text) - 2 * SHOWN_SAME
    if left_out <= SHOWN_SAME:
        return Stretch(text, "same")
    return Stretch(text[:SHOWN_SAME], "same", left_out, text[-SHOWN_SAME:])
