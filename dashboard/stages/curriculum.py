"""The curriculum: what was planned of every cell in each segment, and what training really dealt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from markupsafe import Markup
from pydantic import BaseModel

from polylm.dashboard import charts
from polylm.dashboard.queries import Queries
from polylm.dashboard.stages.frame import own_page
from polylm.dashboard.trainings import rows_by_cell, trainings_of
from polylm.dashboard.view import percent
from polylm.tasks.maintenance.run_records import Entry, Run

PAIR = "pair"


@dataclass(frozen=True)
class Cell:
    """A line of the plan, with the rows that training dealt; None before it began."""

    plan: Mapping[str, Any]
    delivered: int | None


@dataclass(frozen=True)
class Segment:
    """One segment of the curriculum."""

    name: str
    cells: list[Cell]
    state: str  # of its training; "" where there is none

    @property
    def planned(self) -> int:
        return sum(cell.plan["rows_planned"] for cell in self.cells)

    @property
    def tokens(self) -> int:
        return sum(cell.plan["tokens_planned"] for cell in self.cells)

    @property
    def delivered(self) -> int | None:
        return None if not self.state else sum(cell.delivered or 0 for cell in self.cells)

    @property
    def warnings(self) -> list[str]:
        return [cell.plan["warning"] for cell in self.cells if cell.plan["warning"]]

    def shares(self, by: str, *, dealt: bool) -> dict[str, float]:
        """Rows by group (english, pair, other) or by language, planned or dealt; pairs are in no one language."""
        rows: dict[str, float] = {}
        for cell in self.cells:
            language = "pairs" if cell.plan["group"] == PAIR else cell.plan["cell"].partition("/")[0]
            name = cell.plan["group"] if by == "group" else language
            rows[name] = rows.get(name, 0) + ((cell.delivered or 0) if dealt else cell.plan["rows_planned"])
        return rows


class Asked(BaseModel):
    """What the page shows of the params."""

    alpha: float


def view(request: Request, here: Queries, run: Run, entry: Entry) -> Response:
    """The page of `plan_curriculum`."""
    segments = segments_of(here, run, entry)
    return own_page(
        request, here, "curriculum.html", run, entry, segments=segments, groups=_groups(segments),
        languages=_languages(segments), params=here.params(entry, Asked),
    )  # fmt: skip


STAGES = {"plan_curriculum": view}


def segments_of(here: Queries, run: Run, entry: Entry) -> list[Segment]:
    """The plan, and beside it what the run's trainings dealt so far."""
    trained = {one.segment: one for one in trainings_of(here, run)}
    dealt = {name: rows_by_cell(here, one) for name, one in trained.items()}
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for row in here.small_table(entry).to_pylist():
        rows.setdefault(row["segment"], []).append(row)
    return [
        Segment(
            name,
            [Cell(row, dealt[name].get(row["cell"], 0) if name in dealt else None) for row in lines],
            trained[name].state if name in trained else "",
        )
        for name, lines in rows.items()
    ]


def _groups(segments: Sequence[Segment]) -> Markup:
    items = []
    for segment in segments:
        items.append((f"{segment.name}, planned", segment.shares("group", dealt=False)))
        if segment.delivered:
            items.append((f"{segment.name}, dealt", segment.shares("group", dealt=True)))
    return charts.stacked(items, title="Rows by group, planned and dealt", shares=True)


def _languages(segments: Sequence[Segment]) -> Markup:
    """Shares of languages, and of pairs, a column for what was planned and one for what was dealt."""
    columns: dict[str, dict[str, float]] = {}
    for segment in segments:
        columns[f"{segment.name} planned"] = _share(segment.shares("language", dealt=False))
        if segment.delivered:
            columns[f"{segment.name} dealt"] = _share(segment.shares("language", dealt=True))
    most: dict[str, float] = {}
    for column in columns.values():
        for name, share in column.items():
            most[name] = max(most.get(name, 0.0), share)
    names = sorted(most, key=lambda name: (-most[name], name))
    values = [[column.get(name) for column in columns.values()] for name in names]
    return charts.heat(
        names, list(columns), values, title="Share of rows by language", form=percent, most=0.25, width=640
    )


def _share(rows: Mapping[str, float]) -> dict[str, float]:
    total = sum(rows.values()) or 1
    return {name: value / total for name, value in rows.items()}
