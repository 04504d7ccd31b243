"""Plan the curriculum: how many packed rows of every mixture cell each stage of pre-training takes.

The paper raises the share of text that is not English from 30 % to 60 % in its second stage (abstract, 3.3). Shares are
of rows, because rows are what the sampler deals: a plan is whole rows whose sum is exactly steps x batch, and training
reports the rows that it dealt, so the two can be compared (`deviations`).
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import model_validator

from polylm.tasks.stage import Field, Params, StageError, files
from polylm.tasks.tokens.pairs import PAIR_KIND

Group = Literal["english", "pair", "other"]
Source: TypeAlias = pa.Table | Path | Mapping[str, Path]  # packed rows: a table, its file, or many files by label

CURRICULUM = pa.schema(
    [
        ("segment", pa.string()),
        ("cell", pa.string()),
        ("group", pa.string()),  # english, pair or other; pair and other are the non-English share
        ("rows_available", pa.int64()),
        ("tokens_available", pa.int64()),
        ("share", pa.float64()),  # of the segment's rows
        ("rows_planned", pa.int64()),
        ("tokens_planned", pa.int64()),  # expected: exact where whole epochs are dealt, else by the cell's mean row
        ("epochs", pa.float64()),
        ("epochs_so_far", pa.float64()),  # with the segments before
        ("warning", pa.string()),
    ]
)


class SegmentParams(Params):
    """One stage of the curriculum."""

    name: str = Field(min_length=1, description="What metrics and checkpoints call it.")
    steps: int = Field(ge=1, description="Optimizer steps.")
    non_english: float = Field(ge=0, le=1, description="Share of the rows that is not English, pairs included.")
    pairs: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the rows that are bilingual pairs; a row of pairs is multilingual, so all of it counts as "
        "non-English.",
    )

    @model_validator(mode="after")
    def _pairs_are_part_of_non_english(self) -> Self:
        if self.pairs > self.non_english:
            raise ValueError(
                f"segment {self.name}: pairs = {self.pairs} is more than non_english = {self.non_english}, of which it "
                "is a part; lower it"
            )
        return self


class CurriculumParams(Params):
    """The stages of pre-training and their mixtures."""

    segments: tuple[SegmentParams, ...] = Field(
        default=(
            SegmentParams(name="stage1", steps=610_000, non_english=0.30, pairs=0.0016),
            SegmentParams(name="stage2", steps=92_500, non_english=0.60, pairs=0.0476),
        ),
        min_length=1,
        description="In the order of training.",
        source="PolyLM abstract, tables 1 and 3, figure 5; stage 2 is its 97B tokens in batches of 1.05M",
    )
    batch: int = Field(
        default=512, ge=1, unit="rows", description="Rows of one step, over all ranks.", source="PolyLM table 3"
    )
    english: str = Field(default="en", description="The language that `non_english` is measured against.")
    alpha: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="A language with n rows gets a part of its group that goes as n to this power; 1 keeps their shares.",
        source="ours, as XLM-R (arXiv 1911.02116); PolyLM gives no rule, its table 2 is nearly flat",
    )
    max_epochs: float = Field(
        default=4.0,
        gt=0,
        description="A cell that is dealt more often gets a warning.",
        source="Muennighoff et al. 2023 (arXiv 2305.16264): up to 4 epochs are nearly as good as new text",
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [segment.name for segment in self.segments]
        if len(set(names)) < len(names):
            raise ValueError(f"segments: the names {', '.join(names)} are not all different")
        return self


@files(writes=CURRICULUM, cheap=True, version=1)
def plan_curriculum(params: CurriculumParams, *packed: Source) -> pa.Table:
    """Plan how many rows of every cell each curriculum stage deals; warn of cells that would be seen too often.

    English, pairs and the rest get their shares of the rows; in the rest and in the pairs, languages go by `alpha`; in a
    language, cells go by their rows. Rows are rounded by largest remainders, so a group's share is within one row of
    what was asked. Reads only the columns `cell` and `length`. Raises StageError where a group with a share has no row.
    """
    cells = _read_cells(packed)
    dealt: Counter[str] = Counter()
    lines: list[dict[str, Any]] = []
    for segment in params.segments:
        for cell, rows in _plan_segment(segment, cells, params).items():
            dealt[cell] += rows
            total = segment.steps * params.batch
            lines.append({"segment": segment.name, **_line(cells[cell], rows, total, dealt[cell], params)})
    return pa.Table.from_pylist(lines, CURRICULUM)


def apportion(weights: Sequence[float], total: int) -> list[int]:
    """Split `total` into whole numbers that go as `weights`, by largest remainders; ties go to the first."""
    exact = np.array(weights, np.float64) / sum(weights) * total
    whole = np.floor(exact).astype(np.int64)
    missing = total - int(whole.sum())
    assert 0 <= missing <= len(whole), f"{weights} do not split {total}"
    whole[np.argsort(whole - exact, kind="stable")[:missing]] += 1
    return [int(value) for value in whole]


def planned_rows(plan: pa.Table) -> dict[str, dict[str, int]]:
    """Rows of every cell that is dealt, by segment: the shares that a training job takes."""
    rows: dict[str, dict[str, int]] = {}
    for line in plan.select(["segment", "cell", "rows_planned"]).to_pylist():
        if line["rows_planned"]:
            rows.setdefault(line["segment"], {})[line["cell"]] = line["rows_planned"]
    return rows


def rows_before(planned: Mapping[str, Mapping[str, int]], segment: str) -> dict[str, int]:
    """Rows of every cell that the segments before one take: its sampler deals behind them."""
    dealt: Counter[str] = Counter()
    for earlier in takewhile(lambda name: name != segment, planned):
        dealt.update(planned[earlier])
    return dict(dealt)


def non_english_share(plan: pa.Table, rows: Mapping[str, int], segment: str) -> float:
    """The share of dealt rows (of one segment, by cell) that is not English."""
    lines = plan.filter(pc.equal(plan["segment"], segment)).select(["cell", "group"]).to_pylist()
    english = sum(rows.get(line["cell"], 0) for line in lines if line["group"] == "english")
    return 1 - english / sum(rows.values())


def deviations(plan: pa.Table, delivered: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Where the rows that training dealt are not those of the plan, a line for each; empty if as planned.

    Exact, because one row too many in each of some cells would shift the share of English by as many.
    """
    planned = planned_rows(plan)
    found = []
    for segment in sorted({*planned, *delivered}):
        wanted, given = planned.get(segment, {}), delivered.get(segment, {})
        for cell in sorted({*wanted, *given}):
            if wanted.get(cell, 0) != given.get(cell, 0):
                found.append(f"{segment}: {cell} planned {wanted.get(cell, 0)} rows, delivered {given.get(cell, 0)}")
    return found


