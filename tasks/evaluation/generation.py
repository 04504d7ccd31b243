"""Free continuation of held-out text: does the model stay in the language, and does it repeat itself?"""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from polylm.tasks.evaluation.errors import mean_and_deviations, with_error
from polylm.tasks.evaluation.languages import LANGUAGES, find_language, held_out_paragraphs, held_out_texts, spread
from polylm.tasks.evaluation.table import average
from polylm.tasks.evaluation.translation import generate

HUMAN = "human text"
GRAM = 4
MAX_PROMPT_CHARS = 80
_WORD = re.compile(r"\w+")

Identify = Callable[[str], str]
"""From a text to the code of its language."""


def continue_texts(
    lm: Any, model: str, identify: Identify, *, languages: Sequence[str], limit: int, max_new_tokens: int
) -> list[dict[str, Any]]:
    """Continue the beginnings of `limit` held-out paragraphs of each language, greedily; judge what comes.

    Both base and fine-tuned models continue plain text, so that the figures compare.
    """
    prompts = {code: [start for start, _ in beginnings(code, limit)] for code in languages}
    every = [prompt for of_language in prompts.values() for prompt in of_language]
    outputs = iter(generate(lm, every, ["\n"], max_new_tokens))
    return judge(model, identify, {code: [next(outputs) for _ in prompts[code]] for code in languages})


def judge_human(identify: Identify, languages: Sequence[str], limit: int) -> list[dict[str, Any]]:
    """The same figures for how the paragraphs really go on: what the identifier and the measure give at best."""
    return judge(HUMAN, identify, {code: [rest for _, rest in beginnings(code, limit)] for code in languages})


def beginnings(language: str, limit: int) -> list[tuple[str, str]]:
    """(beginning, rest) of `limit` paragraphs: two fifths of the text, at most 80 characters, cut between words."""
    return [_cut(text, find_language(language).spaced) for text in spread(held_out_texts(language), limit)]


def judge(model: str, identify: Identify, outputs: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Rows of EVALUATION: share of texts in the right language, and mean share of repeated 4-grams.

    `outputs` are what follows the `beginnings` of as many paragraphs. An empty text is in no language, and is left out of the repetition.
    """
    kept: list[dict[str, Any]] = []
    repeated: list[dict[str, Any]] = []
    for code, texts in outputs.items():
        places = [paragraph.place for paragraph in spread(held_out_paragraphs(code), len(texts))]
        right = [float(bool(text.strip()) and identify(text) == code) for text in texts]
        said = [place for place, text in zip(places, texts, strict=True) if text.strip()]
        shares = [repetition(text, find_language(code).spaced) for text in texts if text.strip()]
        where = {"model": model, "category": "generation", "task": "UDHR", "language": code}
        kept.append(
            where | {"metric": "language_kept", "chance": 1 / len(LANGUAGES), "note": _KEPT} | _mean(right, places)
        )
        if shares:
            about = {"metric": f"repeated_{GRAM}grams", "chance": None, "note": _REPEATED}
            repeated.append(where | about | _mean(shares, said))
    return [*kept, average(kept), *repeated, *([average(repeated)] if repeated else [])]


_KEPT = "share of continuations that fastText labels with the prompt's language; chance is one of 18"
_REPEATED = f"share of {GRAM}-grams of words (zh ja th: characters) seen before in the text; lower is better"


def repetition(text: str, spaced: bool) -> float:
    """1 - distinct 4-grams / 4-grams, over words, or characters where words are not spaced; 0 for under 4 units."""
    units = _WORD.findall(text) if spaced else [char for char in text if not char.isspace()]
    grams = [tuple(units[place : place + GRAM]) for place in range(len(units) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def load_identifier(path: Path) -> Identify:
    """A fastText language model (lid.176) as a function; its codes are the paper's."""
    import fasttext  # only where a model is really loaded

    model = fasttext.load_model(str(path))

    def identify(text: str) -> str:
        found = model.f.predict(text.replace("\n", " ") + "\n", 1, 0.0, "strict")
        return str(found[0][1]).removeprefix("__label__") if found else ""

    return identify


def _cut(text: str, spaced: bool) -> tuple[str, str]:
    size = min(MAX_PROMPT_CHARS, len(text) * 2 // 5)
    if spaced and " " in text[1:size]:
        size = text.rindex(" ", 1, size)
    return text[:size], text[size:]


def _mean(values: Sequence[float], places: Sequence[Hashable]) -> dict[str, Any]:
    mean, deviations = mean_and_deviations(values, places)
    return {"value": mean, "n": len(values)} | with_error(deviations)
