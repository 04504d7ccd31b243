"""Curves of several series over one axis, each with a range round it where there is one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from polylm.dashboard.charts.svg import (
    PALETTE,
    Format,
    Place,
    chart,
    element,
    legend,
    line,
    powers,
    px,
    scale,
    text,
    ticks,
)
from polylm.dashboard.view import number, short_count

LEFT, BOTTOM = 52.0, 34.0
MAX_POINTS = 1_200  # of a series that are drawn


@dataclass(frozen=True)
class Series:
    """One curve. NaN and None break it. `low` and `high` are a range round it (an error, a minimum and maximum)."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


def lines(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    x_form: Format = short_count,
    y_form: Format = number,
    log: bool = False,
    from_zero: bool = False,
    marks: Sequence[tuple[float, str]] = (),
    width: float = 640,
    height: float = 240,
) -> Markup:
    """Curves of several series; `marks` are vertical lines with a label (a skipped step, the end of a segment).

    Long series are thinned to 1,200 points, of which the lowest and highest of every stretch stay.
    """
    values = [v for one in series for v in (*one.y, *one.low, *one.high) if v is not None and _is_drawn(v, log)]
    places = [v for one in series for v in one.x]
    if not values or not places:
        return chart(width, 40, title, [text(0, 24, "Nothing to draw yet.", "axis")])
    head, head_height = legend([one.name for one in series] if len(series) > 1 else [], LEFT, 12, width - LEFT)
    top, base = head_height + (14 if y_label else 8), height - BOTTOM
    low, high = _range(values, log=log, from_zero=from_zero)
    x = scale(min(places), max(places), LEFT, width - 12)
    y = scale(low, high, base, top, log=log)
    drawn = [*head, *_axes(low, high, places, x, y, x_form, y_form, base, width, log)]
    if y_label:
        drawn.append(text(0, top - 4, y_label, "axis"))
    drawn.append(text(width - 12, height - 3, x_label, "axis", "end"))
    for at, label in marks:
        drawn += [line(x(at), top, x(at), base, "threshold"), text(x(at) + 3, top + 10, label, "threshold-label")]
    for index, one in enumerate(series):
        drawn += _curve(one, index % PALETTE, x, y, log)
    return chart(width, height, title, drawn)


def _range(values: Sequence[float], *, log: bool, from_zero: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if log:
        return (low, high) if high > low else (low / 2, high * 2)
    low = min(0.0, low) if from_zero else low
    room = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return (low if from_zero and low == 0 else low - room), high + room


def _axes(
    low: float, high: float, places: Sequence[float], x: Place, y: Place, x_form: Format, y_form: Format,
    base: float, width: float, log: bool,
) -> list[Markup]:  # fmt: skip
    drawn = []
    levels = powers(low, high) if log else []
    for value in levels if len(levels) > 1 else ticks(low, high, 4):
        drawn += [
            line(LEFT, y(value), width - 12, y(value), "grid-line"),
            text(LEFT - 6, y(value) + 4, y_form(value), "tick", "end"),
        ]
    steps = ticks(min(places), max(places), max(2, int((width - LEFT) / 90)))
    drawn += [text(x(value), base + 15, x_form(value), "tick", "middle") for value in steps]
    return drawn


def _curve(one: Series, colour: int, x: Place, y: Place, log: bool) -> list[Markup]:
    drawn = []
    kept = _thinned(one.y)
    if one.low and one.high:
        ends = [i for i in kept if _is_drawn(one.low[i], log) and _is_drawn(one.high[i], log)]
        outline = [(x(one.x[i]), y(one.high[i] or 0.0)) for i in ends]
        outline += [(x(one.x[i]), y(one.low[i] or 0.0)) for i in reversed(ends)]
        points = " ".join(f"{px(a)},{px(b)}" for a, b in outline)
        drawn.append(element("polygon", points=points, class_=f"range s{colour}"))
    path, pen = [], "M"
    for i in kept:
        value = one.y[i]
        if value is None or not _is_drawn(value, log):
            pen = "M"
            continue
        path.append(f"{pen}{px(x(one.x[i]))},{px(y(value))}")
        pen = "L"
    drawn.append(element("path", element("title", one.name), d=" ".join(path), class_=f"line s{colour}"))
    if len(path) == 1:
        (at,) = (i for i in kept if _is_drawn(one.y[i], log))
        drawn.append(element("circle", cx=x(one.x[at]), cy=y(one.y[at] or 0.0), r=3, class_=f"s{colour}"))
    return drawn


def _thinned(values: Sequence[float | None]) -> list[int]:
    """Indices of at most MAX_POINTS values: the lowest and the highest of every stretch, so that no spike is lost."""
    if len(values) <= MAX_POINTS:
        return list(range(len(values)))
    stretch = math.ceil(len(values) * 2 / MAX_POINTS)
    kept: set[int] = {0, len(values) - 1}
    for start in range(0, len(values), stretch):
        known = [
            (v, i)
            for i, v in enumerate(values[start : start + stretch], start)
            if v is not None and _is_drawn(v, False)
        ]
        kept |= {min(known)[1], max(known)[1]} if known else {start}
    return sorted(kept)


def _is_drawn(value: float | None, log: bool) -> bool:
    return value is not None and math.isfinite(value) and (value > 0 or not log)
