"""Decide which generated tasks are kept: the gates of MultiAlpaca, and those that its released data shows it lacked.

The paper (section 4, appendix A.2) drops tasks with web links, tasks whose input repeats the instruction, and instructions
whose ROUGE-L to a kept one is 0.7 or more. Of its released Spanish, Portuguese and Japanese rows, 113 have the output `None`,
395 an input such as `[...]`, 43 an output equal to the input, and hundreds are in another language: each is a gate here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import regex

from polylm.kernels.rouge import CHARACTER_LANGUAGES, RougePool, rouge_l, rouge_tokens
from polylm.tasks.instructions.prompts import MAX_INPUT_WORDS, MAX_OUTPUT_WORDS, Task

MAX_SIMILARITY = 0.7  # ROUGE-L F of an instruction to any kept one must be below (PolyLM 4; Alpaca rejects only above)
MAX_INPUT_OVERLAP = 0.5  # ROUGE-L F of instruction and input must not be above (PolyLM A.2)
MAX_INPUT_OVERLAP_OF = {"ko": 0.3, "vi": 0.3, "ar": 0.2}  # (PolyLM A.2)

Identify = Callable[[str], tuple[str, float]]
"""A language identifier: text -> (language code, confidence in [0, 1]), its labels mapped to the codes used here."""

REASONS = (
    "web_link",
    "prompt_marker",
    "placeholder",
    "empty_output",
    "output_is_input",
    "input_repeats_instruction",
    "instruction_too_short",
    "instruction_too_long",
    "input_too_long",
    "output_too_long",
    "instruction_in_other_language",
    "output_in_other_language",
    "similar_to_kept",
    "similar_to_peer",
)
"""Every reason of this module, in the order in which the gates are asked."""


@dataclass(frozen=True)
class Limits:
    """Thresholds of the gates. Words are counted as ROUGE-L tokens; see `_TOKENS_PER_WORD` for scripts without spaces."""

    max_similarity: float = MAX_SIMILARITY
    max_input_overlap: float = MAX_INPUT_OVERLAP
    min_instruction_words: int = 3  # ours: Alpaca asks for more than 3, which loses good Turkish and Korean ones
    max_instruction_words: int = 150  # Stanford Alpaca
    max_input_words: int = MAX_INPUT_WORDS
    max_output_words: int = MAX_OUTPUT_WORDS
    min_letters: int = 20  # shorter text is not judged by language; half of it in scripts without spaces
    min_confidence: float = 0.5  # a language named with less confidence is not held against a task

    @classmethod
    def of(cls, language: str) -> "Limits":
        """The paper's limits for one language."""
        return cls(max_input_overlap=MAX_INPUT_OVERLAP_OF.get(language, MAX_INPUT_OVERLAP))


@dataclass(frozen=True)
class Verdict:
    """A task as it would be kept, and why it is not (None if it is); `evidence` says what was found."""

    task: Task
    rejected_because: str | None = None
    evidence: str = ""


