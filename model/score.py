"""Negative log-likelihood of texts: `python -P -m polylm.model.score job.json`. Gives bits per byte."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from polylm.kernels.cross_entropy import linear_cross_entropy
from polylm.model.checkpoint import load_weights
from polylm.model.config import ModelConfig, ScoreJob
from polylm.model.network import Network, load_into
from polylm.model.rank import beat

SCORES = pa.schema(
    [
        ("language", pa.string()),
        ("tokens", pa.int64()),  # that were scored: all but the first
        ("bytes", pa.int64()),
        ("nll", pa.float64()),  # nats, summed over the text
        ("bits_per_byte", pa.float64()),  # nll / ln 2 / bytes; null for a text of no bytes
    ]
)


@dataclass(frozen=True)
class Window:
    """A piece of a text: of `tokens`, those from `first` on are scored."""

    text: int
    tokens: list[int]
    first: int


def load_network(folder: str) -> tuple[ModelConfig, Network]:
    """Load a model folder in fp32, ready to score and generate; on the GPU where the launcher left one visible."""
    config, weights = load_weights(Path(folder))
    network = Network(config, document_mask=False)
    load_into(network, weights)
    return config, network.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def windows(text: int, tokens: list[int], context: int, stride: int) -> Iterator[Window]:
    """Cut a text into windows of at most `context` + 1 tokens, so that each token but the first is scored once."""
    scored = 1
    start = 0
    while scored < len(tokens):
        end = min(start + context + 1, len(tokens))
        yield Window(text, tokens[start:end], scored - start)
        scored = end
        start += stride


def score(job: ScoreJob) -> pa.Table:
    """Score every row of `job.rows`, in order; see `SCORES`."""
    config, network = load_network(job.model)
    table = _read(job, config)
    texts = table.column("tokens").to_pylist()
    stride = min(job.stride or max(1, config.context // 2), config.context)
    pieces = [piece for text, tokens in enumerate(texts) for piece in windows(text, tokens, config.context, stride)]
    pieces.sort(key=lambda piece: len(piece.tokens))  # little padding; the sums do not depend on the order
    nll = [0.0] * len(texts)
    for first in range(0, len(pieces), job.batch):
        beat()
        batch = pieces[first : first + job.batch]
        for piece, value in zip(batch, _nll(network, batch), strict=True):
            nll[piece.text] += value
    return _scores(table, nll)


def _nll(network: Network, batch: list[Window]) -> list[float]:
    longest = max(len(piece.tokens) for piece in batch)
    tokens = torch.tensor([piece.tokens + [0] * (longest - len(piece.tokens)) for piece in batch])
    weights = torch.zeros(len(batch), longest)
    for row, piece in enumerate(batch):
        weights[row, piece.first : len(piece.tokens)] = 1.0
    places = torch.arange(longest - 1).expand(len(batch), -1)
    buckets = torch.arange(len(batch)).repeat_interleave(longest - 1)
    device = network.lm_head.weight.device
    tokens, weights, places, buckets = (x.to(device) for x in (tokens, weights, places, buckets))
    with torch.inference_mode():
        hidden, _ = network.hidden_states(tokens[:, :-1], places, None)
        losses = linear_cross_entropy(
            hidden.flatten(0, 1),
            network.lm_head.weight,
            tokens[:, 1:].flatten(),
            weights[:, 1:].flatten(),
            total=1.0,
            buckets=buckets,
            bucket_count=len(batch),
        )
    nll: list[float] = losses.nll.tolist()
    return nll


def _read(job: ScoreJob, config: ModelConfig) -> pa.Table:
    table = pq.read_table(job.rows)
    if missing := {"tokens", "bytes", "language"} - set(table.column_names):
        raise ValueError(f"{job.rows}: has no column {sorted(missing)[0]}; expected tokens, bytes and language")
    for row, tokens in enumerate(table.column("tokens").to_pylist()):
        if tokens and not 0 <= min(tokens) <= max(tokens) < config.vocabulary:
            raise ValueError(
                f"{job.rows}, row {row}: tokens from {min(tokens)} to {max(tokens)}, "
                f"the model of {job.model} knows 0 to {config.vocabulary - 1}"
            )
    return table


def _scores(table: pa.Table, nll: list[float]) -> pa.Table:
    sizes = table.column("bytes").to_pylist()
    columns = {
        "language": table.column("language").to_pylist(),
        "tokens": [max(0, len(tokens) - 1) for tokens in table.column("tokens").to_pylist()],
        "bytes": sizes,
        "nll": nll,
        "bits_per_byte": [value / math.log(2) / size if size else None for value, size in zip(nll, sizes, strict=True)],
    }
    return pa.table(columns, schema=SCORES)


def write_aside(table: pa.Table, output: str) -> None:
    """Write a table under its name only when it is whole."""
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".tmp")
    pq.write_table(table, aside, compression="zstd")
    aside.replace(path)


def main() -> None:
    """Score the job named on the command line."""
    job = ScoreJob.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job.threads)
    write_aside(score(job), job.output)


if __name__ == "__main__":
    main()
