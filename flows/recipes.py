"""Complete, named settings of a run. A new run is a new function here.

Field defaults are our own best-known profile; every function returns a whole recipe. What says where or how fast is not
here but in `tasks.settings`.
"""

import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from polylm.flows.alarms import AlarmParams
from polylm.tasks.corpus.classifier import ClassifierParams
from polylm.tasks.corpus.declared import CheckDeclaredParams, ReadDeclaredParams
from polylm.tasks.corpus.duplicates import BandParams, ClusterParams
from polylm.tasks.corpus.language import FloorParams, LanguageParams, WantedParams
from polylm.tasks.corpus.line_languages import LineLanguageParams
from polylm.tasks.corpus.model_score import HeadParams, ModelScoreParams
from polylm.tasks.corpus.perplexity import QualityModelParams
from polylm.tasks.corpus.quality import CutoffParams
from polylm.tasks.corpus.rule_sets import OTHERS
from polylm.tasks.corpus.split import SplitParams
from polylm.tasks.corpus.stop_words import StopWordParams
from polylm.tasks.corpus.text import StatisticsParams, TextParams, thresholds_of
from polylm.tasks.corpus.thresholds import ThresholdParams
from polylm.tasks.corpus.toxicity import ToxicityParams
from polylm.tasks.documents.boilerplate import BoilerplateParams
from polylm.tasks.documents.clean import CleanParams
from polylm.tasks.documents.ingest import IngestParams
from polylm.tasks.documents.masks import KINDS
from polylm.tasks.documents.sources import Source
from polylm.tasks.documents.urls import UrlParams
from polylm.tasks.evaluation.byte_models import ByteModelParams
from polylm.tasks.evaluation.evaluate import EvaluateParams
from polylm.tasks.evaluation.samples import SampleParams
from polylm.tasks.evaluation.table import TableParams
from polylm.tasks.instructions.generate import GenerateParams
from polylm.tasks.instructions.pack import PackInstructionsParams
from polylm.tasks.run import File
from polylm.tasks.settings import Settings
from polylm.tasks.stage import Field, Params
from polylm.tasks.tokens.curriculum import CurriculumParams, SegmentParams
from polylm.tasks.tokens.pack import PackParams
from polylm.tasks.tokens.pairs import PackPairParams, PairParams
from polylm.tasks.tokens.tokenizer import TokenizerParams
from polylm.tasks.training.export import ExportParams
from polylm.tasks.training.export import Source as CardSource
from polylm.tasks.training.train import ModelParams, Optimizer, TrainParams

SAMPLE = Path(__file__).resolve().parent / "sample"
NAME_LETTERS = 64  # of a source
LID_176 = File(name="lid.176.ftz", sha256="8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83")
MASKED = CleanParams(masks=KINDS)  # what leads to a person; the embedded sample leads to none
CONTRADICTIONS = (
    "Corpus: table 1 says 638B tokens, the text 640B; table 1's rows add up to 644.0B, table 2's to 629.0B.",
    "Parameters: the paper says 1,722M and 13,003M; this shape has 1,737,084,928 (as the released weights) and 13,906,790,400.",
    "Weight decay: 0.1 in the paper, 0.0001 in the script. Here: 0.1.",
    "Peak rate of the 1.7B: 1e-4 in the paper, 6e-5 in the script. Here: 1e-4.",
    "Warm-up: 2,000 steps in the paper, 2,500 in the script of the 13B. Here: 2,000.",
    "Initial weights: Xavier normal in the paper, normal with 0.006 in the script. Here: Xavier.",
    "Layer norm: the printed formula is y = x + LN(f(x)); script and weights are pre-LN, x + f(LN(x)). Here: pre-LN.",
    "Batch of the 1.7B: 512 rows in the paper (1.05M tokens), 4M tokens on its model card. Here: 512 rows.",
    "Stage 2: 97B tokens; its rate, schedule and optimizer state are not given. Here: a schedule of its own, same peak.",
    "End of text: the released config names 255999; the tokenizer's own </s> is 2. Here: the tokenizer's.",
    "Ratio of languages in the 18: table 2; the share of stage 2 by language is only a plot. Here: 60 % not English, by alpha.",
)
SOURCES = (
    CardSource(name="LibreOffice help", licence="MPL-2.0", note="help pages, aligned across languages"),
    CardSource(name="Mozilla localisations", licence="MPL-2.0", note="interface texts"),
    CardSource(name="Home Assistant localisations", licence="Apache-2.0", note="interface texts"),
    CardSource(name="Electron documentation", licence="MIT", note="documentation"),
    CardSource(name="books in the Faker package", licence="public domain and CC-BY-SA-3.0", note="parts of novels"),
    CardSource(name="Bible texts", licence="public domain", note="religious texts, Hebrew among them"),
    CardSource(name="C4 samples", licence="ODC-BY", note="English web pages"),
    CardSource(
        name="seed tasks and SmolLM2-135M-Instruct", licence="Apache-2.0", note="instructions, for fine-tuning only"
    ),
)
SMOLLM2 = File(
    name="SmolLM2-135M-Instruct.Q4_1.gguf", sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
)


