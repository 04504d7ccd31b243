"""What a rank is told: shapes, jobs and placement, as frozen models that travel in a job.json. No torch here."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Frozen(BaseModel):
    """A value object: unknown fields are an error, and nothing changes after construction."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Count = Annotated[int, Field(ge=1)]


class ModelConfig(Frozen):
    """The shape of the network: a GPT-2 with tied embeddings (PolyLM 3.2, table 3)."""

    layers: Count = Field(description="Transformer blocks.")
    width: Count = Field(description="Size of the residual stream.")
    heads: Count = Field(description="Attention heads; must divide width.")
    feed_forward: Count = Field(description="Width of the feed-forward layer; 4 x width in the paper.")
    vocabulary: Annotated[int, Field(ge=2)] = Field(description="Entries of the tokenizer.")
    context: Count = Field(description="Longest input in tokens; there are as many learned positions.")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} heads do not divide a width of {self.width}; choose a divisor of it")
        return self

    def parameters(self) -> int:
        """Count the weights; the tied head counts once.

        V d + T d + L (4 d^2 + 4 d + 2 d f + f + d + 4 d) + 2 d.
        """
        width, inner = self.width, self.feed_forward
        attention = 4 * width * width + 4 * width
        feed_forward = 2 * width * inner + inner + width
        norms = 4 * width
        embeddings = (self.vocabulary + self.context) * width
        return embeddings + self.layers * (attention + feed_forward + norms) + 2 * width


class Segment(Frozen):
    """A stretch of training with one mixture; a curriculum is a list of them."""

    name: str = Field(min_length=1, description="What the metrics call it, such as stage-1.")
    steps: Count = Field(description="Optimizer steps.")
    files: list[str] = Field(min_length=1, description="Packed Parquet files; each may hold rows of many cells.")
    shares: dict[str, Annotated[float, Field(gt=0)]] = Field(
        min_length=1, description="Mixture cell to its share of the rows; normalised to one."
    )
    dealt: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default={}, description="Rows of each cell that earlier jobs dealt from these files; it goes on behind them."
    )


class Optimizer(Frozen):
    """AdamW, and a rate that warms up linearly and falls as a cosine over all steps of the job (PolyLM 3.3)."""

    peak_rate: float = Field(gt=0, description="Highest learning rate (paper: 1e-4 for 1.7B, 6e-5 for 13B).")
    warmup_steps: int = Field(default=2000, ge=0, description="Steps from initial_rate to peak_rate.")
    initial_rate: float = Field(default=1e-7, ge=0, description="Rate of the first step.")
    final_share: float = Field(default=0.1, ge=0, le=1, description="Last rate as a share of the peak.")
    betas: tuple[float, float] = Field(default=(0.9, 0.95), description="Decay of Adam's two moments.")
    eps: float = Field(default=1e-8, gt=0, description="Adam's epsilon.")
    weight_decay: float = Field(
        default=0.1,
        ge=0,
        description="Of matrices and embeddings, not of biases and norms (as Megatron). "
        "The paper says 0.1; its script says 0.0001.",
    )
    clip: float = Field(default=1.0, gt=0, description="Largest global gradient norm.")


class Guard(Frozen):
    """When a step is skipped: OLMo's SkipStep rule, on top of what is not finite."""

    window: Count = Field(default=128, description="Past losses and gradient norms that are kept.")
    minimum: Annotated[int, Field(ge=2)] = Field(default=64, description="Values needed before the rule judges.")
    deviations: float = Field(default=6.0, gt=0, description="Skip beyond mean + this many standard deviations.")


class Placement(Frozen):
    """Where the job runs. No part of what is learned, up to rounding."""

    tensor_parallel: Count = Field(default=1, description="Ranks that share one copy of the weights (AutoTP).")
    data_parallel: Count = Field(default=1, description="Copies that read different rows.")
    zero_stage: int = Field(default=1, ge=1, le=3, description="What DeepSpeed's ZeRO partitions.")
    micro_batch: Count = Field(default=1, description="Rows in one forward pass of one copy.")
    threads: Count = Field(default=1, description="CPU threads of a rank.")
    backend: Literal["auto", "gloo", "nccl"] = Field(default="auto", description="auto: nccl where there is CUDA.")
    recompute: bool = Field(default=False, description="Trade a third more time for the memory of activations.")

    @property
    def ranks(self) -> int:
        """Processes in all."""
        return self.tensor_parallel * self.data_parallel

    @property
    def layout(self) -> dict[str, int]:
        """What must be equal for a checkpoint's optimizer state to load."""
        return {
            "tensor_parallel": self.tensor_parallel,
            "data_parallel": self.data_parallel,
            "zero_stage": self.zero_stage,
        }


