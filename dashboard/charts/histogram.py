"""A histogram with its thresholds drawn in."""

from collections.abc import Sequence

from markupsafe import Markup

from polylm.dashboard.charts.svg import Format, Place, chart, line, powers, rect, scale, text, ticks
from polylm.dashboard.view import count, number, short_count

LEFT, BOTTOM, TOP = 44.0, 20.0, 18.0


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    *,
    title: str,
    thresholds: Sequence[tuple[str, float]] = (),
    rejected: Sequence[float] = (),
    log_values: bool = False,
    log_counts: bool = False,
    form: Format = number,
    width: float = 420,
    height: float = 150,
) -> Markup:
    """Counts between `edges` (one more of them than counts), `rejected` of each bin in another colour at its foot.

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
            drawn.append(rect(near, y(rejected[index]), far - near - gap, base - y(rejected[index]), "bar lost", told))
    return chart(width, height, title, [*drawn, *_thresholds(thresholds, edges, x, base, width, form)])


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
    for value in values if len(values) > 1 else ticks(edges[0], edges[-1], 5):
        drawn.append(text(x(value), base + 14, form(value), "tick", "middle"))
    return drawn


def _thresholds(
    thresholds: Sequence[tuple[str, float]], edges: Sequence[float], x: Place, base: float, width: float, form: Format
) -> list[Markup]:
    drawn: list[Markup] = []
    for label, value in thresholds:
        at = x(value)
        outside = "" if edges[0] <= value <= edges[-1] else " (outside)"
        anchor = "end" if at > width * 0.6 else "start"
        said = f"{label} {form(value)}{outside}".strip()
        drawn += [
            line(at, TOP - 4, at, base, "threshold"),
            text(at + (-4 if anchor == "end" else 4), TOP - 6, said, "threshold-label", anchor),
        ]
    return drawn