class Recipe(Params):
    """One run, stage by stage."""

    flow: Literal["corpus", "everything"] = Field(
        "everything", description="How far the run goes: data stages, or all."
    )
    sources: dict[str, Source] = Field(default={}, description="Where documents come from; add at the end.")
    ingest: IngestParams = Field(IngestParams(), description="How files become parts.")
    boilerplate: BoilerplateParams = Field(BoilerplateParams(), description="Which lines of a site are boilerplate.")
    clean: CleanParams = Field(CleanParams(), description="What is cut from texts.")
    urls: UrlParams = Field(UrlParams(), description="Lists of addresses whose documents are rejected.")
    language_model: File = Field(LID_176, description="The fastText model that labels languages.")
    language: LanguageParams = Field(LanguageParams(), description="How languages are identified.")
    wanted: WantedParams = Field(WantedParams(), description="Which languages stay.")
    floors: FloorParams = Field(FloorParams(), description="How sure a label must be.")
    judge_declarations: bool = Field(False, description="Reject what is not in the language that its source declares.")
    declared: ReadDeclaredParams = Field(ReadDeclaredParams(), description="Where declarations are found.")
    contradiction: CheckDeclaredParams = Field(
        CheckDeclaredParams(), description="How much doubt a declaration stands."
    )
    measure_lines: bool = Field(False, description="Measure the languages of every document's lines.")
    lines: LineLanguageParams = Field(LineLanguageParams(), description="How lines are identified.")
    statistics: StatisticsParams = Field(StatisticsParams(), description="What is counted in texts.")
    stop_words: StopWordParams = Field(StopWordParams(), description="Stop words fitted where nobody published any.")
    derived: ThresholdParams = Field(ThresholdParams(), description="How thresholds are derived from clean text.")
    toxicity: ToxicityParams = Field(ToxicityParams(), description="Lists of words and models that tell toxic texts.")
    text: TextParams = Field(TextParams(), description="Rule sets and their thresholds for texts.")
    quality_models: QualityModelParams = Field(QualityModelParams(), description="The 5-gram models.")
    classifier: ClassifierParams = Field(ClassifierParams(), description="The classifiers.")
    cutoffs: CutoffParams = Field(CutoffParams(), description="Percentiles of quality.")
    score_model: File | None = Field(None, description="A zip with a model of transformers that scores every text.")
    score_labels: File | None = Field(
        None, description="Labelled texts (JSON lines), for a model that is an embedding."
    )
    score_head: HeadParams = Field(HeadParams(), description="The head that is trained on them.")
    model_score: ModelScoreParams = Field(ModelScoreParams(), description="How that model is asked.")
    bands: BandParams = Field(BandParams(), description="Signatures and bands of the search for duplicates.")
    clusters: ClusterParams = Field(ClusterParams(), description="How alike duplicates are.")
    split: SplitParams = Field(SplitParams(), description="What is held out.")
    alarms: AlarmParams = Field(AlarmParams(), description="What stops a run before a disaster.")
    tokenizer: TokenizerParams = Field(TokenizerParams(), description="The vocabulary.")
    pack: PackParams = Field(PackParams(), description="Rows of documents.")
    pairs: PairParams = Field(PairParams(), description="Which lines of aligned pages are pairs.")
    pack_pairs: PackPairParams = Field(PackPairParams(), description="Rows of bilingual pairs.")
    curriculum: CurriculumParams = Field(CurriculumParams(), description="Segments of pretraining and their mixtures.")
    model: ModelParams = Field(ModelParams(), description="The network's shape and initial weights.")
    stage1: TrainParams = Field(TrainParams(), description="Pretraining, first segment.")
    stage2: TrainParams = Field(TrainParams(segment="stage2", steps=92_500), description="Pretraining, second segment.")
    instruct_model: File = Field(SMOLLM2, description="The local model that writes instructions.")
    instructions: GenerateParams = Field(GenerateParams(), description="How instructions are generated.")
    pack_instructions: PackInstructionsParams = Field(PackInstructionsParams(), description="Rows of instructions.")
    finetune: TrainParams = Field(
        TrainParams(segment="finetune", steps=244, batch=32, optimizer=Optimizer(peak_rate=1e-5, warmup_steps=10)),
        description="Fine-tuning.",
        source="PolyLM table 3: rate 1e-5, 16M tokens",
    )
    export: ExportParams = Field(ExportParams(), description="The exported base model.")
    export_tuned: ExportParams = Field(ExportParams(tuned=True), description="The exported fine-tuned model.")
    byte_models: ByteModelParams = Field(ByteModelParams(), description="What bits per byte are compared with.")
    evaluate_untrained: EvaluateParams = Field(
        EvaluateParams(models=("untrained",), chat=(), tasks=("bits",)), description="Before the first step."
    )
    evaluate: EvaluateParams = Field(EvaluateParams(), description="What the models are asked.")
    samples: SampleParams = Field(SampleParams(), description="Beginnings that the model continues.")
    table: TableParams = Field(TableParams(), description="How results are shown.")
    contradictions: tuple[str, ...] = Field(
        (), description="Where paper, scripts and weights disagree, and what is done here."
    )