class TrainJob(Frozen):
    """All that the ranks of a training need to know."""

    folder: str = Field(description="Work folder: checkpoints, metrics, events; a second start goes on from it.")
    model: ModelConfig
    segments: list[Segment] = Field(min_length=1, description="Run in this order.")
    languages: list[str] = Field(min_length=1, description="Languages of the packed rows, for the loss of each.")
    batch: Count = Field(description="Rows of one optimizer step, over all ranks.")
    optimizer: Optimizer
    seed: int = Field(default=0, ge=0, description="Of the initial weights and the order of rows.")
    init: Literal["xavier_normal", "normal"] = Field(
        default="xavier_normal",
        description="Matrices and embeddings; biases are zero. The paper says Xavier normal (3.2); its released "
        "script says --init-method-std 0.006, which is normal.",
    )
    init_std: float = Field(default=0.006, gt=0, description="Standard deviation if init is normal.")
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="Of matrix products; bf16 keeps fp32 masters."
    )
    residual_fp32: bool = Field(default=True, description="Residual stream in fp32: the paper's cure for its spikes.")
    document_mask: bool = Field(default=True, description="Attention does not look into other documents of the row.")
    reset_positions: bool = Field(default=False, description="Count positions from the start of each document.")
    z_loss: float = Field(default=0.0, ge=0, description="Factor of logsumexp^2 (PaLM 1e-4, OLMo 2 1e-5; paper: none).")
    initial_weights: str | None = Field(
        default=None, description="Folder with model.safetensors and config.json to start from, instead of init."
    )
    checkpoint_every: Count = Field(description="Steps between two checkpoints.")
    keep_checkpoints: Count = Field(default=2, description="Good checkpoints that are kept.")
    skip: list[tuple[int, int]] = Field(
        default=[], description="Batches that are passed over: (first, last), counted as data steps from 0."
    )
    guard: Guard = Guard()
    tensorboard: bool = Field(default=False, description="Also write TensorBoard events.")
    placement: Placement = Placement()

    @property
    def steps(self) -> int:
        """Steps of all segments."""
        return sum(segment.steps for segment in self.segments)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        place = self.placement
        unit = place.micro_batch * place.data_parallel
        if self.batch % unit:
            raise ValueError(
                f"batch: {self.batch} rows do not divide into micro_batch {place.micro_batch} x data_parallel "
                f"{place.data_parallel}; use a multiple of {unit}"
            )
        shared = {"heads": self.model.heads, "feed_forward": self.model.feed_forward}
        for name, value in shared.items():
            if value % place.tensor_parallel:
                raise ValueError(f"tensor_parallel: {place.tensor_parallel} does not divide {name} = {value}")
        if any(first < 0 or last < first for first, last in self.skip):
            raise ValueError(f"skip: {self.skip} must hold pairs 0 <= first <= last")
        return self


class ScoreJob(Frozen):
    """Negative log-likelihood of texts, for bits per byte."""

    model: str = Field(description="Folder with model.safetensors and config.json.")
    rows: str = Field(
        description="Parquet with tokens: list<int32> (the first is context only), bytes: int64, language: string."
    )
    output: str = Field(description="Parquet to write: the same rows in the same order, with nll and bits_per_byte.")
    batch: Count = Field(default=8, description="Windows in one forward pass.")
    stride: Count | None = Field(
        default=None, description="Tokens a window moves over a long text; half the context if not given."
    )
    threads: Count = Field(default=1, description="CPU threads.")


class GenerateJob(Frozen):
    """Continuations of prompts."""

    model: str = Field(description="Folder with model.safetensors and config.json.")
    prompts: str = Field(description="Parquet with tokens: list<int32>, at least one in each row.")
    output: str = Field(description="Parquet to write: tokens (the new ones) and stopped (end, length or context).")
    end: int = Field(ge=0, description="Token that ends a text.")
    max_new: Count = Field(description="New tokens at most.")
    temperature: float = Field(default=0.0, ge=0, description="0 is greedy.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Sample from the most likely tokens of this mass.")
    seed: int = Field(default=0, ge=0, description="Of the sampling; each prompt has its own stream.")
    batch: Count = Field(default=8, description="Prompts at a time.")
    threads: Count = Field(default=1, description="CPU threads.")


class InitializeJob(Frozen):
    """Weights before the first step."""

    model: ModelConfig
    output: str = Field(description="Folder to write: model.safetensors and config.json.")
    init: Literal["xavier_normal", "normal"] = Field(default="xavier_normal", description="As in TrainJob.")
    init_std: float = Field(default=0.006, gt=0, description="Standard deviation if init is normal.")
    seed: int = Field(default=0, ge=0, description="Of the weights.")


def write_job(job: Frozen, path: Path) -> Path:
    """Write `job` as JSON and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(job.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return path
