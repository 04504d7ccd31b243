"""Horizontal bars: one value a label, several stacked, and the steps of a funnel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from polylm.dashboard.charts.svg import PALETTE, Format, chart, fit, legend, link, rect, text, width_of
from polylm.dashboard.view import count, percent

ROW = 21.0
THICK = 13.0


@dataclass(frozen=True)
class Bar:
    """One bar; `kind` is a class of the style sheet: "", "soft", "lost", "muted"."""

    label: str
    value: float
    href: str = ""
    kind: str = ""
    note: str = ""  # instead of the formatted value


@dataclass(frozen=True)
class Step:
    """One step of a funnel: what is left after it, and what it took."""

    label: str
    left: float
    lost: float = 0.0
    href: str = ""
    note: str = ""  # the reasons, for instance; shown when the pointer rests on the bar
    lost_href: str = ""  # of the number of what it took


def bars(items: Sequence[Bar], *, title: str, form: Format = count, width: float = 560, most: float = 0) -> Markup:
    """Bars of one scale from zero, their values beside them; `most` is the end of the scale where others share it."""
    side = width_of((bar.label for bar in items), most=width * 0.4)
    values = [bar.note or form(bar.value) for bar in items]
    end = width - width_of(values, 30, width * 0.4) - 8
    top = most or max((bar.value for bar in items), default=1) or 1
    drawn: list[Markup] = []
    for row, (bar, value) in enumerate(zip(items, values, strict=True)):
        y, length = row * ROW + 3, (end - side - 8) * min(1.0, max(0.0, bar.value) / top)
        drawn += [
            link(bar.href, text(side, y + 11, fit(bar.label, side + 4), anchor="end")),
            rect(
                side + 8,
                y,
                max(length, 1.0 if bar.value else 0.0),
                THICK,
                f"bar {bar.kind}".strip(),
                f"{bar.label}: {value}",
            ),
            text(side + 14 + length, y + 11, value, "value"),
        ]
    return chart(width, len(items) * ROW + 4, title, drawn)


def stacked(
    items: Sequence[tuple[str, Mapping[str, float]]],
    *,
    title: str,
    form: Format = count,
    width: float = 720,
    shares: bool = False,
) -> Markup:
    """One bar a label, cut by series, in the series' order of appearance; `shares` makes all bars equally long."""
    names = list(dict.fromkeys(name for _, values in items for name in values))
    side = width_of((label for label, _ in items), most=width * 0.35)
    head, height = legend(names, side + 8, 12, width - side)
    sums = [sum(values.values()) for _, values in items]
    end = width - width_of(map(form, sums), 30) - 8
    drawn = [*head]
    for row, ((label, values), total) in enumerate(zip(items, sums, strict=True)):
        y, x = height + 4 + row * ROW, side + 8
        unit = (end - side - 8) / ((total if shares else max(sums)) or 1)
        drawn.append(text(side, y + 11, fit(label, side + 4), anchor="end"))
        for name, value in values.items():
            tip = f"{label}, {name}: {form(value)} ({percent(value / total if total else 0)})"
            drawn.append(rect(x, y, value * unit, THICK, f"s{names.index(name) % PALETTE}", tip))
            x += value * unit
        drawn.append(text(x + 6, y + 11, form(total), "value"))
    return chart(width, height + len(items) * ROW + 6, title, drawn)


def funnel(steps: Sequence[Step], *, title: str, form: Format = count, width: float = 720) -> Markup:
    """A waterfall: each step's bar shows what is left and, behind it, what the step took from the one before."""
    side = width_of((step.label for step in steps), most=width * 0.35)
    most = max((step.left + step.lost for step in steps), default=1) or 1
    lost_side, left_side = 150.0, width_of((form(step.left) for step in steps), 40)
    unit = (width - side - lost_side - left_side - 24) / most
    drawn: list[Markup] = []
    for row, step in enumerate(steps):
        y, x = row * (ROW + 3) + 3, side + 10
        tip = f"{step.label}: {form(step.left)} left, {form(step.lost)} taken. {step.note}".strip()
        share = percent(step.lost / (step.left + step.lost)) if step.lost else ""
        drawn += [
            link(step.href, text(side, y + 12, fit(step.label, side + 4), anchor="end")),
            rect(x, y, step.left * unit, THICK + 2, "bar", tip),
            rect(x + step.left * unit, y, max(step.lost * unit, 1.0 if step.lost else 0.0), THICK + 2, "bar lost", tip),
            text(width - lost_side, y + 12, form(step.left), anchor="end"),
            link(step.lost_href, text(width - 62, y + 12, f"−{form(step.lost)}" if step.lost else "", "value", "end")),
            text(width, y + 12, share, "value", "end"),
        ]
    return chart(width, len(steps) * (ROW + 3) + 4, title, drawn)
