"""When a step is not taken: OLMo's SkipStep, on the summed loss and the global norm, so all ranks agree."""

import math
from collections import deque
from typing import Any

import torch

from polylm.model.config import Guard


class SpikeGuard:
    """Judges each step by the last losses and gradient norms; what it skipped is kept as history too.

    Skips what is not finite, always; and, once `minimum` values are known, a loss or norm above
    mean + `deviations` standard deviations of the `window` values before (OLMo-core, SkipStepOptimizer).
    """

    def __init__(self, rule: Guard) -> None:
        self._rule = rule
        self._losses: deque[float] = deque(maxlen=rule.window)
        self._norms: deque[float] = deque(maxlen=rule.window)

    def judge(self, loss: float, norm: float) -> str | None:
        """Say why this step must be skipped, or None; remembers the values if they are finite."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return "not finite"
        reason = None
        if self._is_spike(self._losses, loss):
            reason = "loss spike"
        elif self._is_spike(self._norms, norm):
            reason = "gradient spike"
        self._losses.append(loss)
        self._norms.append(norm)
        return reason

    def state(self) -> dict[str, list[float]]:
        """Give what a checkpoint must hold."""
        return {"losses": list(self._losses), "norms": list(self._norms)}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Go on from `state`."""
        self._losses.extend(state["losses"])
        self._norms.extend(state["norms"])

    def _is_spike(self, history: deque[float], value: float) -> bool:
        if len(history) < self._rule.minimum:
            return False
        mean = math.fsum(history) / len(history)
        variance = math.fsum((past - mean) ** 2 for past in history) / (len(history) - 1)
        return value > mean + self._rule.deviations * math.sqrt(variance)


class GuardedAdamW(torch.optim.AdamW):
    """AdamW that asks before each step. A client optimizer, so DeepSpeed compiles no FusedAdam.

    DeepSpeed has the global gradient norm ready before it calls `step`, once for each parameter group and
    rank: the answer is decided at the first call and kept until `begin`. A skipped step leaves weights,
    moments and Adam's own step count as they were.
    """

    def __init__(self, groups: list[dict[str, Any]], guard: SpikeGuard, **kwargs: Any) -> None:
        super().__init__(groups, **kwargs)
        self.guard = guard
        self._loss = math.nan
        self._decided = False
        self.skipped: str | None = None
        self.norm_of: Any = None  # a function that reads the engine's gradient norm, set once the engine exists

    def begin(self, loss: float) -> None:
        """Tell the loss of the step that comes next."""
        self._loss, self._decided, self.skipped = loss, False, None

    def finish(self) -> str | None:
        """Say why the step was skipped, or None. DeepSpeed skips what overflows without asking."""
        if not self._decided:
            self._decide()
            self.skipped = self.skipped or "not finite"
        return self.skipped

    def step(self, closure: Any = None) -> Any:
        """Take the step unless the guard objects."""
        if not self._decided:
            self._decide()
        return super().step(closure) if self.skipped is None else None

    def _decide(self) -> None:
        self._decided = True
        self.skipped = self.guard.judge(self._loss, float(self.norm_of()))