def sample() -> Recipe:
    """The embedded sample through every stage: minutes on two cores."""
    context, batch = 256, 16
    small = {"batch": batch, "precision": "fp32", "checkpoint_every": 20}
    rate = Optimizer(peak_rate=5e-3, warmup_steps=10)
    return Recipe(
        sources={"sample": Source(path=str(SAMPLE / "documents.jsonl.gz"))},
        ingest=IngestParams(part_rows=32),
        quality_models=QualityModelParams(min_reference_bytes=20_000),
        tokenizer=TokenizerParams(vocabulary=8_192, max_bytes=4_000_000),
        pack=PackParams(context=context),
        pack_pairs=PackPairParams(context=context),
        curriculum=CurriculumParams(
            segments=(
                SegmentParams(name="stage1", steps=120, non_english=0.30, pairs=0.02),
                SegmentParams(name="stage2", steps=60, non_english=0.60, pairs=0.10),
            ),
            batch=batch,
        ),
        model=ModelParams(layers=4, width=128, heads=4, feed_forward=512, context=context),
        stage1=TrainParams(segment="stage1", steps=120, optimizer=rate, **small),
        stage2=TrainParams(segment="stage2", steps=60, optimizer=rate, **small),
        instructions=GenerateParams(
            languages=("en", "de", "es", "fr"),
            rounds=2,
            max_requests=2,
            tasks_asked=3,
            max_tokens=160,
            temperature=0.7,
        ),
        pack_instructions=PackInstructionsParams(context=context),
        export=ExportParams(title="polylm sample, base", sources=SOURCES),
        export_tuned=ExportParams(title="polylm sample, fine-tuned", sources=SOURCES, tuned=True),
        finetune=TrainParams(
            segment="finetune", steps=20, optimizer=Optimizer(peak_rate=5e-4, warmup_steps=5), **small
        ),
        evaluate_untrained=EvaluateParams(models=("untrained",), chat=(), tasks=("bits",), paragraphs=53),
        evaluate=EvaluateParams(
            items=20,
            paragraphs=53,
            continuations=3,
            translations=3,
            max_new_tokens=40,
            resamples=200,
            directions=("en-de", "de-en", "en-zh", "zh-en"),
        ),
    )


def corpus() -> Recipe:
    """The data stages alone, for your own text (--source NAME=PATH)."""
    return Recipe(flow="corpus", clean=MASKED)


