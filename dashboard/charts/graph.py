"""A layered graph from top to bottom: what was made from what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from polylm.dashboard.charts.svg import CHAR, chart, element, fit, link, text

HEIGHT, GAP_X, GAP_Y = 34.0, 14.0, 22.0
SWEEPS = 6


@dataclass(frozen=True)
class Node:
    """One box; `state` is a class of the style sheet: built, re-used, running, failed, waiting."""

    id: str
    label: str
    state: str = ""
    note: str = ""  # a second, smaller line
    href: str = ""


def lineage(nodes: Sequence[Node], edges: Sequence[tuple[str, str]], *, title: str, width: float = 760) -> Markup:
    """Nodes in layers below what they read, from the order in which they are given (an edge points forward).

    An edge that a longer way says already is left out, so that what remains can be followed by eye.
    """
    order = {node.id: index for index, node in enumerate(nodes)}
    forward = sorted({(a, b) for a, b in edges if a in order and b in order and order[a] < order[b]})
    kept = _without_shortcuts(forward, order)
    layers = _layers(nodes, kept, width)
    spots, height = _place(layers, width)
    drawn = [_edge(spots[a], spots[b]) for a, b in kept]
    drawn += [_box(node, *spots[node.id]) for node in nodes]
    return chart(width, height, title, drawn)


def _without_shortcuts(edges: Sequence[tuple[str, str]], order: Mapping[str, int]) -> list[tuple[str, str]]:
    """The transitive reduction of an acyclic graph."""
    above: dict[str, set[str]] = {name: set() for name in order}  # everything that a node stands on
    reads: dict[str, list[str]] = {name: [] for name in order}
    for a, b in edges:
        reads[b].append(a)
    kept = []
    for name in sorted(order, key=order.__getitem__):
        for near in sorted(reads[name], key=lambda n: -order[n]):
            if near not in above[name]:
                kept.append((near, name))
            above[name] |= above[near] | {near}
    return kept


def _layers(nodes: Sequence[Node], edges: Sequence[tuple[str, str]], width: float) -> list[list[Node]]:
    """Longest way from the top, then several sweeps that put every node near the middle of its neighbours."""
    depth = _depths(nodes, edges)
    near: dict[str, list[str]] = {node.id: [] for node in nodes}
    for a, b in edges:
        near[a].append(b)
        near[b].append(a)
    layers: list[list[Node]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for node in nodes:
        layers[depth[node.id]].append(node)
    for _ in range(SWEEPS):
        spots, _height = _place(layers, width)
        middle = {name: (x + w / 2) for name, (x, _, w) in spots.items()}
        for layer in layers:
            layer.sort(key=lambda node: _mean([middle[n] for n in near[node.id]] or [middle[node.id]]))
    return layers


def _depths(nodes: Sequence[Node], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The longest way from the top. What reads nothing stands right above its first reader, and what nothing reads either
    below the node that is given before it: not at the top, where a flow begins."""
    above: dict[str, list[str]] = {node.id: [] for node in nodes}
    below: dict[str, list[str]] = {node.id: [] for node in nodes}
    for a, b in edges:
        above[b].append(a)
        below[a].append(b)
    depth: dict[str, int] = {}
    before = -1
    for node in nodes:
        alone = not above[node.id] and not below[node.id]
        depth[node.id] = before + 1 if alone else max((depth[a] + 1 for a in above[node.id]), default=0)
        before = depth[node.id]
    for name in (name for name in depth if below[name] and not above[name]):
        depth[name] = min(depth[b] for b in below[name]) - 1
    return depth


def _place(layers: Sequence[Sequence[Node]], width: float) -> tuple[dict[str, tuple[float, float, float]], float]:
    """(x, y, width) of every node, layers that are too wide in several rows; and the height of all."""
    spots: dict[str, tuple[float, float, float]] = {}
    y = 2.0
    for layer in layers:
        row: list[Node] = []
        for node in [*layer, None]:
            if node is None or sum(_wide(n) + GAP_X for n in [*row, node]) > width:
                x = (width - sum(_wide(n) + GAP_X for n in row) + GAP_X) / 2
                for one in row:
                    spots[one.id] = (x, y, _wide(one))
                    x += _wide(one) + GAP_X
                y += HEIGHT + (GAP_Y if node is None else 8)
                row = []
            if node is not None:
                row.append(node)
    return spots, max(0.0, y - GAP_Y + 4)  # of no node at all, nothing


def _wide(node: Node) -> float:
    return min(200.0, max(len(node.label) * CHAR, len(node.note) * CHAR * 0.85) + 16)


def _edge(start: tuple[float, float, float], end: tuple[float, float, float]) -> Markup:
    x1, y1, x2, y2 = start[0] + start[2] / 2, start[1] + HEIGHT, end[0] + end[2] / 2, end[1]
    bend = min(40.0, (y2 - y1) / 2)
    path = f"M{x1:.1f},{y1:.1f} C{x1:.1f},{y1 + bend:.1f} {x2:.1f},{y2 - bend:.1f} {x2:.1f},{y2:.1f}"
    return element("path", d=path, class_="edge")


def _box(node: Node, x: float, y: float, width: float) -> Markup:
    frame = element(
        "rect", element("title", f"{node.label}: {node.state} {node.note}"), x=x, y=y, width=width, height=HEIGHT, rx=4
    )
    lines = [text(x + 8, y + 15, fit(node.label, width - 10)), text(x + 8, y + 29, fit(node.note, width * 1.2), "sub")]
    inside = link(node.href, Markup("").join([frame, *lines]))
    return element("g", inside, class_=f"node {node.state.replace('-', '')}".strip())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
