"""Training stages: weights before the first step, then a chain of segments, each from the weights of the one before."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from polylm.deployments.settings import Settings
from polylm.model.config import Guard, InitializeJob, ModelConfig, Segment, TrainJob, write_job
from polylm.model.config import Optimizer as Optimizer  # part of the recipes, which see tasks only
from polylm.model.launch import launch, run_module
from polylm.model.metrics import last_step
from polylm.tasks.corpus.language import LANGUAGES
from polylm.tasks.stage import Field, Params, StageError, Workspace, files
from polylm.tasks.tokens.curriculum import deviations, planned_rows, rows_before
from polylm.tasks.tokens.tokenizer import load_tokenizer
from polylm.tasks.training.placement import find_hosts, lay_out

EXECUTION = ("seconds", "tokens_per_second")  # of the metrics: how fast, not what


class ModelParams(Params):
    layers: int = Field(24, ge=1, description="Transformer blocks.", source="PolyLM table 3 (1.7B)")
    width: int = Field(2_048, ge=1, description="Size of the residual stream.", source="PolyLM table 3 (1.7B)")
    heads: int = Field(16, ge=1, description="Attention heads.", source="PolyLM table 3 (1.7B)")
    feed_forward: int = Field(8_192, ge=1, description="Width of the feed-forward layer.", source="4 x width")
    context: int = Field(2_048, ge=2, description="Longest input.", unit="tokens", source="PolyLM table 3")
    init: Literal["xavier_normal", "normal"] = Field(
        "xavier_normal", description="Initial weights.", source="PolyLM 3.2; its script has normal with 0.006"
    )
    init_std: float = Field(0.006, gt=0, description="If init is normal.", source="script --init-method-std")
    seed: int = Field(0, ge=0, description="Of the initial weights.")

    def config(self, vocabulary: int) -> ModelConfig:
        shape = self.model_dump(include={"layers", "width", "heads", "feed_forward", "context"})
        return ModelConfig(vocabulary=vocabulary, **shape)


class TrainParams(Params):
    """What is learned from, how fast, and how often it is saved; where it runs is `Settings.placement`."""

    segment: str = Field("stage1", description="Which segment of the curriculum.")
    steps: int = Field(
        610_000, ge=1, description="Optimizer steps; those of the curriculum's segment.", source="PolyLM table 3"
    )
    batch: int = Field(512, ge=1, description="Rows of a step, over all ranks.", unit="rows", source="PolyLM table 3")
    optimizer: Optimizer = Field(
        Optimizer(peak_rate=1e-4), description="AdamW and its rate.", source="PolyLM 3.3, table 3"
    )
    precision: Literal["fp32", "bf16"] = Field("bf16", description="Of matrix products.", source="PolyLM 3.3")
    residual_fp32: bool = Field(True, description="Residual stream in fp32.", source="PolyLM 3.3: its cure for spikes")
    document_mask: bool = Field(
        True, description="No attention across documents.", source="ours: leakage across languages"
    )
    z_loss: float = Field(0.0, ge=0, description="Factor of logsumexp^2.", source="paper: none")
    checkpoint_every: int = Field(500, ge=1, description="Steps between checkpoints.", source="PolyLM's script")
    guard: Guard = Field(Guard(), description="When a step is skipped.", source="OLMo's SkipStep")
    seed: int = Field(0, ge=0, description="Of the order of rows.")
    languages: tuple[str, ...] = Field(LANGUAGES, description="Languages whose loss is told apart.")


@files(writes=None, version=1, libraries=["torch"])
def initialize(params: ModelParams, tokenizer: Path, work: Workspace) -> Mapping[str, Any]:
    """Draw the weights before the first step; the vocabulary is the tokenizer's."""
    config = params.config(load_tokenizer(tokenizer).get_vocab_size())
    job = InitializeJob(
        model=config, output=str(work.out), init=params.init, init_std=params.init_std, seed=params.seed
    )
    run_module("polylm.model.initialize", write_job(job, work.scratch / "job.json"), logs=work.scratch / "logs")
    return {"parameters": config.parameters()}


