"""Translation of the Universal Declaration of Human Rights, judged by sacrebleu with each language's own tokenizer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polylm.tasks.evaluation.errors import Deviations, resampled_deviations, with_error
from polylm.tasks.evaluation.languages import EvaluationError, aligned_paragraphs, find_language, spread
from polylm.tasks.evaluation.likelihood import no_progress_bars
from polylm.tasks.evaluation.table import AVERAGE, average
from polylm.tasks.training.chat import END, USER, render


@dataclass(frozen=True)
class Direction:
    """Paragraphs of one language to be put into another, and one solved example that is not among them."""

    source: str
    target: str
    texts: tuple[str, ...]
    references: tuple[str, ...]
    example: tuple[str, str]

    @property
    def name(self) -> str:
        return f"{self.source}-{self.target}"


@dataclass(frozen=True)
class Effort:
    """How much is translated, and how sure the figures are to be."""

    paragraphs: int
    max_new_tokens: int
    resamples: int


def find_directions(names: Sequence[str], paragraphs: int) -> list[Direction]:
    """The directions by name (`en-de`), each with at most `paragraphs` of the paragraphs that all languages share.

    The solved example is the paragraph whose English is shortest, the same in all directions, so that it fits small
    contexts.
    """
    texts = aligned_paragraphs()
    count = len(texts["en"])
    shown = min(range(count), key=lambda place: len(texts["en"][place]))
    asked = spread([place for place in range(count) if place != shown], paragraphs)
    directions = []
    for name in names:
        source, separator, target = name.partition("-")
        if not separator or source == target:
            raise EvaluationError(f"direction {name!r}: expected two languages such as en-de")
        find_language(source), find_language(target)
        sources, targets = texts[source], texts[target]
        example = (sources[shown], targets[shown])
        parts = tuple(sources[place] for place in asked), tuple(targets[place] for place in asked)
        directions.append(Direction(source, target, *parts, example))
    return directions


def translate(lm: Any, model: str, directions: Sequence[Direction], effort: Effort, chat: bool) -> list[dict[str, Any]]:
    """Rows of BLEU and chrF++ for each direction, and their means out of and into English.

    Greedy. A base model sees one example and stops at the end of the line; a fine-tuned one is asked in its chat form
    and stops by itself (paper, 5.1). Chance is the figure of copying the source.
    """
    prompts = [prompt_of(direction, text, chat) for direction in directions for text in direction.texts]
    stops = [END, USER] if chat else ["\n"]
    outputs = iter(generate(lm, prompts, stops, effort.max_new_tokens))
    cut = count_cut(lm, prompts, effort.max_new_tokens)
    how = ("zero-shot, chat form" if chat else "one-shot") + ", greedy; chance is copying the source"
    how += f"; {cut} of {len(prompts)} prompts cut on the left to fit the context" if cut else ""
    rows: list[dict[str, Any]] = []
    for direction in directions:
        hypotheses = [next(outputs).strip() for _ in direction.texts]
        rows += score_direction(model, direction, hypotheses, effort.resamples, how)
    return [*rows, *_means(rows)]


def prompt_of(direction: Direction, text: str, chat: bool) -> str:
    """The paper's prompt, `[INPUT] Translate this sentence from [SRC] to [TGT].`, in chat form or after an example."""
    names = find_language(direction.source).name, find_language(direction.target).name
    request = f"Translate this sentence from {names[0]} to {names[1]}."
    if chat:
        return render(text, request)
    source, target = direction.example
    return f"{source}\n{request}\n{target}\n{text}\n{request}\n"


def score_direction(
    model: str, direction: Direction, hypotheses: Sequence[str], resamples: int, how: str
) -> list[dict[str, Any]]:
    """BLEU and chrF++ of one direction; the errors are the standard deviation over sacrebleu's bootstrap resamples,
    left out where all are equal (nothing right).

    The note carries sacrebleu's signature, without which a BLEU score cannot be compared.
    """
    rows = []
    for name, metric in _metrics(direction.target).items():
        value, deviations = _score(metric, hypotheses, direction.references, resamples)
        note = f"{how}; {metric.get_signature().format()}"
        copied = metric.corpus_score(list(direction.texts), [list(direction.references)]).score
        rows.append(
            {"model": model, "category": "translation", "task": "UDHR", "language": direction.name, "metric": name}
            | {"value": value, "chance": float(copied), "n": len(hypotheses), "note": note}
            | with_error(deviations)
        )
    return rows


def generate(lm: Any, prompts: Sequence[str], stops: Sequence[str], max_new_tokens: int) -> list[str]:
    """Greedy continuations of the prompts by an `HFLM`, each up to a stop string, the separator or the limit.

    A prompt that leaves no room in the context loses its beginning.
    """
    from lm_eval.api.instance import Instance  # costs seconds

    options = {"until": list(stops), "max_gen_toks": max_new_tokens, "do_sample": False}
    requests = [Instance("generate_until", {}, (prompt, dict(options)), place) for place, prompt in enumerate(prompts)]
    if max_new_tokens >= lm.max_length:
        raise EvaluationError(f"max_new_tokens {max_new_tokens}: the model's context is only {lm.max_length} tokens")
    with no_progress_bars():
        return [str(text) for text in lm.generate_until(requests)]


def count_cut(lm: Any, prompts: Sequence[str], max_new_tokens: int) -> int:
    """How many prompts are too long for the context."""
    room = lm.max_length - max_new_tokens
    return sum(len(lm.tok_encode(prompt)) > room for prompt in prompts)


def _score(
    metric: Any, hypotheses: Sequence[str], references: Sequence[str], resamples: int
) -> tuple[float, Deviations]:
    """The score, and the deviations of its resamples: sacrebleu's seed draws the same paragraphs in every direction."""
    from sacrebleu.significance import _bootstrap_resample

    statistics = metric._extract_corpus_statistics(list(hypotheses), [list(references)])
    # Not through corpus_score(n_bootstrap=...): it stops with a TypeError where some resamples score exactly 0, as
    # bad translations do (sacrebleu 2.6 averages floats of two kinds). The signature needs both attributes.
    metric.n_bootstrap = resamples
    metric.seed, scores = _bootstrap_resample(statistics, metric, resamples)
    deviations = resampled_deviations([float(score.score) for score in scores])
    return float(metric._aggregate_and_compute(statistics).score), deviations


def _metrics(target: str) -> Mapping[str, Any]:
    from sacrebleu.metrics.bleu import BLEU  # loads MeCab's dictionaries
    from sacrebleu.metrics.chrf import CHRF

    return {"BLEU": BLEU(tokenize=find_language(target).bleu), "chrF++": CHRF(word_order=2)}


def _means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    means = []
    for metric in ("BLEU", "chrF++"):
        of_metric = [row for row in rows if row["metric"] == metric]
        out_of_english = [row for row in of_metric if row["language"].startswith("en-")]
        into_english = [row for row in of_metric if row["language"].endswith("-en")]
        for label, group in (("en-xx", out_of_english), ("xx-en", into_english)):
            if group:
                means.append(average(group) | {"language": f"{AVERAGE} {label}"})
    return means
