"""The stage that asks exported models everything, one job a task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
import pydantic

from polylm.tasks.evaluation import bits, byte_models, generation, likelihood, translation
from polylm.tasks.evaluation.languages import LANGUAGES, EvaluationError
from polylm.tasks.evaluation.table import EVALUATION, make_rows
from polylm.tasks.stage import Field, Params, files

Task = Literal["bits", "understanding", "knowledge", "generation", "translation"]
_DIRECTIONS = tuple(f"{code}-en" for code in LANGUAGES if code != "en") + tuple(
    f"en-{code}" for code in LANGUAGES if code != "en"
)
_PAPER = "PolyLM 5.1"


class EvaluateParams(Params):
    """What is asked of which models."""

    models: tuple[str, ...] = Field(
        default=("base", "tuned"),
        min_length=1,
        description="Names of the exported folders, in the order of the inputs.",
    )
    chat: tuple[str, ...] = Field(default=("tuned",), description="Which of them are asked in the chat form.")
    tasks: tuple[Task, ...] = Field(
        default=("bits", "understanding", "knowledge", "generation", "translation"), description="Jobs, by name."
    )
    languages: tuple[str, ...] = Field(
        default=tuple(LANGUAGES), min_length=1, description="Languages of bits per byte and of generation."
    )
    items: int = Field(
        default=1_000, ge=2, unit="items a language", description="At most so many multiple-choice questions."
    )
    paragraphs: int = Field(default=1_000, ge=2, unit="paragraphs", description="Held-out paragraphs scored in bits.")
    continuations: int = Field(default=50, ge=2, unit="texts a language", description="Texts that are continued.")
    directions: tuple[str, ...] = Field(default=_DIRECTIONS, description="Translation directions, such as en-de.")
    translations: int = Field(default=1_000, ge=2, unit="paragraphs a direction", description="At most so many.")
    max_new_tokens: int = Field(default=256, ge=1, unit="tokens", description="Longest answer.", source=_PAPER)
    resamples: int = Field(default=1_000, ge=2, description="Bootstrap resamples of BLEU and chrF++.")
    batch: int = Field(default=16, ge=1, unit="texts", description="Texts in a batch: all their logits are in memory.")

    @pydantic.model_validator(mode="after")
    def _names_agree(self) -> Self:
        if unknown := set(self.chat) - set(self.models):
            raise ValueError(f"chat: {', '.join(sorted(unknown))} is not among the models {', '.join(self.models)}")
        for code in self.languages:
            if code not in LANGUAGES:
                raise ValueError(f"languages: {code!r} has no evaluation texts; there are {', '.join(LANGUAGES)}")
        return self

    def jobs(self) -> Sequence[str]:
        return self.tasks


@files(
    writes=EVALUATION, each="task", reproducible=False, libraries=("lm_eval", "sacrebleu", "transformers"), version=2
)
def evaluate(
    params: EvaluateParams, bytes_by_language: Mapping[str, Path], identifier: Path, *exports: Path, job: str
) -> pa.Table:
    """Measure exported models on one task: bits per byte, understanding, knowledge, generation or translation.

    Inputs: the byte models (a folder a language), the language-identification model, then the exported folders in the
    order of `models`. One model is in memory at a time.
    """
    if len(exports) != len(params.models):
        raise EvaluationError(f"{len(exports)} exported folders for the models {', '.join(params.models)}")
    rows: list[dict[str, Any]] = []
    for name, folder in zip(params.models, exports, strict=True):
        rows += _ask(params, job, name, likelihood.load_model(folder, batch=params.batch), identifier)
    if job == "bits":
        rows += _byte_rows(params, bytes_by_language)
    if job == "generation":
        identify = generation.load_identifier(identifier)
        rows += generation.judge_human(identify, params.languages, params.continuations)
    return make_rows(rows)


def _ask(params: EvaluateParams, job: str, model: str, lm: Any, identifier: Path) -> list[dict[str, Any]]:
    if job == "bits":
        return bits.measure_bits(
            model, params.languages, params.paragraphs, lambda language, texts: bits.score_texts(lm, texts)
        )
    if job == "understanding":
        return likelihood.understanding(lm, model, params.items)
    if job == "knowledge":
        return likelihood.knowledge(lm, model, params.items)
    if job == "generation":
        identify = generation.load_identifier(identifier)
        return generation.continue_texts(
            lm, model, identify,
            languages=params.languages, limit=params.continuations, max_new_tokens=params.max_new_tokens,
        )  # fmt: skip
    assert job == "translation", job
    effort = translation.Effort(params.translations, params.max_new_tokens, params.resamples)
    directions = translation.find_directions(params.directions, effort.paragraphs)
    return translation.translate(lm, model, directions, effort, chat=model in params.chat)


def _byte_rows(params: EvaluateParams, folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    if missing := [code for code in params.languages if code not in folders]:
        raise EvaluationError(f"no byte model of {', '.join(missing)}: train_byte_models has other languages")

    def unigram(language: str, texts: list[str]) -> list[float]:
        return byte_models.score_unigram(folders[language], texts)

    def ngram(language: str, texts: list[str]) -> list[float]:
        return byte_models.score_ngram(folders[language], texts)

    rows = bits.measure_bits("byte unigram", params.languages, params.paragraphs, unigram)
    return rows + bits.measure_bits(f"byte {byte_models.ORDER}-gram", params.languages, params.paragraphs, ngram)
