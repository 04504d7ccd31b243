"""The network on one page: a GPT-2 of plain linear layers and embeddings (PolyLM 3.2).

Pre-LN, learned positions, tanh GELU, biases, tied embeddings, no dropout. The paper prints
y = x + LayerNorm(f(x)); its code and its released weights are x + f(LayerNorm(x)), and so is this.

DeepSpeed's AutoTP rewrites attributes called num_heads, hidden_size, embed_dim and the like, so a head count is
derived from a weight's shape and the size of a head.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polylm.kernels.cross_entropy import Losses, linear_cross_entropy
from polylm.model.config import ModelConfig

NORM_EPS = 1e-5

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values of every block, each (batch, head, time, size)."""


class Batch(NamedTuple):
    """A micro-batch as tensors; all but the scalars are (batch, time)."""

    ids: Tensor
    targets: Tensor
    weights: Tensor
    """1 where the target gives a loss, else 0."""
    buckets: Tensor
    """Number of the target's language."""
    segments: Tensor
    """Number of the document of the row, to which attention is limited if the mask is on."""
    positions: Tensor
    total: Tensor
    """What the summed loss is divided by."""


class Norm(nn.Module):
    """LayerNorm in fp32, given out in the precision of its weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        out = functional.layer_norm(x.float(), x.shape[-1:], self.weight.float(), self.bias.float(), NORM_EPS)
        return out.to(self.weight.dtype)


class Attention(nn.Module):
    """Causal self-attention. The fused kernels keep the softmax in fp32 for every input precision."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.size_of_head = size
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Any]:
        query, key, value = (self._heads(layer(x)) for layer in (self.query, self.key, self.value))
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
        # Contiguous: AutoTP's row-parallel layer reduces a copy of an input that is not.
        return self.output(mixed.transpose(1, 2).flatten(2).contiguous()), (key, value)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], -1, self.size_of_head).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers round a tanh GELU."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.down(functional.gelu(self.up(x), approximate="tanh")))


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)); the sum keeps the precision of x."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm_attention = Norm(config.width)
        self.attention = Attention(config.width, config.width // config.heads)
        self.norm_feed_forward = Norm(config.width)
        self.feed_forward = FeedForward(config.width, config.feed_forward)

    def forward(self, x: Tensor, mask: Tensor | None, past: Any) -> tuple[Tensor, Any]:
        mixed, present = self.attention(self.norm_attention(x), mask, past)
        x = x + mixed.to(x.dtype)
        return x + self.feed_forward(self.norm_feed_forward(x)).to(x.dtype), present


class Network(nn.Module):
    """Called with the fields of a `Batch` it gives `Losses`; `hidden_states` and `logits` serve scoring and generation.

    `languages` counts the loss buckets. `parallel` sets `group` and `first_entry` where ranks share the vocabulary.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        languages: int = 1,
        residual_fp32: bool = True,
        document_mask: bool = True,
        z_loss: float = 0.0,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = Norm(config.width)
        # AutoTP looks for a linear layer of this name; only its weight is used.
        self.lm_head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.lm_head.weight = self.tokens.weight
        self.languages = languages
        self.residual_fp32 = residual_fp32
        self.document_mask = document_mask
        self.z_loss = z_loss
        self.recompute = recompute
        self.group: Any = None
        self.first_entry = 0
        self.loss_function: Callable[..., Any] | None = None  # AutoTP wants to write one; it is never called

    def forward(self, *fields: Tensor) -> Losses:
        """Give the losses of a `Batch`, whose fields come one by one: DeepSpeed compares them between ranks."""
        batch = Batch(*fields)
        mask = document_mask(batch.segments) if self.document_mask else None
        hidden, _ = self.hidden_states(batch.ids, batch.positions, mask)
        return linear_cross_entropy(
            hidden.flatten(0, 1),
            self.lm_head.weight,
            batch.targets.flatten(),
            batch.weights.flatten(),
            total=float(batch.total),
            buckets=batch.buckets.flatten(),
            bucket_count=self.languages,
            z_loss=self.z_loss,
            group=self.group,
            first_entry=self.first_entry,
        )

    def hidden_states(
        self, ids: Tensor, positions: Tensor, mask: Tensor | None, past: Cache | None = None
    ) -> tuple[Tensor, Cache]:
        """Give what the head sees, (batch, time, width), and the cache to go on from; mask None is causal."""
        x = self.tokens(ids) + self.positions(positions)
        if self.residual_fp32:
            x = x.float()
        present = []
        for number, block in enumerate(self.blocks):
            cached = None if past is None else past[number]
            if self.recompute and self.training:
                x, pair = checkpoint(block, x, mask, cached, use_reentrant=False)
            else:
                x, pair = block(x, mask, cached)
            present.append(pair)
        return self.norm(x), present

    def logits(self, hidden: Tensor) -> Tensor:
        """Give fp32 logits of some hidden states."""
        return (hidden @ self.lm_head.weight.t()).float()


def document_mask(segments: Tensor) -> Tensor:
    """True where attention may look: at earlier tokens of the same segment. (batch, 1, time, time)."""
    same = segments[:, None, :, None] == segments[:, None, None, :]
    return same.tril()


def initialize(network: Network, *, kind: str, std: float, seed: int) -> None:
    """Draw the weights on the CPU, so that every rank and every layout starts from the same ones."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if parameter.dim() < 2:
            nn.init.constant_(parameter, 1.0 if "norm" in name and name.endswith("weight") else 0.0)
        elif kind == "xavier_normal":
            nn.init.xavier_normal_(parameter, generator=generator)
        else:
            nn.init.normal_(parameter, std=std, generator=generator)


def load_into(network: Network, weights: dict[str, Tensor]) -> None:
    """Copy consolidated weights into a network; the head stays tied."""
    network.load_state_dict({**weights, "lm_head.weight": weights["tokens.weight"]})