def polylm_1_7b() -> Recipe:
    """PolyLM-1.7B: every number of the paper that there is; give it your own sources."""
    return Recipe(
        clean=MASKED,
        stage1=TrainParams(segment="stage1", steps=610_000, batch=512, optimizer=Optimizer(peak_rate=1e-4)),
        stage2=TrainParams(segment="stage2", steps=92_500, batch=512, optimizer=Optimizer(peak_rate=1e-4)),
        contradictions=CONTRADICTIONS,
    )


def polylm_13b() -> Recipe:
    """PolyLM-13B: every number of the paper that there is; give it your own sources."""
    rate = Optimizer(peak_rate=6e-5)  # 1e-4 spiked in every attempt (PolyLM 3.3)
    return Recipe(
        clean=MASKED,
        curriculum=CurriculumParams(
            segments=(
                SegmentParams(name="stage1", steps=152_500, non_english=0.30, pairs=0.0016),
                SegmentParams(name="stage2", steps=23_100, non_english=0.60, pairs=0.0476),
            ),
            batch=2_048,
        ),
        model=ModelParams(layers=40, width=5_120, heads=40, feed_forward=20_480),
        stage1=TrainParams(segment="stage1", steps=152_500, batch=2_048, optimizer=rate),
        stage2=TrainParams(segment="stage2", steps=23_100, batch=2_048, optimizer=rate),
        finetune=TrainParams(
            segment="finetune", steps=122, batch=64, optimizer=Optimizer(peak_rate=1e-5, warmup_steps=10)
        ),
        contradictions=CONTRADICTIONS,
    )


def all_recipes() -> dict[str, Callable[[], Recipe]]:
    """Every recipe by name, found by looking: the functions of this module that return one."""
    members = inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    return {
        name: member
        for name, member in members
        if inspect.signature(member).return_annotation is Recipe and not inspect.signature(member).parameters
    }


def resolve(
    name: str, sources: Sequence[str] = (), changes: Sequence[str] = (), settings: Settings | None = None
) -> Recipe:
    """A recipe by name with `NAME=PATH` sources added and `a.b=VALUE` fields set; ValueError says what is wrong."""
    values = _named(name).model_dump(mode="json")
    for place, text in enumerate(sources):
        key, path = _split(text, "--source", "NAME=PATH")
        if not key.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"--source {text}: a source's name is made of letters, digits, - and _")
        if len(key) > NAME_LETTERS:
            raise ValueError(
                f"--source {text}: a source's name has at most {NAME_LETTERS} letters: it is in names of files"
            )
        if key in [text.partition("=")[0] for text in sources[:place]]:
            raise ValueError(f"--source {text}: there is a source {key} already; give each a name of its own")
        values["sources"][key] = Source(path=path).model_dump(mode="json")
    # Rule sets first, because they bring thresholds, over which what else is set stands.
    for text in sorted(changes, key=lambda text: not text.startswith("text.rules=")):
        key, value = _split(text, "--set", "a.b=VALUE")
        _set(values, key.split("."), value, text, settings or Settings())
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise ValueError("\n".join(_problem(problem) for problem in error.errors())) from error
    if not recipe.sources:
        raise ValueError(
            f"the recipe {name} has no sources: give --source NAME=PATH (a file, a folder, a glob or a URL)"
        )
    return recipe


