"""The head's loss against a dense fp64 one, and against the native op in the working precision."""

import pytest
import torch
import torch.nn.functional as functional

from polylm.kernels.cross_entropy import linear_cross_entropy

SHAPES = [(1, 2, 1), (7, 13, 5), (33, 509, 31), (64, 257, 48)]


def problem(n, v, d, dtype=torch.float32, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, d, generator=generator).mul(scale).to(dtype).requires_grad_()
    weight = torch.randn(v, d, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(0, v, (n,), generator=generator)
    weights = (torch.rand(n, generator=generator) > 0.3).float()
    buckets = torch.randint(0, 3, (n,), generator=generator)
    return hidden, weight, targets, weights, buckets


def dense(hidden, weight, targets, weights, total, z_loss=0.0, dtype=torch.float64):
    hidden, weight = (x.detach().to(dtype).requires_grad_() for x in (hidden, weight))
    logits = hidden @ weight.t()
    nll = functional.cross_entropy(logits, targets, reduction="none")
    loss = (weights.to(dtype) * (nll + z_loss * logits.logsumexp(1) ** 2)).sum() / total
    loss.backward()
    return loss.detach(), hidden.grad, weight.grad, nll.detach()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
@pytest.mark.parametrize("rows", [1, 5, None])
def test_equals_the_dense_loss_and_gradients(shape, z_loss, rows):
    hidden, weight, targets, weights, buckets = problem(*shape)
    total = 2 * shape[0]
    out = linear_cross_entropy(
        hidden, weight, targets, weights, total=total, buckets=buckets, bucket_count=3, z_loss=z_loss, rows=rows
    )
    (out.loss * 3).backward()
    loss, grad_hidden, grad_weight, _ = dense(hidden, weight, targets, weights, total, z_loss)
    torch.testing.assert_close(out.loss.double(), loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(hidden.grad.double(), 3 * grad_hidden, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weight.grad.double(), 3 * grad_weight, rtol=1e-4, atol=1e-6)


def test_bucket_sums_are_the_sums_of_their_rows_and_add_up_to_the_loss():
    hidden, weight, targets, weights, buckets = problem(200, 97, 16)
    out = linear_cross_entropy(
        hidden, weight, targets, weights, total=float(weights.sum()), buckets=buckets, bucket_count=4
    )
    nll = dense(hidden, weight, targets, weights, 1.0)[3] * weights.double()
    for bucket in range(4):
        assert out.nll[bucket].item() == pytest.approx(nll[buckets == bucket].sum().item(), rel=1e-6)
        assert out.counts[bucket].item() == weights[buckets == bucket].sum().item()
    assert (out.nll.sum() / out.counts.sum()).item() == pytest.approx(out.loss.item(), rel=1e-6)


def test_rows_without_weight_give_neither_loss_nor_gradient_whatever_their_target():
    hidden, weight, _, _, buckets = problem(9, 11, 4)
    out = linear_cross_entropy(
        hidden, weight, torch.full((9,), -100), torch.zeros(9), total=1.0, buckets=buckets, bucket_count=3
    )
    out.loss.backward()
    assert out.loss.item() == 0.0
    assert not hidden.grad.any()
    assert not weight.grad.any()


def test_a_large_common_offset_does_not_eat_the_differences():
    """A shared component of 1e4 in every logit is what a drifting head looks like; fp32 still tells them apart."""
    torch.manual_seed(0)
    logits = torch.randint(-64, 64, (20, 50)) / 16
    hidden = torch.eye(20)
    targets = torch.randint(0, 50, (20,))
    weight = (logits + 10_000).t().contiguous()
    out = linear_cross_entropy(
        hidden, weight, targets, torch.ones(20), total=20, buckets=torch.zeros(20, dtype=torch.int64), bucket_count=1
    )
    wanted = functional.cross_entropy(logits.double(), targets)
    assert out.loss.item() == pytest.approx(wanted.item(), rel=1e-6)


@pytest.mark.parametrize("rows", [7, 64])
def test_in_bf16_is_never_worse_than_the_native_op(rows):
    hidden, weight, targets, weights, buckets = problem(64, 1031, 48, torch.bfloat16, scale=0.3)
    out = linear_cross_entropy(hidden, weight, targets, weights, total=64, buckets=buckets, bucket_count=3, rows=rows)
    out.loss.backward()
    truth = dense(hidden, weight, targets, weights, 64)
    native = dense(hidden, weight, targets, weights, 64, dtype=torch.bfloat16)
    for ours, theirs, exact in zip((out.loss, hidden.grad, weight.grad), native, truth, strict=False):
        error = (ours.double() - exact).norm()
        native_error = (theirs.double() - exact).norm()
        assert error <= 1.05 * native_error + 1e-6


def test_without_gradients_gives_the_same_loss():
    hidden, weight, targets, weights, buckets = problem(12, 40, 8)
    kwargs = {"total": 12.0, "buckets": buckets, "bucket_count": 3}
    with_grad = linear_cross_entropy(hidden, weight, targets, weights, **kwargs)
    with torch.no_grad():
        without = linear_cross_entropy(hidden.detach(), weight.detach(), targets, weights, **kwargs)
    assert without.loss.item() == with_grad.loss.item()


def test_names_a_counted_target_outside_the_vocabulary():
    hidden, weight, targets, _, buckets = problem(3, 5, 2)
    targets[1] = 5
    with pytest.raises(ValueError, match="target 5 is outside a vocabulary of 5 entries"):
        linear_cross_entropy(hidden, weight, targets, torch.ones(3), total=3, buckets=buckets, bucket_count=3)