class KeptInstructions:
    """The instructions of one language that were kept so far, to which every new one is compared."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._pool = RougePool()
        self._tasks: list[Task] = []
        for task in tasks:
            self.add(task)

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Task) -> None:
        """Keep one more; a ValueError if its instruction has no letter or digit."""
        self._pool.add(rouge_tokens(task.instruction, task.language))
        self._tasks.append(task)

    def nearest(self, task: Task, *, at_least: float = 0.0) -> tuple[Task, float, int] | None:
        """The kept task with the most similar instruction, its ROUGE-L F, and its place; None below `at_least`."""
        match = self._pool.nearest(rouge_tokens(task.instruction, task.language), at_least=at_least)
        return None if match is None else (self._tasks[match.place], match.similarity, match.place)


def judge(task: Task, identify: Identify, limits: Limits | None = None) -> Verdict:
    """Ask all gates that look at the task alone, in the order of `REASONS`; the first that objects gives the reason.

    An input that stands in the instruction word for word is removed, as the paper does; so is one that only says "none".
    """
    limits = limits or Limits.of(task.language)
    task = replace(task, input="" if _NOTHING.fullmatch(task.input) else task.input)
    reason = _why_not_a_task(task)
    if reason:
        return Verdict(task, reason)
    if task.input.casefold() in task.instruction.casefold():
        task = replace(task, input="")
    for gate in (_overlap, _length):
        reason, evidence = gate(task, limits)
        if reason:
            return Verdict(task, reason, evidence)
    reason, evidence = _language(task, limits, identify)
    return Verdict(task, reason, evidence)


def judge_similarity(task: Task, kept: KeptInstructions, max_similarity: float, *, first_peer: int) -> Verdict:
    """Reject an instruction that is too similar to a kept one; those from place `first_peer` on are of the same round."""
    found = kept.nearest(task, at_least=max_similarity)
    if found is None:
        return Verdict(task)
    near, similarity, place = found
    reason = "similar_to_kept" if place < first_peer else "similar_to_peer"
    return Verdict(task, reason, f"{similarity:.4f} to {near.id}")


_LINK = regex.compile(r"https?://|\bwww\.\w|\b[a-z0-9-]+\.(?:com|org|net|io|edu|gov)\b", regex.IGNORECASE)
_MARKER = regex.compile(
    r"###|<noinput>|^[ \t]*\d+[ \t]*[.)][ \t]*(?:instruction|input|output)[ \t]*:", regex.IGNORECASE | regex.MULTILINE
)
_PLACEHOLDER = regex.compile(
    r"\[\p{L}[\p{L}\p{M} '’_/-]{2,40}\]|\[(?:\.{3}|…)\]|_{3,}|\bX{3,}\b|<(?:insert|your|enter)\b[^>]*>|"
    r"\{(?:insert|your|enter|name)\b[^}]*\}",
    regex.IGNORECASE,
)
_EMPTY = regex.compile(r"""[\s.…"'*_–—-]*(?:none|null|nil|undefined|n/?a)?[\s.…"'*_–—-]*""", regex.IGNORECASE)
_NOTHING = regex.compile(
    r"\W*(?:no ?input|none|null|n/?a|なし|無し|无|無|없음|нет|ninguna?|nenhuma?|aucune?|keine?|nessuno|لا يوجد|ไม่มี|"
    r"không có|tidak ada|brak|geen|yok|אין)\W*",
    regex.IGNORECASE,
)

_TOKENS_PER_WORD = {"ko": 3.0, "th": 4.0, "my": 4.0, "km": 4.0, "lo": 4.0}
"""Grapheme clusters in a word, roughly and on the generous side; 2 for the other languages compared by character."""

_TRANSLATE = regex.compile(
    r"translat|翻译|翻譯|译成|traduc|traduz|tradui|tradur|übersetz|перев[её]д|перевод|перевест|ترجم|翻訳|訳して|번역|แปล|"
    r"dịch|terjemah|przetłumacz|tłumacz|vertaal|çevir|תרגם|תרגמ|תרגום",
    regex.IGNORECASE,
)
"""Words by which the paper's 18 languages ask for a translation, whose answer is rightly in another language."""

_OWN_SCRIPT = {"ja": regex.compile(r"[\p{Hiragana}\p{Katakana}]"), "ko": regex.compile(r"\p{Hangul}")}
"""What text in a language cannot be without: lid.176 calls some short Chinese Japanese or Korean, with confidence above 0.9."""

_CODE = regex.compile(r"```.*?(?:```|\Z)", regex.DOTALL)
_LETTER = regex.compile(r"\p{L}")


def _why_not_a_task(task: Task) -> str | None:
    fields = (task.instruction, task.input, task.output)
    if any(_LINK.search(field) for field in fields):
        return "web_link"
    if any(_MARKER.search(field) for field in fields):
        return "prompt_marker"
    if any(_PLACEHOLDER.search(field) for field in fields):
        return "placeholder"
    if _EMPTY.fullmatch(task.output):
        return "empty_output"
    if task.output.casefold() == task.input.casefold():
        return "output_is_input"
    return None


def _overlap(task: Task, limits: Limits) -> tuple[str | None, str]:
    instruction = rouge_tokens(task.instruction, task.language)
    given = rouge_tokens(task.input, task.language)
    # An input of signs alone (a formula, emoji) repeats nothing; an instruction of signs alone is too short, below.
    if not instruction or not given:
        return None, ""
    overlap = rouge_l(instruction, given)
    return ("input_repeats_instruction" if overlap > limits.max_input_overlap else None), f"{overlap:.4f}"


def _length(task: Task, limits: Limits) -> tuple[str | None, str]:
    instruction = _words(task.instruction, task.language)
    if instruction < limits.min_instruction_words:
        return "instruction_too_short", f"{instruction:g} words"
    for name, text, most in (
        ("instruction", task.instruction, limits.max_instruction_words),
        ("input", task.input, limits.max_input_words),
        ("output", task.output, limits.max_output_words),
    ):
        words = _words(text, task.language)
        if words > most:
            return f"{name}_too_long", f"{words:g} words"
    return None, ""


def _words(text: str, language: str) -> float:
    tokens = len(rouge_tokens(text, language))
    return tokens / _TOKENS_PER_WORD.get(language, 2.0) if language in CHARACTER_LANGUAGES else float(tokens)


def _language(task: Task, limits: Limits, identify: Identify) -> tuple[str | None, str]:
    found = _other_language(task.instruction, task.language, limits, identify)
    if found:
        return "instruction_in_other_language", found
    if _TRANSLATE.search(task.instruction):
        return None, ""
    found = _other_language(task.output, task.language, limits, identify)
    return ("output_in_other_language" if found else None), found


def _other_language(text: str, language: str, limits: Limits, identify: Identify) -> str:
    """The other language that the text surely is in, with its confidence; "" if it is right, unsure or too short."""
    prose = " ".join(_CODE.sub(" ", text).split())
    enough = limits.min_letters / 2 if language in CHARACTER_LANGUAGES else limits.min_letters
    if len(_LETTER.findall(prose)) < enough:
        return ""
    label, confidence = identify(prose)
    believed = label not in _OWN_SCRIPT or _OWN_SCRIPT[label].search(prose)
    sure = confidence >= limits.min_confidence and believed
    return f"{label} {confidence:.4f}" if label != language and sure else ""
