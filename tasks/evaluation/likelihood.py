"""Understanding and knowledge: the choice to which the model gives most likelihood, asked through lm-eval's own HFLM.

As the paper does (5.1): each choice fills the prompt, and the choice with the highest log-likelihood per token wins.
Everything is read from the exported folder, the committed data and lm-eval's wheel; nothing from the network.
"""

import io
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polylm.tasks.evaluation.errors import mean_and_deviations, with_error
from polylm.tasks.evaluation.languages import EvaluationError, read_rows, spread
from polylm.tasks.evaluation.table import average

# "because" and "therefore" in the languages of XCOPA that the paper trains on.
CONNECTORS = {
    "id": ("karena", "maka"),
    "it": ("perché", "quindi"),
    "th": ("เพราะ", "ดังนั้น"),
    "tr": ("çünkü", "bu yüzden"),
    "vi": ("bởi vì", "vì vậy"),
    "zh": ("因为", "所以"),
}
MMLU_LANGUAGES = ("de", "es", "fr", "it", "pt", "th")
_TURKISH_SMALL = {"I": "ı", "İ": "i"}
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


Choices = Sequence[tuple[float, int]]
"""Of each choice of one item: its log-likelihood in nats and its number of tokens."""


@dataclass(frozen=True)
class Item:
    """One question: `prompt + delimiter + choice` is scored for every choice; only the choice's tokens count."""

    prompt: str
    choices: tuple[str, ...]
    answer: int
    delimiter: str


def understanding(lm: Any, model: str, limit: int) -> list[dict[str, Any]]:
    """Accuracy on XCOPA's validation split, `limit` questions a language: which of two is the cause, or the effect."""
    return _accuracies(lm, model, "understanding", "XCOPA", {code: xcopa_items(code) for code in CONNECTORS}, limit)


def knowledge(lm: Any, model: str, limit: int) -> list[dict[str, Any]]:
    """Accuracy on the MMLU questions inside lm-eval's wheel, `limit` questions a language, each answer written out."""
    return _accuracies(lm, model, "knowledge", "MMLU", {code: mmlu_items(code) for code in MMLU_LANGUAGES}, limit)


def load_model(folder: Path, *, batch: int = 16) -> Any:
    """An exported folder as lm-eval's `HFLM`, on the GPU if there is one; contexts start with the separator.

    Costs about 5 s of imports. Raises EvaluationError where the folder is no export.
    """
    if not (folder / "config.json").is_file():
        raise EvaluationError(f"{folder}: no config.json in it; expected a folder that the export stage wrote")
    _stay_offline()
    import torch  # 5 s with lm_eval and transformers: only where a model is really loaded
    from lm_eval.models.huggingface import HFLM
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    disable_progress_bar()
    set_verbosity_error()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # The model was trained with the separator before each document; without it the first token has no context.
    return HFLM(pretrained=str(folder), device=device, dtype="float32", batch_size=batch, add_bos_token=True)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep lm-eval's progress bars, of which some cannot be switched off, out of the log; exceptions pass."""
    with redirect_stderr(io.StringIO()):
        yield


def xcopa_items(language: str) -> list[Item]:
    """XCOPA in the paper's prompt, `[Prefix] {because/therefore} {choice}`.

    Unlike lm-eval's own task, which cuts the last character of every premise, only a full stop is cut: Thai has none.
    """
    because, therefore = CONNECTORS[language]
    spaced = language not in ("th", "zh")
    space = " " if spaced else ""

    def item(row: Mapping[str, Any]) -> Item:
        connector = because if row["question"] == "cause" else therefore
        premise = row["premise"].strip().rstrip(".。")
        choices = tuple(_start_small(row[name].strip(), language) for name in ("choice1", "choice2"))
        return Item(f"{premise}{space}{connector}", choices, row["label"], space)

    return [item(row) for row in read_rows("xcopa.jsonl.gz") if row["language"] == language]


def mmlu_items(language: str) -> list[Item]:
    """The 285 MMLU questions (57 subjects, 5 each) that lm-eval's wheel holds as few-shot samples of a language.

    Read from the installed wheel, so no copy of them is in this repository; subjects take turns, so that the first
    57 questions are of 57 subjects.
    """
    import lm_eval  # costs seconds

    name = f"mmlu_{language}"
    folder = Path(lm_eval.__file__).parent / "tasks" / "llama3" / "instruct" / name
    subjects = [_read_samples(path) for path in sorted(folder.glob(f"{name}_*.yaml"))]
    if not subjects:
        raise EvaluationError(f"{folder}: no MMLU samples; they are in lm-eval 0.4.13, install that version")
    turns = [samples[turn] for turn in range(max(map(len, subjects))) for samples in subjects if turn < len(samples)]
    return [_mmlu_item(sample) for sample in turns]


def _mmlu_item(sample: Mapping[str, Any]) -> Item:
    letters = sorted(sample["input_choice_list"])
    choices = tuple(str(sample["input_choice_list"][letter]).strip() for letter in letters)
    return Item(sample["input_question"].strip(), choices, letters.index(sample["input_correct_responses"][0]), "\n")


