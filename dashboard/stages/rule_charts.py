"""One rule of a gate as a picture: the histogram of its values with its threshold, what it rejects in another colour."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from markupsafe import Markup

from polylm.dashboard import charts
from polylm.dashboard.charts.svg import ticks
from polylm.dashboard.view import number
from polylm.tasks.rules import Rule

BINS = 40
SHOWN_LABELS = 8
WIDTH, HEIGHT = 330.0, 118.0
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RuleChart:
    """`bound` in words; `low` to `high` is what a slider spans, in steps of `step`; `draw` takes a threshold as `moved=`."""

    chart: Markup
    bound: str
    is_off: bool
    low: float = 0.0
    high: float = 1.0
    step: float = 0.005
    is_log: bool = False
    draw: Callable[..., Markup] | None = None

    def moved_to(self, threshold: float | None) -> Markup:
        """The same with another threshold; None is off."""
        return self.draw(moved=np.nan if threshold is None else threshold) if self.draw else self.chart


def rule_chart(name: str, rule: Rule) -> RuleChart:
    """The values of the rows that a gate was asked about."""
    if rule.side == "one_of":
        return _of_labels(name, rule)
    value = np.asarray(rule.value, np.float64)
    bound = np.broadcast_to(np.asarray(rule.bound, np.float64), value.shape)
    known = np.isfinite(value)
    bounds = np.unique(bound[np.isfinite(bound)])
    word = "at least" if rule.side == "at_least" else "at most"
    told = _told(word, bounds)
    if not known.any():
        return RuleChart(Markup(""), told, not len(bounds))
    edges, is_log = _edges(value[known], bounds)
    counts = _counts(value[known], edges)
    draw = partial(
        charts.histogram,
        list(edges),
        list(counts),
        title=f"Values of {name}",
        thresholds=[("min" if rule.side == "at_least" else "max", float(one)) for one in bounds]
        if len(bounds) < 3
        else (),
        rejected=list(_counts(value[rule.broken], edges)),
        log_values=is_log,
        log_counts=bool(counts.max() > 20 * max(1.0, float(np.median(counts[counts > 0])))),
        width=WIDTH,
        height=HEIGHT,
    )
    return RuleChart(draw(), told, not len(bounds), *_span(value[known], edges, bounds), is_log, draw)


def _told(word: str, bounds: Floats) -> str:
    if not len(bounds):
        return "off"
    if len(bounds) == 1:
        return f"{word} {number(float(bounds[0]))}"
    return f"{word} {number(float(bounds[0]))} to {number(float(bounds[-1]))}, by language"


def _edges(values: Floats, bounds: Floats) -> tuple[Floats, bool]:
    """From one value in a thousand to all but one, and the threshold where it is not far off; powers where values
    spread over several."""
    low, middle, high = (float(q) for q in np.quantile(values, (0.001, 0.5, 0.999)))
    reach = (high - low) or 1.0
    near = [float(b) for b in bounds if low - reach <= b <= high + reach]
    low, high = min([low, *near]), max([high, *near])
    if high <= low:
        low, high = low - 0.5, low + 0.5
    if low >= 0 and middle > 1 and high / middle > 12:
        return np.geomspace(max(low, 1.0), high, BINS + 1), True
    whole = bool((values == np.rint(values)).all()) and near == [round(b) for b in near]
    if whole and high - low < BINS:
        return np.arange(np.floor(low) - 0.5, np.ceil(high) + 1.0), False
    return np.linspace(low, high, BINS + 1), False


def _counts(values: Floats, edges: Floats) -> npt.NDArray[np.int64]:
    """Values beyond the ends count in the outer bins, so that nothing that is rejected is out of sight."""
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]


def _span(values: Floats, edges: Floats, bounds: Floats) -> tuple[float, float, float]:
    low, high = min([float(edges[0]), *bounds]), max([float(edges[-1]), *bounds])
    low = max(low, 0.0) if values.min() >= 0 else low
    whole = bool((values == np.rint(values)).all()) and high - low >= 4
    steps = ticks(0.0, high - low, 200)
    step = steps[1] - steps[0] if len(steps) > 1 else (high - low) / 200
    step = max(1.0, round(step)) if whole else step
    return float(np.floor(low / step) * step), float(np.ceil(high / step) * step), float(f"{step:.6g}")


def _of_labels(name: str, rule: Rule) -> RuleChart:
    found = pc.value_counts(pc.drop_null(rule.value)).to_pylist()
    ranked = sorted(((str(one["values"]), one["counts"]) for one in found), key=lambda item: (-item[1], item[0]))
    allowed = set(rule.bound)
    bars = [charts.Bar(label, count, kind="" if label in allowed else "lost") for label, count in ranked[:SHOWN_LABELS]]
    told = f"one of {len(rule.bound)} labels"
    return RuleChart(charts.bars(bars, title=f"Labels of {name}", width=WIDTH) if bars else Markup(""), told, False)
