"""Charts: well-formed, named, escaped, and with the numbers that they are given."""

import math
import xml.etree.ElementTree as ET

import pytest

from polylm.dashboard import charts
from polylm.dashboard.charts import Bar, Node, Series, Step
from polylm.dashboard.charts.svg import ticks

EVIL = "</text><script>alert(1)</script>\u202e\x00"
EVERY = {
    "bars": lambda t: charts.bars([Bar(t, 3), Bar("b", 0, href="/x")], title=t),
    "stacked": lambda t: charts.stacked([(t, {t: 1, "x": 2}), ("b", {"x": 4})], title=t),
    "funnel": lambda t: charts.funnel([Step(t, 10), Step("b", 4, 6, note=t)], title=t),
    "histogram": lambda t: charts.histogram([0, 1, 2], [5, 3], title=t, thresholds=[(t, 1.5)], rejected=[1, 0]),
    "lines": lambda t: charts.lines([Series(t, [0, 1], [1, 2]), Series("b", [0, 1], [2, None])], title=t, y_label=t),
    "heat": lambda t: charts.heat([t, "b"], ["x", t], [[1, None], [0, 2]], title=t),
    "lineage": lambda t: charts.lineage([Node("a", t, note=t), Node("b", "b", "built")], [("a", "b")], title=t),
}
EMPTY = {
    "bars": lambda: charts.bars([], title="t"),
    "stacked": lambda: charts.stacked([], title="t"),
    "funnel": lambda: charts.funnel([], title="t"),
    "histogram": lambda: charts.histogram([0, 1], [0], title="t"),
    "lines": lambda: charts.lines([Series("a", [], [])], title="t"),
    "heat": lambda: charts.heat([], [], [], title="t"),
    "lineage": lambda: charts.lineage([], [], title="t"),
}


def parsed(markup):
    return ET.fromstring(str(markup))


def all_of(markup, tag):
    return list(parsed(markup).iter(tag))


@pytest.mark.parametrize("kind", EVERY)
def test_every_chart_is_well_formed_and_named_and_runs_nothing(kind):
    drawn = EVERY[kind](EVIL)
    root = parsed(drawn)  # a control character would not parse
    assert root.get("role") == "img"
    assert root[0].tag == "title"
    assert root[0].text.startswith("</text><script>")
    assert "\u202e" not in drawn
    assert all_of(drawn, "script") == []
    assert "style=" not in drawn


@pytest.mark.parametrize("kind", EMPTY)
def test_every_chart_can_be_empty(kind):
    assert parsed(EMPTY[kind]()).get("role") == "img"


def test_bars_are_as_long_as_their_values():
    long, short = (float(r.get("width")) for r in all_of(charts.bars([Bar("a", 8), Bar("b", 2)], title="t"), "rect"))
    assert long == pytest.approx(4 * short, rel=0.01)


def test_a_funnel_shows_what_is_left_and_what_was_taken():
    drawn = charts.funnel([Step("all", 10), Step("gate", 4, 6)], title="t")
    widths = [float(r.get("width")) for r in all_of(drawn, "rect")]
    assert widths[2] + widths[3] == pytest.approx(widths[0], abs=0.2)
    assert [t.text for t in all_of(drawn, "text")][-2:] == ["−6", "60.0 %"]


def test_a_threshold_stands_between_the_bins_that_it_parts():
    drawn = charts.histogram([0, 1, 2, 3, 4], [1, 1, 1, 1], title="t", thresholds=[("min", 2)])
    at = next(float(line.get("x1")) for line in all_of(drawn, "line") if line.get("class") == "threshold")
    starts = [float(r.get("x")) for r in all_of(drawn, "rect")]
    assert at == pytest.approx(starts[2], abs=0.1)


def test_a_threshold_outside_says_so():
    assert "(outside)" in charts.histogram([0, 1], [1], title="t", thresholds=[("min", 7)])


def test_a_threshold_that_is_tried_stands_beside_that_of_the_run_which_fades():
    drawn = charts.histogram([0, 1, 2, 3, 4], [1, 1, 1, 1], title="t", thresholds=[("min", 2)], moved=3)
    lines = {line.get("class"): float(line.get("x1")) for line in all_of(drawn, "line") if line.get("class")}
    starts = [float(r.get("x")) for r in all_of(drawn, "rect")]
    assert lines["threshold was"] == pytest.approx(starts[2], abs=0.1)
    assert lines["threshold moved"] == pytest.approx(starts[3], abs=0.1)
    off = charts.histogram([0, 1, 2], [1, 1], title="t", thresholds=[("min", 1)], moved=math.nan)
    assert "threshold moved" not in off
    assert "→ off" in off


def test_few_that_are_rejected_of_many_are_seen():
    drawn = charts.histogram([0, 1, 2], [1_000_000, 1], title="t", rejected=[0, 1])
    heights = [float(r.get("height")) for r in all_of(drawn, "rect") if r.get("class") == "bar lost"]
    assert heights == [2.0]


def test_bins_of_whole_numbers_have_whole_ticks():
    drawn = charts.histogram([-0.5, 0.5, 1.5], [1, 1], title="t")
    assert [t.text for t in all_of(drawn, "text") if t.get("text-anchor") == "middle"] == ["0", "1"]


def test_a_gap_breaks_a_curve():
    path = all_of(charts.lines([Series("a", [0, 1, 2, 3], [1, math.nan, 2, 3])], title="t"), "path")[0]
    assert path.get("d").count("M") == 2


def test_a_long_series_keeps_its_spike():
    values = [1.0] * 50_000
    values[31_337] = 9.0
    drawn = charts.lines([Series("a", range(50_000), values)], title="t")
    heights = [
        float(point.split(",")[1]) for point in all_of(drawn, "path")[0].get("d").replace("M", "L").split("L")[1:]
    ]
    assert len(heights) < 2_500
    assert min(heights) < sorted(heights)[1] - 50


def test_lineage_puts_what_is_read_above_and_drops_edges_that_a_longer_way_says():
    nodes = [Node(name, name) for name in "abc"]
    drawn = charts.lineage(nodes, [("a", "b"), ("b", "c"), ("a", "c")], title="t")
    assert len(all_of(drawn, "path")) == 2
    heights = [float(r.get("y")) for r in all_of(drawn, "rect")]
    assert heights == sorted(set(heights))


def test_what_reads_nothing_stands_above_its_reader_and_what_is_alone_behind_the_one_before():
    nodes = [Node(name, name) for name in ("ingest", "clean", "gate", "ask", "pack", "next")]
    drawn = charts.lineage(
        nodes, [("ingest", "clean"), ("clean", "gate"), ("gate", "pack"), ("ask", "pack")], title="t"
    )
    heights = {r.find("{*}title").text.partition(":")[0]: float(r.get("y")) for r in all_of(drawn, "rect")}
    assert heights["ask"] == heights["gate"]
    assert heights["ingest"] < heights["clean"] < heights["gate"] < heights["pack"] < heights["next"]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 7), (-3, 3), (0.00012, 0.00091), (0, 12_345_678), (5, 5)])
def test_ticks_are_few_round_and_inside(low, high):
    found = ticks(low, high)
    assert 1 <= len(found) <= 8
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