@files(writes=None, version=2, libraries=["torch", "deepspeed"])
def pretrain(
    params: TrainParams,
    plan: pa.Table,
    packed: Mapping[str, Path],
    pairs: Mapping[str, Path],
    start: Path,
    work: Workspace,
) -> Mapping[str, Any]:
    """Train a segment of the curriculum from the weights before it, to its exact mixture, through DeepSpeed.

    Its rows are dealt behind those of the segments before it, so that no row comes again before its cell is used up.
    Goes on from the last checkpoint after any death, bit for bit on the same layout. Equal on CPUs of one kind for one
    placement; other layouts agree up to rounding.
    """
    planned = planned_rows(plan)
    shares = planned.get(params.segment)
    if shares is None:
        names = ", ".join(dict.fromkeys(plan["segment"].to_pylist()))
        raise StageError(f"pretrain: the curriculum has no segment {params.segment!r}; it has {names}")
    if sum(shares.values()) != params.steps * params.batch:
        raise StageError(
            f"pretrain {params.segment}: {params.steps} steps of {params.batch} rows are not the {sum(shares.values())} "
            "rows of the curriculum; set steps and batch alike in both"
        )
    dealt = rows_before(planned, params.segment)
    result = _train(params, shares, [*packed.values(), *pairs.values()], start, work, dealt=dealt)
    own = plan.filter(pc.equal(plan["segment"], params.segment))
    if wrong := deviations(own, result["rows"]):
        shown = "; ".join(wrong[:5])
        raise StageError(f"pretrain {params.segment}: {len(wrong)} cells were not delivered as planned: {shown}")
    return result


@files(writes=None, version=2, libraries=["torch", "deepspeed"])
def finetune(params: TrainParams, packed: Mapping[str, Path], start: Path, work: Workspace) -> Mapping[str, Any]:
    """Fine-tune on packed instructions; only answers give loss. The same trainer as for pretraining."""
    cells = pc.value_counts(
        pa.chunked_array([pq.read_table(path, columns=["cell"])["cell"].combine_chunks() for path in packed.values()])
    )
    shares = {entry["values"]: entry["counts"] for entry in cells.to_pylist()}
    if not shares:
        raise StageError("finetune: there is no packed instruction; check the report of generate_instructions")
    return _train(params, shares, list(packed.values()), start, work)


def _train(
    params: TrainParams,
    shares: Mapping[str, int],
    packed: list[Path],
    start: Path,
    work: Workspace,
    *,
    dealt: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Run the ranks on a job in `scratch`, which survives a crash, and keep weights, metrics and events."""
    folder = work.scratch / "training"
    placement = Settings().placement
    layout = lay_out(placement, params.batch)
    hosts = find_hosts(placement, layout.ranks)
    job = TrainJob(
        folder=str(folder),
        model=ModelConfig.model_validate_json((start / "config.json").read_text(encoding="utf-8")),
        segments=[
            Segment(
                name=params.segment,
                steps=params.steps,
                files=[str(path) for path in packed],
                shares=dict(shares),
                dealt=dict(dealt or {}),
            )
        ],
        languages=list(params.languages),
        batch=params.batch,
        optimizer=params.optimizer,
        seed=params.seed,
        precision=params.precision,
        residual_fp32=params.residual_fp32,
        document_mask=params.document_mask,
        z_loss=params.z_loss,
        initial_weights=str(start),
        checkpoint_every=params.checkpoint_every,
        guard=params.guard,
        placement=layout,
    )
    launch(
        write_job(job, work.scratch / "job.json"),
        ranks=layout.ranks,
        logs=work.scratch / "logs",
        devices=placement.devices,
        threads=layout.threads,
        hosts=hosts,
        tick=lambda: _tell(work, folder, params.steps),
    )
    return _collect(folder, work.out)


def _tell(work: Workspace, folder: Path, steps: int) -> None:
    if step := last_step(folder):
        work.tell(step["step"], steps, f"loss {step['loss']:.3f}, {step['tokens_per_second']:,.0f} tokens/s")


def _collect(folder: Path, out: Path) -> dict[str, Any]:
    """What a training leaves: weights and metrics as content, how fast it went as logs."""
    for name in ("model.safetensors", "config.json"):
        shutil.copyfile(folder / "final" / name, out / name)
    logs = out / "logs"
    logs.mkdir()
    shutil.copyfile(folder / "events.parquet", logs / "events.parquet")
    metrics = pq.read_table(folder / "metrics.parquet")
    pq.write_table(metrics.select(["step", *EXECUTION]), logs / "speed.parquet")
    pq.write_table(metrics.drop_columns(list(EXECUTION)), out / "metrics.parquet")
    for name in ("metrics_by_language.parquet", "metrics_by_cell.parquet"):
        shutil.copyfile(folder / name, out / name)
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {name: result[name] for name in ("steps", "skipped", "rows")}
