"""Which steps are not taken."""

import math

import pytest
import torch

from polylm.model.config import Guard
from polylm.model.guard import GuardedAdamW, SpikeGuard


def guard_with(count, rule=None):
    guard = SpikeGuard(rule or Guard(window=16, minimum=8, deviations=6))
    for number in range(count):
        assert guard.judge(2.0 + 0.1 * (-1) ** number, 1.0 + 0.1 * (-1) ** number) is None
    return guard


def test_judges_only_after_enough_values():
    assert guard_with(7).judge(50.0, 1.0) is None
    assert guard_with(8).judge(50.0, 1.0) == "loss spike"
    assert guard_with(8).judge(2.0, 50.0) == "gradient spike"


def test_the_limit_is_six_standard_deviations_of_the_values_before():
    deviation = math.sqrt(16 * 0.01 / 15)
    assert guard_with(16).judge(2.0 + 5.9 * deviation, 1.0) is None
    assert guard_with(16).judge(2.0 + 6.1 * deviation, 1.0) == "loss spike"
    assert guard_with(16).judge(-100.0, 0.0) is None  # falling is welcome


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan), (2.0, math.inf)])
def test_what_is_not_finite_is_skipped_at_once_and_does_not_spoil_the_history(loss, norm):
    guard = guard_with(0)
    assert guard.judge(loss, norm) == "not finite"
    assert guard.state() == {"losses": [], "norms": []}


def test_goes_on_from_its_state():
    restored = SpikeGuard(Guard(window=16, minimum=8, deviations=6))
    restored.restore(guard_with(20).state())
    assert len(restored.state()["losses"]) == 16
    assert restored.judge(50.0, 1.0) == "loss spike"


def test_a_skipped_step_leaves_weights_moments_and_step_count_alone():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = GuardedAdamW([{"params": [weight]}], guard_with(0), lr=0.1)
    norms = iter([1.0, math.nan, 1.0])
    optimizer.norm_of = lambda: next(norms)
    reasons, weights = [], []
    for _ in range(3):
        optimizer.begin(2.0)
        weight.grad = torch.ones(3)
        optimizer.step()
        reasons.append(optimizer.finish())
        weights.append(weight.detach().clone())
    assert reasons == [None, "not finite", None]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert optimizer.state[weight]["step"] == 2


def test_a_step_that_deepspeed_skips_by_itself_is_counted():
    optimizer = GuardedAdamW([{"params": [torch.nn.Parameter(torch.ones(1))]}], guard_with(0), lr=0.1)
    optimizer.norm_of = lambda: math.inf
    optimizer.begin(2.0)
    assert optimizer.finish() == "not finite"
