"""Continuations of prompts: `python -P -m polylm.model.generate job.json`. Greedy or top-p, with a key-value cache."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from polylm.model.config import GenerateJob, ModelConfig
from polylm.model.network import Cache, Network
from polylm.model.rank import beat
from polylm.model.score import load_network, write_aside

TEXTS = pa.schema([("tokens", pa.list_(pa.int32())), ("stopped", pa.string())])


@dataclass
class Text:
    """A prompt and what came of it. `stopped`: end (the end token came), length (max_new) or context (full)."""

    row: int
    prompt: list[int]
    generator: torch.Generator
    new: list[int] = field(default_factory=list)
    stopped: str | None = None


def generate(job: GenerateJob) -> pa.Table:
    """Continue every prompt, in order; see `TEXTS`. A prompt's text does not depend on what it is batched with.

    Prompts of equal length share a batch, so that there is no padding to mask.
    """
    config, network = load_network(job.model)
    texts = _read(job, config)
    by_length = sorted(texts, key=lambda text: len(text.prompt))
    with torch.inference_mode():
        while by_length:
            length = len(by_length[0].prompt)
            batch = [text for text in by_length[: job.batch] if len(text.prompt) == length]
            by_length = by_length[len(batch) :]
            _continue(network, batch, config.context, job)
    return pa.table({"tokens": [text.new for text in texts], "stopped": [text.stopped for text in texts]}, schema=TEXTS)


def _continue(network: Network, batch: list[Text], context: int, job: GenerateJob) -> None:
    device = network.lm_head.weight.device
    inputs = torch.tensor([text.prompt for text in batch], device=device)
    past: Cache | None = None
    start = 0
    while batch:
        beat()
        places = torch.arange(start, start + inputs.shape[1], device=device).expand(len(batch), -1)
        mask = None if past is None else torch.ones(1, 1, 1, start + 1, dtype=torch.bool, device=device)
        hidden, past = network.hidden_states(inputs, places, mask, past)
        start += inputs.shape[1]
        logits = network.logits(hidden[:, -1]).cpu()
        for text, row in zip(batch, logits, strict=True):
            _take(text, _choose(row, text.generator, job), start, context, job)
        keep = [number for number, text in enumerate(batch) if text.stopped is None]
        past = [(keys[keep], values[keep]) for keys, values in past]
        batch = [batch[number] for number in keep]
        inputs = torch.tensor([[text.new[-1]] for text in batch], device=device)


def _take(text: Text, token: int, start: int, context: int, job: GenerateJob) -> None:
    if token == job.end:
        text.stopped = "end"
        return
    text.new.append(token)
    if len(text.new) == job.max_new:
        text.stopped = "length"
    elif start == context:
        text.stopped = "context"


def _choose(logits: Tensor, generator: torch.Generator, job: GenerateJob) -> int:
    """Pick the likeliest token, or sample from the smallest set of likely ones with mass top_p."""
    if job.temperature == 0:
        return int(logits.argmax())
    likely, order = (logits.double() / job.temperature).softmax(0).sort(descending=True, stable=True)
    before = likely.cumsum(0) - likely
    likely = likely.masked_fill(before >= job.top_p, 0.0)  # the first always stays: nothing is before it
    return int(order[torch.multinomial(likely, 1, generator=generator)])


def _read(job: GenerateJob, config: ModelConfig) -> list[Text]:
    prompts = pq.read_table(job.prompts, columns=["tokens"]).column("tokens").to_pylist()
    for row, prompt in enumerate(prompts):
        if not prompt or len(prompt) > config.context:
            raise ValueError(f"{job.prompts}, row {row}: {len(prompt)} tokens, expected 1 to {config.context}")
        if not 0 <= min(prompt) <= max(prompt) < config.vocabulary:
            raise ValueError(f"{job.prompts}, row {row}: a token is outside 0 to {config.vocabulary - 1}")
    return [
        Text(row, prompt, torch.Generator().manual_seed(job.seed * 1_000_003 + row))
        for row, prompt in enumerate(prompts)
    ]


def main() -> None:
    """Run the job named on the command line."""
    job = GenerateJob.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job.threads)
    write_aside(generate(job), job.output)


if __name__ == "__main__":
    main()
