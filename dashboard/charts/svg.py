"""What all charts are made of: safe elements, text that fits, and ticks at round numbers."""

import math
from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup, escape

from polylm.dashboard.text import plain

Format = Callable[[float | None], str]
Place = Callable[[float], float]  # from a value to a pixel
CHAR = 6.6  # pixels of a character at 12 px, on average
PALETTE = 8  # series colours in the style sheet, s0 to s7


def chart(width: float, height: float, title: str, body: Iterable[Markup]) -> Markup:
    """A drawing of `width` x `height` pixels, which shrinks with its column but does not grow past its size."""
    return Markup(
        '<svg class="chart" role="img" width="{}" viewBox="0 0 {} {}" aria-label="{}"><title>{}</title>{}</svg>'
    ).format(px(width), px(width), px(height), plain(title), plain(title), Markup("").join(body))


def element(name: str, content: object = "", **attributes: object) -> Markup:
    """`element("rect", x=1.0, class_="bar")`: text is escaped and made visible; an attribute that is None is left out."""
    told = Markup("").join(
        Markup(' {}="{}"').format(
            key.rstrip("_").replace("_", "-"), px(value) if isinstance(value, float) else plain(value)
        )
        for key, value in attributes.items()
        if value is not None
    )
    inside = content if isinstance(content, Markup) else plain(content)
    return Markup("<{}{}>{}</{}>").format(Markup(name), told, inside, Markup(name))


def text(x: float, y: float, content: object, kind: str = "", anchor: str = "start") -> Markup:
    return element(
        "text",
        content,
        x=float(x),
        y=float(y),
        class_=kind or None,
        text_anchor=None if anchor == "start" else anchor,
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=kind)


def rect(x: float, y: float, width: float, height: float, kind: str, tip: str = "") -> Markup:
    """A rectangle with a tip that is shown when the pointer rests on it."""
    tip_element = element("title", tip) if tip else ""
    return element(
        "rect", tip_element, x=float(x), y=float(y), width=float(max(0.0, width)), height=float(height), class_=kind
    )


def link(href: str, content: Markup) -> Markup:
    return element("a", content, href=href) if href else content


def fit(label: object, pixels: float) -> str:
    """A label cut to a width."""
    told, most = plain(label), max(3, int(pixels / CHAR))
    return told if len(told) <= most else f"{told[: most - 1]}…"


def width_of(labels: Iterable[object], least: float = 20, most: float = 220) -> float:
    """How much room labels need."""
    return min(most, max([least, *(len(plain(label)) * CHAR for label in labels)]))


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def powers(low: float, high: float) -> list[float]:
    """Powers of ten between two positive numbers."""
    return [10.0**i for i in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]


def scale(low: float, high: float, start: float, end: float, *, log: bool = False) -> Place:
    """A function from values to pixels; values outside land at the ends."""
    near, far = (math.log10(low), math.log10(high)) if log else (low, high)
    span = (far - near) or 1.0

    def place(value: float) -> float:
        at = math.log10(max(value, low)) if log else value
        return start + min(1.0, max(0.0, (at - near) / span)) * (end - start)

    return place


def legend(names: Sequence[str], x: float, y: float, width: float) -> tuple[list[Markup], float]:
    """Names with their colours in rows; and the height that they take."""
    drawn: list[Markup] = []
    at, row = x, y
    for index, name in enumerate(names):
        needed = len(plain(name)) * CHAR + 30
        if at > x and at + needed > x + width:
            at, row = x, row + 18
        drawn += [rect(at, row - 9, 10, 10, f"s{index % PALETTE}"), text(at + 15, row, name, "axis")]
        at += needed
    return drawn, row - y + 18 if names else 0.0


def px(value: float) -> Markup:
    """A length, to a tenth of a pixel."""
    return escape(f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value))