@dataclass(frozen=True)
class _Cell:
    """The packed rows of one mixture cell."""

    name: str
    rows: int
    tokens: int

    @property
    def is_pair(self) -> bool:
        return self.name.endswith(f"/{PAIR_KIND}")

    @property
    def language(self) -> str:
        """Of a pair its direction, such as en-de."""
        return self.name.partition("/")[0]

    def group(self, english: str) -> Group:
        if self.is_pair:
            return "pair"
        return "english" if self.language == english else "other"


def _read_cells(sources: Sequence[Source]) -> dict[str, _Cell]:
    """Count the rows and tokens of every cell, in the order of names."""
    rows: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for source in sources:
        for piece in source.values() if isinstance(source, Mapping) else [source]:
            table = pq.read_table(piece, columns=["cell", "length"]) if isinstance(piece, Path) else piece
            for cell in table.group_by("cell").aggregate([("length", "sum"), ("length", "count")]).to_pylist():
                rows[cell["cell"]] += cell["length_count"]
                tokens[cell["cell"]] += cell["length_sum"]
    return {name: _Cell(name, rows[name], tokens[name]) for name in sorted(rows)}


def _plan_segment(segment: SegmentParams, cells: Mapping[str, _Cell], params: CurriculumParams) -> dict[str, int]:
    """Rows of every cell in one segment."""
    shares: dict[Group, float] = {
        "english": 1 - segment.non_english,
        "pair": segment.pairs,
        "other": segment.non_english - segment.pairs,
    }
    quotas = apportion(list(shares.values()), segment.steps * params.batch)
    planned: dict[str, int] = {}
    for (group, share), quota in zip(shares.items(), quotas, strict=True):
        members = [cell for cell in cells.values() if cell.group(params.english) == group]
        if members:
            planned |= dict(
                zip([cell.name for cell in members], apportion(_weights(members, params.alpha), quota), strict=True)
            )
        elif quota:
            raise StageError(_nothing_packed(segment, group, share, params.english, cells))
    return {name: planned[name] for name in cells}


def _weights(cells: Sequence[_Cell], alpha: float) -> list[float]:
    """A cell's part of its language's rows, times the language's rows to the power of alpha."""
    of_language: dict[str, int] = defaultdict(int)
    for cell in cells:
        of_language[cell.language] += cell.rows
    return [cell.rows * of_language[cell.language] ** (alpha - 1) for cell in cells]


def _line(cell: _Cell, rows: int, total: int, so_far: int, params: CurriculumParams) -> dict[str, Any]:
    epochs = so_far / cell.rows
    warning = None
    if epochs > params.max_epochs:
        warning = f"{cell.name} is seen {epochs:.1f} times by then, more than {params.max_epochs:g}"
    return {
        "cell": cell.name,
        "group": cell.group(params.english),
        "rows_available": cell.rows,
        "tokens_available": cell.tokens,
        "share": round(rows / total, 6),
        "rows_planned": rows,
        "tokens_planned": (2 * rows * cell.tokens + cell.rows) // (2 * cell.rows),
        "epochs": round(rows / cell.rows, 4),
        "epochs_so_far": round(epochs, 4),
        "warning": warning,
    }


def _nothing_packed(
    segment: SegmentParams, group: Group, share: float, english: str, cells: Mapping[str, _Cell]
) -> str:
    what = {"english": f"in {english}", "pair": "with bilingual pairs", "other": f"in a language other than {english}"}
    field = "pairs" if group == "pair" else "non_english"
    return (
        f"plan_curriculum: segment {segment.name} wants {share:.2%} of its rows {what[group]}, but no packed row is "
        f"(cells: {', '.join(cells) or 'none'}): change its {field} or add such documents"
    )
