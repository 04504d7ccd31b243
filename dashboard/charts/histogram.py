"""A histogram with its thresholds drawn in."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from polylm.dashboard.charts.svg import Format, Place, chart, element, line, powers, rect, scale, text, ticks
from polylm.dashboard.view import count, number, short_count

LEFT, BOTTOM, TOP = 44.0, 20.0, 18.0
SEEN = 2.0  # pixels of the lowest bar of what is rejected: few of many must not vanish


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    *,
    title: str,
    thresholds: Sequence[tuple[str, float]] = (),
    moved: float | None = None,
    rejected: Sequence[float] = (),
    log_values: bool = False,
    log_counts: bool = False,
    form: Format = number,
    width: float = 420,
    height: float = 150,
) -> Markup:
    """Counts between `edges` (one more of them than counts), `rejected` of each bin in another colour at its foot.

    `moved` is a threshold that is tried in place of these, which fade; NaN is none. What the axis spans is said with the
    thresholds, for the script that moves one (stage.js).
    `log_values` needs positive edges; `log_counts` shows 1 at a tenth of the height and nothing for 0.
    """
    assert len(edges) == len(counts) + 1, f"{len(edges)} edges for {len(counts)} counts"
    base = height - BOTTOM
    top = max([*counts, 1])
    x = scale(edges[0], edges[-1], LEFT, width - 8, log=log_values)
    y = scale(0.5, top * 1.001, base, TOP, log=True) if log_counts else scale(0, top, base, TOP)
    drawn = _frame(edges, top, x, y, base, width, form, log_values=log_values, log_counts=log_counts)
    for index, value in enumerate(counts):
        near, far = x(edges[index]), x(edges[index + 1])
        gap = min(1.0, (far - near) * 0.15)
        tip = f"{form(edges[index])} to {form(edges[index + 1])}: {count(value)}"
        drawn.append(rect(near, y(value), far - near - gap, base - y(value), "bar", tip) if value else Markup(""))
        if rejected and rejected[index]:
            told = f"{tip}, {count(rejected[index])} rejected"
            foot = min(y(rejected[index]), base - SEEN)
            drawn.append(rect(near, foot, far - near - gap, base - foot, "bar lost", told))
    tried = moved is not None
    marks = [
        mark for one in thresholds for mark in _threshold(*one, edges, x, base, width, form, "was" if tried else "")
    ]
    marks += _threshold("→", moved, edges, x, base, width, form, "moved") if moved is not None else []
    axis = {"data_from": f"{edges[0]:.9g}", "data_to": f"{edges[-1]:.9g}", "data_log": "1" if log_values else None}
    place = {"data_start": LEFT, "data_end": width - 8, "data_top": TOP, "data_base": base}
    return chart(
        width, height, title, [*drawn, element("g", Markup("").join(marks), class_="thresholds", **axis, **place)]
    )


def _frame(
    edges: Sequence[float], top: float, x: Place, y: Place, base: float, width: float, form: Format,
    *, log_values: bool, log_counts: bool,
) -> list[Markup]:  # fmt: skip
    drawn = [line(LEFT, base, width - 8, base, "base-line")]
    for value in powers(1, max(top, 1)) if log_counts else ticks(0, top, 3):
        drawn += [
            line(LEFT, y(value), width - 8, y(value), "grid-line"),
            text(LEFT - 5, y(value) + 4, short_count(value), "tick", "end"),
        ]
    values = powers(edges[0], edges[-1]) if log_values else []
    if len(values) < 2:
        whole = all(edge % 1 == 0.5 for edge in edges)  # a bin a number
        values = [value for value in ticks(edges[0], edges[-1], 5) if not whole or value % 1 == 0]
    for value in values:
        drawn.append(text(x(value), base + 14, form(value), "tick", "middle"))
    return drawn


def _threshold(
    label: str, value: float, edges: Sequence[float], x: Place, base: float, width: float, form: Format, kind: str = ""
) -> list[Markup]:
    if math.isnan(value):
        return [text(width - 8, TOP - 6, f"{label} off", f"threshold-label {kind}", "end")]
    at = x(value)
    outside = "" if edges[0] <= value <= edges[-1] else " (outside)"
    anchor = "end" if at > width * 0.6 else "start"
    said = f"{label} {form(value)}{outside}".strip()
    return [
        line(at, TOP - 4, at, base, f"threshold {kind}".strip()),
        text(at + (-4 if anchor == "end" else 4), TOP - 6, said, f"threshold-label {kind}".strip(), anchor),
    ]
