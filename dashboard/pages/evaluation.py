"""Evaluation: every figure with its standard error and what chance gets, models side by side, and what they write."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request, Response
from markupsafe import Markup
from pydantic import BaseModel

from polylm.dashboard import charts
from polylm.dashboard.charts import Series
from polylm.dashboard.queries import Here, Queries
from polylm.dashboard.trainings import STAGES, TrainingParams
from polylm.dashboard.view import page, words
from polylm.tasks.evaluation.table import AVERAGE, CATEGORIES
from polylm.tasks.maintenance.run_records import Run

router = APIRouter()
LOWER_IS_BETTER = ("bits_per_byte", "repeated_4grams")
SURE = 2.0  # standard errors that a difference must have to count
CURVE_MODELS = 3  # from which on a curve over checkpoints says more than a table


@dataclass(frozen=True)
class Figure:
    """One value of one model."""

    value: float | None
    stderr: float | None

    def against(self, other: float | None, error: float | None = 0.0) -> float | None:
        """How many standard errors this is above another value."""
        if self.value is None or other is None or self.stderr is None or error is None:
            return None
        spread = math.hypot(self.stderr, error)
        return (self.value - other) / spread if spread else None


@dataclass(frozen=True)
class Line:
    """One metric of one task in one language, by model."""

    task: str
    metric: str
    language: str
    chance: float | None
    n: int | None
    figures: Mapping[str, Figure]

    @property
    def is_mean(self) -> bool:
        return AVERAGE in self.language.split()

    def standing(self, model: str) -> str:
        """How a model stands to chance: better, worse, or "" where its error does not tell."""
        apart = self.figures[model].against(self.chance) if model in self.figures else None
        return self._judged(apart)

    def change(self, first: str, second: str) -> tuple[float, float | None, str] | None:
        """From one model to another: difference, its standard error, and better, worse or ""."""
        if first not in self.figures or second not in self.figures:
            return None
        a, b = self.figures[first], self.figures[second]
        if a.value is None or b.value is None:
            return None
        error = math.hypot(a.stderr, b.stderr) if a.stderr is not None and b.stderr is not None else None
        return b.value - a.value, error, self._judged(b.against(a.value, a.stderr))

    def _judged(self, apart: float | None) -> str:
        if apart is None or abs(apart) < SURE:
            return ""
        return "better" if (apart > 0) != (self.metric in LOWER_IS_BETTER) else "worse"


@dataclass
class Category:
    """One of the categories: its models, and its lines, the means before the languages."""

    name: str
    models: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def means(self) -> list[Line]:
        return [line for line in self.lines if line.is_mean]

    @property
    def languages(self) -> list[Line]:
        return [line for line in self.lines if not line.is_mean]


@router.get("/run/{run_id}/evaluation")
def evaluation(request: Request, here: Here, run_id: str) -> Response:
    """The page."""
    run = here.run(run_id)
    return page(request, "evaluation.html", run=run, **values(here, run))


def values(here: Queries, run: Run) -> dict[str, Any]:
    """What the page shows; before the whole table is there, the evaluations that are."""
    rows = rows_of(here, run)
    ages = _ages(here, run)
    categories = [
        _category(name, rows, ages) for name in dict.fromkeys([*CATEGORIES, *(row["category"] for row in rows)])
    ]
    samples = [entry for entry in run.entries("write_samples") if here.has(entry)]
    return {
        "categories": [category for category in categories if category.lines],
        "missing": [row for row in rows if row["model"] is None],
        "whole": bool(run.entries("tabulate")),
        "ages": ages,
        "curves": [chart for category in categories for chart in _curves(category, ages)],
        "samples": here.small_table(samples[-1]).to_pylist() if samples else [],
        "sure": SURE,
    }


def rows_of(here: Queries, run: Run) -> list[dict[str, Any]]:
    """All rows of the evaluation of a run, as `tabulate` lays them together; without it, of the tasks that are done."""
    for stage in ("tabulate", "evaluate"):
        entries = [entry for entry in run.entries(stage) if here.has(entry)]
        if entries:
            return [row for entry in entries for row in here.small_table(entry).to_pylist()]
    return []


def _ages(here: Queries, run: Run) -> dict[str, int]:
    """Steps of training that stand behind each evaluated model; those that were not trained here are not in it."""
    ages: dict[str, int] = {}
    for entry in run.entries("evaluate"):
        if not here.has(entry):
            continue
        exports = [ref for ref in here.manifest(entry).reads if ref.startswith("export/")]
        for model, ref in zip(here.params(entry, _Evaluated).models, exports, strict=False):
            if here.has(ref):
                ages[model] = _steps(here, ref)
    return dict(sorted(ages.items(), key=lambda item: item[1]))


class _Evaluated(BaseModel):
    models: tuple[str, ...] = ()


def _steps(here: Queries, ref: str) -> int:
    """Steps of all trainings that an artifact of weights, or an export of one, comes from."""
    total, seen = 0, 0
    while ref and here.has(ref) and (seen := seen + 1) < 100:
        manifest = here.manifest(ref)
        total += here.params(ref, TrainingParams).steps if manifest.stage in STAGES else 0
        before = [read for read in manifest.reads if read.partition("/")[0] in (*STAGES, "initialize")]
        ref = before[-1] if before else ""
    return total


def _category(name: str, rows: Sequence[Mapping[str, Any]], ages: Mapping[str, int]) -> Category:
    ran = [row for row in rows if row["category"] == name and row["model"] is not None]
    models = list(dict.fromkeys(row["model"] for row in ran))
    # Ours in the order of their training, then what they are compared with.
    models.sort(key=lambda model: (model not in ages, ages.get(model, 0)))
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in ran:
        groups.setdefault((row["task"], row["metric"], row["language"]), []).append(row)
    notes = dict.fromkeys(
        f"{row['task']}, {words(row['metric'])}: {row['note']}"
        for row in ran
        if row["note"] and not row["note"].startswith("mean over")
    )
    return Category(name, models, [_line(key, group) for key, group in groups.items()], list(notes))


def _line(key: tuple[str, str, str], rows: Sequence[Mapping[str, Any]]) -> Line:
    figures = {row["model"]: Figure(row["value"], row["stderr"]) for row in rows}
    return Line(*key, rows[0]["chance"], rows[0]["n"], figures)


def _curves(category: Category, ages: Mapping[str, int]) -> list[Markup]:
    """A mean over the steps of training, where enough checkpoints have it."""
    charted = []
    for line in category.means:
        known = [
            (ages[model], line.figures[model])
            for model in ages
            if model in line.figures and line.figures[model].value is not None
        ]
        if len(known) >= CURVE_MODELS:
            charted.append(_curve(line, known))
    return charted


def _curve(line: Line, known: Sequence[tuple[int, Figure]]) -> Markup:
    steps = [step for step, _ in known]
    middle = [figure.value or 0.0 for _, figure in known]
    errors = [figure.stderr or 0.0 for _, figure in known]
    title = f"{line.task}, {words(line.metric)}, {line.language}"
    low, high = ([m + sign * SURE * e for m, e in zip(middle, errors, strict=True)] for sign in (-1, 1))
    return charts.lines(
        [Series(title, steps, middle, low, high)], title=title, x_label="steps of training", y_label=title, width=460
    )
