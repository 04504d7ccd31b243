"""The prompt of MultiAlpaca, and the tasks that it shows and asks for.

The paper (PolyLM, section 4 and table 6) asks a chat model, in English, for a set of 20 tasks in one language: three
examples are given, two of them seeds and one generated before, and 17 more are wanted in the same numbered form. Its nine
requirements are kept in meaning; the words are ours.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

EXAMPLE_SEEDS = 2  # seed tasks shown in a prompt (PolyLM 4: "2 seeds + 1 generated")
EXAMPLE_GENERATED = 1  # generated tasks shown in a prompt; seeds stand in while there are none
TASKS_ASKED = 17  # tasks asked for (PolyLM table 6), so that a full answer is a set of 20
FIRST_ROUND_PROMPTS = 10  # prompts of the first round of a language (PolyLM 4)
PROMPTS_PER_ROUND = 100  # prompts of every later round (PolyLM 4)
ROUNDS = 10  # rounds a language (PolyLM 4)
MAX_INPUT_WORDS = 100  # requirement 7 of table 6
MAX_OUTPUT_WORDS = 200  # requirement 9 of table 6
NO_INPUT = "<noinput>"  # the mark of a task without input (Stanford Alpaca's prompt, kept by PolyLM)
SEPARATOR = "###"  # the line between two tasks (Stanford Alpaca's prompt, kept by PolyLM)

LANGUAGE_NAMES = {
    "en": "English",
    "zh": "Chinese",
    "es": "Spanish",
    "fr": "French",
    "de": "German",
    "ru": "Russian",
    "pt": "Portuguese",
    "it": "Italian",
    "ar": "Arabic",
    "ja": "Japanese",
    "ko": "Korean",
    "th": "Thai",
    "vi": "Vietnamese",
    "id": "Indonesian",
    "pl": "Polish",
    "nl": "Dutch",
    "tr": "Turkish",
    "he": "Hebrew",
}
"""What a prompt calls the paper's 18 languages."""

_REQUIREMENTS = """\
Write a set of {total} varied tasks in {language}. Each task has an instruction, an input and an output, and will be used to \
teach a language model to follow instructions.

Requirements:
1. Begin the instructions with different verbs, and do not use the same verb twice if you can avoid it.
2. Mix the forms: some instructions are questions, others are requests.
3. Mix the kinds of work: open questions, classification, rewriting, extraction, explanation, planning and so on.
4. A model that only reads and writes text must be able to do every task: no images, no sound, no actions in the world.
5. The instructions should be in {language}.
6. An instruction is one or two sentences long.
7. The input gives the concrete material of the task. It is realistic, at most {max_input} words long, and never a placeholder.
8. Not every task needs an input. Where it needs none, write "{no_input}" as the input.
9. The output is a suitable and correct answer of fewer than {max_output} words.
"""


@dataclass(frozen=True)
class Task:
    """One instruction with its input ("" for none) and its answer, in one language."""

    id: str
    language: str
    instruction: str
    input: str
    output: str


@dataclass(frozen=True)
class Prompt:
    """What is sent to the model.

    `primer` is the beginning of the answer: a completion server gets it at the end of the text, so that the model goes on
    in the format, and ends at `stop`, the beginning of a task too many (as in Alpaca). A chat server gets neither.
    """

    text: str
    primer: str
    stop: str
    language: str
    example_ids: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """The prompt's identity in journals and provenance, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def build_prompt(language: str, examples: Sequence[Task], *, tasks_asked: int = TASKS_ASKED, name: str = "") -> Prompt:
    """The paper's prompt for one language, with numbered examples.

    Args:
        language: code, such as "th".
        examples: tasks to show, in the order of their numbers.
        tasks_asked: how many more tasks the model shall write.
        name: the language's English name, where `LANGUAGE_NAMES` has none.
    """
    spoken = name or _language_name(language)
    head = _REQUIREMENTS.format(
        total=len(examples) + tasks_asked,
        language=spoken,
        max_input=MAX_INPUT_WORDS,
        max_output=MAX_OUTPUT_WORDS,
        no_input=NO_INPUT,
    )
    shown = "\n".join(render_task(number, task) for number, task in enumerate(examples, start=1))
    following = "task that is" if tasks_asked == 1 else f"{tasks_asked} tasks that are"
    ask = f"Generate the following {following} similar to the examples above, in {spoken} and in the same format."
    first = len(examples) + 1
    return Prompt(
        text=f"{head}\n{shown}\n{SEPARATOR}\n\n{ask}\n",
        primer=f"{SEPARATOR}\n{first}. Instruction:",
        stop=f"\n{first + tasks_asked}. Instruction:",
        language=language,
        example_ids=tuple(task.id for task in examples),
    )


def render_task(number: int, task: Task) -> str:
    """One task in the fixed format that `parse.split_tasks` reads back."""
    return (
        f"{SEPARATOR}\n{number}. Instruction: {task.instruction}\n"
        f"{number}. Input:\n{task.input or NO_INPUT}\n{number}. Output:\n{task.output}"
    )


def read_seeds() -> list[Task]:
    """The project's own seed tasks, in the order of the file: four in each of the 18 languages."""
    lines = resources.files(__package__).joinpath("data", "seed_tasks.jsonl").read_text(encoding="utf-8").splitlines()
    return [Task(**json.loads(line)) for line in lines]


def _language_name(language: str) -> str:
    if language not in LANGUAGE_NAMES:
        known = " ".join(LANGUAGE_NAMES)
        raise ValueError(f"no English name known for language {language!r}; known: {known}; give `name` for another")
    return LANGUAGE_NAMES[language]
