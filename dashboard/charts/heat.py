"""A table of shades: languages by rules, rules by rules, tasks by checkpoints."""

from collections.abc import Sequence

from markupsafe import Markup

from polylm.dashboard.charts.svg import CHAR, Format, chart, element, fit, text, width_of
from polylm.dashboard.text import plain
from polylm.dashboard.view import number

ROW = 22.0


def heat(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    title: str,
    form: Format = number,
    most: float = 0.0,
    show: bool = True,
    width: float = 0,
) -> Markup:
    """One cell a row and column, the darker the larger; None is empty. `show` writes the values into the cells.

    The names of columns stand upright where they are longer than their cells.
    """
    side = width_of(rows, most=240)
    widest = max([len(form(v)) for line in values for v in line if v is not None] or [1])
    cell = ((width - side - 10) / max(1, len(columns))) if width else max(34.0, widest * CHAR + 10 if show else 22.0)
    upright = any(len(plain(name)) * CHAR > cell for name in columns)
    head = min(150.0, width_of(columns, 20, 150) + 8) if upright else 20.0
    top = most or max([v for line in values for v in line if v is not None] or [1]) or 1
    drawn = [_head(name, side + 10 + (i + 0.5) * cell, head, upright) for i, name in enumerate(columns)]
    for row, (name, line) in enumerate(zip(rows, values, strict=True)):
        y = head + row * ROW
        drawn.append(text(side, y + 15, fit(name, side + 4), anchor="end"))
        for column, value in enumerate(line):
            if value is not None:
                shade = min(1.0, max(0.0, value / top))
                drawn += _cell(side + 10 + column * cell, y, cell, shade, f"{name}, {columns[column]}: {form(value)}")
                if show:
                    drawn.append(text(side + 10 + (column + 0.5) * cell, y + 15, form(value), "cell-text"))
    return chart(side + 10 + len(columns) * cell, head + len(rows) * ROW + 2, title, drawn)


def _head(name: str, x: float, head: float, upright: bool) -> Markup:
    if not upright:
        return text(x, head - 6, name, "axis", "middle")
    turned = f"rotate(-60 {x:.1f} {head - 6:.1f})"
    return element("text", fit(name, 145), x=x, y=head - 6, class_="axis", transform=turned)


def _cell(x: float, y: float, width: float, shade: float, tip: str) -> list[Markup]:
    # At most 0.55, so that text of either colour scheme stays readable on it.
    return [
        element(
            "rect",
            element("title", tip),
            x=x,
            y=y,
            width=width - 1,
            height=ROW - 1,
            class_="cell",
            fill_opacity=f"{shade * 0.55:.3f}",
        )
    ]
