"""Cross-entropy of a linear head that never holds all logits.

Gradients are computed in the forward pass, slab by slab, so the head costs 6 N V d operations (a recomputing one
costs 8) and the memory of one slab of logits. Statistics are fp32 whatever the inputs are. Liger's default of 256
rows a slab reads the weight 64 times at our shape and halves the throughput; the default here is a slab of at
most 2^28 logits (1 GiB).
"""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

_SLAB_LOGITS = 1 << 28

Group = Any  # a torch.distributed.ProcessGroup, whose type stubs leave open


class Losses(NamedTuple):
    """What a slab-wise pass over the head gives."""

    loss: Tensor
    """Scalar, differentiable: (sum of weights x (nll + z_loss x logsumexp^2)) / total."""
    nll: Tensor
    """buckets, float64: weighted nll of each bucket, in nats, summed."""
    counts: Tensor
    """buckets, float64: weights of each bucket, summed."""
    z_loss: Tensor
    """Scalar, float64: weighted logsumexp^2, summed, without its factor."""


class _Slab(NamedTuple):
    """Statistics of some rows, and the gradient of their loss by their logits (times total)."""

    nll: Tensor
    logsumexp: Tensor
    grad_logits: Tensor


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    total: float,
    buckets: Tensor,
    bucket_count: int,
    z_loss: float = 0.0,
    rows: int | None = None,
    group: Group = None,
    first_entry: int = 0,
) -> Losses:
    """Give the loss of `hidden @ weight.T` against `targets`, with sums for each bucket (a language, say).

    hidden: (n, d). weight: (v, d), all entries of the vocabulary or, with `group`, this rank's: those from
    `first_entry`. targets: (n,) ids in the whole vocabulary, any value where the weight is 0. weights: (n,)
    float, 0 for rows that give no loss. total: what the sum is divided by; the tokens of the global batch, so
    that micro-batches and ranks add up. buckets: (n,) numbers below bucket_count. rows: rows of a slab.

    With `group` every rank passes equal hidden, targets and weights, gets equal losses, and the gradient of
    hidden is summed over the group. Raises `ValueError` for a counted target outside the vocabulary.
    """
    if group is None:
        _check_targets(targets, weights, weight.shape[0])
    slab_rows = rows or max(1, _SLAB_LOGITS // weight.shape[0])
    outputs: tuple[Tensor, ...] = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, weight, targets, weights, total, buckets, bucket_count, z_loss, slab_rows, group, first_entry
    )
    return Losses(*outputs)


def _check_targets(targets: Tensor, weights: Tensor, entries: int) -> None:
    wrong = (weights > 0) & ((targets < 0) | (targets >= entries))
    if bool(wrong.any()):
        raise ValueError(f"target {int(targets[wrong][0])} is outside a vocabulary of {entries} entries")


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        weights: Tensor,
        total: float,
        buckets: Tensor,
        bucket_count: int,
        z_loss: float,
        slab_rows: int,
        group: Group,
        first_entry: int,
    ) -> tuple[Tensor, ...]:
        wants_grad = hidden.requires_grad or weight.requires_grad
        grad_hidden = torch.zeros_like(hidden, dtype=torch.float32) if wants_grad else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_grad else None
        nll = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        logsumexp = torch.empty_like(nll)
        for start in range(0, len(hidden), slab_rows):
            here = slice(start, start + slab_rows)
            slab = _slab(hidden[here], weight, targets[here], weights[here], z_loss, group, first_entry)
            nll[here], logsumexp[here] = slab.nll, slab.logsumexp
            if grad_hidden is not None and grad_weight is not None:
                grad_logits = slab.grad_logits.div_(total).to(hidden.dtype)
                _add_product(grad_weight, grad_logits.t(), hidden[here])
                _add_product(grad_hidden[here], grad_logits, weight)
        if grad_hidden is not None and grad_weight is not None:
            if group is not None:
                dist.all_reduce(grad_hidden, group=group)
            ctx.gradients = (grad_hidden.to(hidden.dtype), grad_weight.to(weight.dtype))
        sums = _sums(nll, logsumexp, weights, buckets, bucket_count)
        loss = ((sums[0].sum() + z_loss * sums[2]) / total).float()
        ctx.mark_non_differentiable(*sums)
        return (loss, *sums)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.gradients
        # In place: a second copy of the weight's gradient would be as large as the weight.
        return (grad_hidden.mul_(grad_loss), grad_weight.mul_(grad_loss), *[None] * 9)


def _slab(
    hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, z_loss: float, group: Group, first_entry: int
) -> _Slab:
    """Go over the logits of some rows: three passes in place, and one reduction over the group."""
    logits = (hidden @ weight.t()).float()
    top = logits.amax(dim=1)
    if group is not None:
        dist.all_reduce(top, op=dist.ReduceOp.MAX, group=group)
    logits.sub_(top[:, None])
    local = targets - first_entry
    mine = ((local >= 0) & (local < weight.shape[0]) & (weights > 0))[:, None]
    local = local.clamp(0, weight.shape[0] - 1)[:, None]
    target_logit = logits.gather(1, local).masked_fill_(~mine, 0.0)[:, 0]
    stats = torch.stack([logits.exp_().sum(dim=1), target_logit])
    if group is not None:
        dist.all_reduce(stats, group=group)
    sum_exp, target_logit = stats.unbind()
    # The logarithm and the top are kept apart: added, a large common offset would eat the small difference.
    log_sum = sum_exp.log()
    logsumexp = log_sum + top
    logits.mul_((weights * (1 + 2 * z_loss * logsumexp) / sum_exp)[:, None])
    logits.scatter_add_(1, local, torch.where(mine[:, 0], -weights, 0.0)[:, None])
    return _Slab(log_sum - target_logit, logsumexp, logits)


def _add_product(accumulator: Tensor, left: Tensor, right: Tensor) -> None:
    """Add `left @ right` to fp32: sums over slabs in bf16 would drop what comes late."""
    if left.dtype == torch.float32:
        accumulator.addmm_(left, right)
    else:
        accumulator.add_(left @ right)


def _sums(nll: Tensor, logsumexp: Tensor, weights: Tensor, buckets: Tensor, count: int) -> tuple[Tensor, ...]:
    zeros = torch.zeros(count, dtype=torch.float64, device=nll.device)
    exact = weights.double()
    # A weight of 0 must silence an infinite nll too, and 0 x inf is not a number.
    counted = exact > 0
    by_bucket = zeros.index_add(0, buckets, torch.where(counted, exact * nll.double(), 0.0))
    squares = torch.where(counted, exact * logsumexp.double() ** 2, 0.0).sum()
    return by_bucket, zeros.index_add(0, buckets, exact), squares
