"""Complete, named settings of a run. A new run is a new function here.

Field defaults are our own best-known profile; every function returns a whole recipe. What says where or how fast is not
here but in `deployments.settings`.
"""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from polylm.flows.alarms import AlarmParams
from polylm.tasks.corpus.classifier import ClassifierParams
from polylm.tasks.corpus.declared import CheckDeclaredParams, ReadDeclaredParams
from polylm.tasks.corpus.duplicates import BandParams, ClusterParams
from polylm.tasks.corpus.language import FloorParams, LanguageParams, WantedParams
from polylm.tasks.corpus.line_languages import LineLanguageParams
from polylm.tasks.corpus.model_score import HeadParams, ModelScoreParams
from polylm.tasks.corpus.perplexity import QualityModelParams
from polylm.tasks.corpus.quality import CutoffParams
from polylm.tasks.corpus.split import SplitParams
from polylm.tasks.corpus.stop_words import StopWordParams
from polylm.tasks.corpus.text import StatisticsParams, TextParams
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
from polylm.tasks.stage import Field, Params
from polylm.tasks.tokens.curriculum import CurriculumParams, SegmentParams
from polylm.tasks.tokens.pack import PackParams
from polylm.tasks.tokens.pairs import PackPairParams, PairParams
from polylm.tasks.tokens.tokenizer import TokenizerParams
from polylm.tasks.training.export import ExportParams
from polylm.tasks.training.export import Source as CardSource
from polylm.tasks.training.train import ModelParams, Optimizer, TrainParams

SAMPLE = Path(__file__).resolve().parent / "sample"
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


def named(name: str) -> Recipe:
    """The recipe of that name; ValueError says which there are."""
    known = all_recipes()
    if name not in known:
        raise ValueError(f"no recipe {name!r}: there are {', '.join(sorted(known))}")
    return known[name]()