def origins(name: str, sources: Sequence[str] = (), changes: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Every value of a resolved recipe with where it comes from: the default and its source, the recipe, an option."""
    default, named = Recipe(), _named(name)
    resolved = resolve(name, sources, changes) if sources or changes or named.sources else named
    return list(_leaves(resolved, named, default, ""))


def _named(name: str) -> Recipe:
    known = all_recipes()
    if name not in known:
        raise ValueError(f"no recipe {name!r}: there are {', '.join(sorted(known))}")
    return known[name]()


def _leaves(resolved: Any, named: Any, default: Any, path: str) -> Any:
    for field, about in type(resolved).model_fields.items():
        value, in_recipe, by_default = (
            getattr(resolved, field),
            getattr(named, field, None),
            getattr(default, field, None),
        )
        here = f"{path}.{field}" if path else field
        if isinstance(value, Params):
            yield from _leaves(value, in_recipe, by_default, here)
            continue
        extra = about.json_schema_extra if isinstance(about.json_schema_extra, dict) else {}
        origin = "option" if value != in_recipe else "recipe" if value != by_default else "default"
        yield {
            "field": here,
            "value": json.loads(resolved.model_dump_json(include={field}))[field],
            "origin": origin,
            "source": extra.get("source", ""),
            "unit": extra.get("unit", ""),
            "description": about.description or "",
        }


def _split(text: str, option: str, form: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise ValueError(f"{option} {text}: expected {option} {form}")
    return key, value


def _set(values: dict[str, Any], path: list[str], text: str, whole: str, settings: Settings) -> None:
    for depth, key in enumerate(path[:-1]):
        if not isinstance(values.get(key), dict):
            raise ValueError(f"--set {whole}: no field {'.'.join(path[: depth + 1])!r}; there are {', '.join(values)}")
        values = values[key]
        if isinstance(values, dict) and OTHERS in values and depth + 2 < len(path):
            values.setdefault(path[depth + 1], {})  # a table by language takes new ones
    key = path[-1]
    if key not in values and path[:-2] != ["text", "thresholds"]:
        raise ValueError(f"--set {whole}: no field {'.'.join(path)!r}; there are {', '.join(values)}")
    if text != "null" and _takes_a_file(path, values.get(key)):
        values[key] = _adopted(key, Path(text), settings)
        return
    try:
        values[key] = json.loads(text)
    except json.JSONDecodeError:
        values[key] = text
    except (RecursionError, ValueError) as error:  # of depth, and of digits
        raise ValueError(f"--set {whole[:60]}...: {len(text):,} characters of JSON that cannot be read") from error
    _check_storable(values[key], whole)
    if path[-1] == "lists":
        values[key] = (
            [_with_adopted_file(one, settings) for one in values[key]] if isinstance(values[key], list) else values[key]
        )
    if path == ["text", "rules"]:
        values["thresholds"] = thresholds_of(values[key])


def _check_storable(value: Any, whole: str) -> None:
    """Refuse what no column can hold: integers of more than 64 bits, and text that is not Unicode's."""
    if isinstance(value, dict | list):
        for one in [*value, *value.values()] if isinstance(value, dict) else value:
            _check_storable(one, whole)
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"--set {whole}: {value} is out of bounds; expected a number of 64 bits")
    elif isinstance(value, str) and not value.isascii() and value != value.encode(errors="replace").decode():
        raise ValueError(f"--set {whole}: found a lone surrogate; expected Unicode text")


def _takes_a_file(path: Sequence[str], value: Any) -> bool:
    """Whether a field holds an adopted file, or may hold one."""
    if isinstance(value, Mapping):
        return value.keys() == File.model_fields.keys()
    return len(path) == 1 and File in get_args(Recipe.model_fields[path[0]].annotation)


def _with_adopted_file(entry: Any, settings: Settings) -> Any:
    """An entry of a list of files, its file named by path or, as a recipe names it, by name and digest."""
    if isinstance(entry, dict) and isinstance(entry.get("file"), str):
        return {**entry, "file": _adopted("file", Path(entry["file"]), settings)}
    return entry


# How the files of a field begin: hours may lie between a run's start and the stage that opens one.
_BEGINS = {
    "language_model": (b"\xba\x16\x4f\x2f", "a model of fastText (.bin or .ftz)"),
    "score_model": (b"PK\x03\x04", "a zip"),
    "instruct_model": (b"GGUF", "a GGUF file"),
}


def _adopted(field: str, path: Path, settings: Settings) -> dict[str, str]:
    """Link a file into the folder of models, so that the recipe can name it by content."""
    from polylm.tasks.keys import file_digest

    if not path.is_file():
        raise ValueError(f"{path} is no file; a model is set by the path of its file")
    magic, expected = _BEGINS.get(field, (b"", ""))
    with path.open("rb") as file:
        if (found := file.read(len(magic))) != magic:
            raise ValueError(f"{path} begins with {found!r}; {field} is {expected}, which begins with {magic!r}")
    sha256 = file_digest(path)
    target = settings.models / path.name
    if target.exists() and file_digest(target) != sha256:
        target = settings.models / f"{sha256[:12]}-{path.name}"
    if not target.exists():
        settings.models.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # a link to a file that is gone
        target.symlink_to(path.resolve())
    return {"name": target.name, "sha256": sha256}


def _problem(problem: Any) -> str:
    where = ".".join(str(piece) for piece in problem["loc"])
    return f"{where}: {problem['msg']}, found {json.dumps(problem.get('input'), ensure_ascii=False, default=str)[:80]}"
