"""Charts as SVG text: pure functions from numbers to safe markup, coloured by the style sheet, readable without scripts.

Every function takes `title=`, which names the chart for those who cannot see it. No inline styles: the policy forbids them.
"""

from polylm.dashboard.charts.bars import Bar, Step, bars, funnel, stacked
from polylm.dashboard.charts.graph import Node, lineage
from polylm.dashboard.charts.heat import heat
from polylm.dashboard.charts.histogram import histogram
from polylm.dashboard.charts.lines import Series, lines

__all__ = ["Bar", "Node", "Series", "Step", "bars", "funnel", "heat", "histogram", "lineage", "lines", "stacked"]