def _read_samples(path: Path) -> list[dict[str, Any]]:
    import yaml  # type: ignore[import-untyped]  # comes with lm-eval

    class Loader(yaml.CSafeLoader):  # type: ignore[misc]
        """Reads plain values; a tag such as `!function` becomes null instead of code that runs."""

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    config = yaml.load(path.read_text(encoding="utf-8"), Loader)  # a subclass of the safe loader
    samples: list[dict[str, Any]] = config["fewshot_config"]["samples"]
    return samples


def _accuracies(
    lm: Any, model: str, category: str, task: str, questions: Mapping[str, Sequence[Item]], limit: int
) -> list[dict[str, Any]]:
    """Rows of EVALUATION; the questions of all languages are in one order, so a place is an item in all of them."""
    asked = {code: spread(list(enumerate(of_language)), limit) for code, of_language in questions.items()}
    fitting = {code: [(place, item) for place, item in some if _fits(lm, item)] for code, some in asked.items()}
    if empty := [code for code, some in fitting.items() if not some]:
        raise EvaluationError(f"{task} in {', '.join(empty)}: no choice fits a context of {lm.max_length} tokens")
    scores = score_choices(lm, {f"{task.lower()}_{code}": [item for _, item in some] for code, some in fitting.items()})
    rows: list[dict[str, Any]] = []
    for metric, (note, judge) in _METRICS.items():
        by_language = [
            {"model": model, "category": category, "task": task, "language": code, "metric": metric}
            | {"note": note + _how_many(len(questions[code]), len(asked[code]), len(fitting[code]))}
            | _share_right(fitting[code], [judge(choices) for choices in of_items])
            for code, of_items in zip(fitting, scores.values(), strict=True)
        ]
        rows += [*by_language, average(by_language)]
    return rows


def _fits(lm: Any, item: Item) -> bool:
    """Whether every choice leaves room for the separator; a long prompt is cut on its left, a choice cannot be."""
    return all(len(lm.tok_encode(item.delimiter + choice)) < lm.max_length for choice in item.choices)


def _how_many(there: int, asked: int, fitting: int) -> str:
    part = f"; {asked} of {there} questions a language" if asked < there else ""
    return part + (f"; {asked - fitting} left out, longer than the context" if fitting < asked else "")


def _share_right(items: Sequence[tuple[int, Item]], guesses: Sequence[int]) -> dict[str, Any]:
    right = [float(guess == item.answer) for (_, item), guess in zip(items, guesses, strict=True)]
    share, deviations = mean_and_deviations(right, [place for place, _ in items])
    chance = sum(1 / len(item.choices) for _, item in items) / len(items)
    return {"value": share, "chance": chance, "n": len(items)} | with_error(deviations)


def _likeliest(choices: Choices) -> int:
    return max(range(len(choices)), key=lambda place: choices[place][0])


def _likeliest_per_token(choices: Choices) -> int:
    return max(range(len(choices)), key=lambda place: choices[place][0] / choices[place][1])


_METRICS: dict[str, tuple[str, Callable[[Choices], int]]] = {
    "acc": ("zero-shot, highest log-likelihood", _likeliest),
    "acc_norm": ("zero-shot, highest log-likelihood per token, as in the paper", _likeliest_per_token),
}


def score_choices(lm: Any, tasks: Mapping[str, Sequence[Item]]) -> dict[str, list[Choices]]:
    """Log-likelihood in nats and number of tokens of every choice of every item, by lm-eval's evaluator.

    lm-eval's `acc_norm` divides by characters, the paper's by tokens: the sums are lm-eval's, the division is ours.
    """
    _stay_offline()
    from lm_eval.evaluator import evaluate  # costs seconds

    with no_progress_bars():
        results = evaluate(lm, {name: _task(name, items) for name, items in tasks.items()}, bootstrap_iters=0)
    scores: dict[str, list[Choices]] = {}
    for name in tasks:
        samples = sorted(results["samples"][name], key=lambda sample: sample["doc_id"])
        scores[name] = [
            [
                (float(response[0]), len(lm._encode_pair(*request)[1]))
                for request, response in zip(sample["arguments"], sample["filtered_resps"], strict=True)
            ]
            for sample in samples
        ]
    return scores


def _task(name: str, items: Sequence[Item]) -> Any:
    import datasets  # type: ignore[import-untyped]  # costs seconds
    from lm_eval.api.task import ConfigurableTask

    rows = [{"prompt": item.prompt, "choices": list(item.choices), "answer": item.answer} for item in items]

    def in_memory(**ignored: Any) -> dict[str, Any]:
        # From a list, not from a JSON file: `datasets` would copy the file into its cache in the home folder.
        return {"test": datasets.Dataset.from_list(rows)}

    return ConfigurableTask(
        config={
            "task": name,
            "custom_dataset": in_memory,
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "prompt",
            "doc_to_choice": "choices",
            "doc_to_target": "answer",
            "target_delimiter": items[0].delimiter,
            "num_fewshot": 0,
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
    )


def _start_small(choice: str, language: str) -> str:
    """The choice as the rest of a sentence."""
    first = choice[:1]
    small = _TURKISH_SMALL.get(first) if language == "tr" else None
    return (small or first.lower()) + choice[1:]


def _stay_offline() -> None:
    """Tell the Hugging Face libraries, before they are imported, to ask nobody; and lm-eval to report errors only."""
    os.environ.update(_OFFLINE)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
