"""Training, segment by segment: loss, bits per byte of every language, gradient norm, rate, speed, spikes and events."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Query, Request, Response
from markupsafe import Markup

from polylm.dashboard import charts
from polylm.dashboard.charts import Series
from polylm.dashboard.charts.svg import Format
from polylm.dashboard.errors import BadRequest
from polylm.dashboard.queries import Here, Queries
from polylm.dashboard.trainings import (
    Floats,
    Training,
    by_language,
    bytes_per_token,
    events,
    outliers,
    steps,
    trainings_of,
)
from polylm.dashboard.view import number, page, short_count, url
from polylm.tasks.maintenance.run_records import Run

router = APIRouter()
POINTS = 600  # of a curve; more steps are drawn as means with their range
LANGUAGE_POINTS = 40
MARKS = 12  # spikes that are named in a chart
ROWS = 50  # of spikes and of events that are listed
STEPS_LISTED = 10**12
CURVES = (
    ("loss", "Loss", "nats a token", number, True),
    ("grad_norm", "Gradient norm", "before clipping", number, True),
    ("rate", "Learning rate", "", number, False),
    ("tokens_per_second", "Speed", "tokens a second", short_count, False),
)


@dataclass(frozen=True)
class Piece:
    """The steps of one training that are shown; `x` counts over all segments."""

    training: Training
    table: pa.Table
    x: Floats

    def column(self, name: str) -> Floats:
        values: Floats = self.table[name].to_numpy().astype(np.float64)
        return values


@dataclass(frozen=True)
class Spike:
    """A step whose loss or gradient stood out; `skipped` says why it was not taken, "" where it was."""

    at: int
    segment: str
    step: int
    loss: float
    grad_norm: float
    skipped: str


@dataclass(frozen=True)
class Language:
    """Bits per byte of one language over the shown steps."""

    name: str
    tokens: float
    first: float
    last: float
    chart: Markup


@router.get("/run/{run_id}/training")
def training_page(
    request: Request,
    here: Here,
    run_id: str,
    begin: Annotated[str, Query(alias="from", max_length=20)] = "",
    end: Annotated[str, Query(alias="to", max_length=20)] = "",
    log: bool = False,
) -> Response:
    """The page; steps are counted over all segments, so that a stretch may cross from one into the next."""
    run = here.run(run_id)
    return page(request, "training.html", run=run, **values(here, run, begin, end, log))


def values(here: Queries, run: Run, begin: str = "", end: str = "", log: bool = False) -> dict[str, Any]:
    """What the page shows of the steps `begin` to `end`."""
    trainings = trainings_of(here, run)
    last = sum(one.planned for one in trainings)
    first, final = _range(begin, end, last)
    pieces = [
        _piece(one, first, final) for one in trainings if one.before < final and one.before + one.planned >= first
    ]
    spikes = [spike for piece in pieces for spike in _spikes(piece)]
    ratios = bytes_per_token(here, run)
    languages = None if ratios is None else _languages(here, pieces, ratios, first, final)
    return {
        "trainings": [
            (
                one,
                _done(here, one),
                url("run", run.id, "stage", one.entry.stage, artifact=one.entry.artifact.partition("/")[2])
                if one.entry
                else "",
            )
            for one in trainings
        ],
        "first": first,
        "final": final,
        "last": last,
        "log": log,
        "zooms": _zooms(run, trainings, first, final, last, log),
        "curves": [
            (name, _curve(pieces, spikes, name, title, unit, form, marked, log))
            for name, title, unit, form, marked in CURVES
        ],
        "languages": languages,
        "counting": languages is None,
        "spikes": spikes[:ROWS],
        "more_spikes": max(0, len(spikes) - ROWS),
        "events": _events(trainings)[:ROWS],
        "live": any(one.state == "running" for one in trainings),
        "address": url("run", run.id, "training", **{"from": begin, "to": end, "log": "1" if log else ""}),
    }


def _range(begin: str, end: str, last: int) -> tuple[int, int]:
    first, final = _step("from", begin, 1), _step("to", end, last or 1)
    if first > final:
        raise BadRequest(f"from={first} is after to={final}: give a first step that is not after the last.")
    return max(1, min(first, last or 1)), max(1, min(final, last or 1))


def _step(name: str, told: str, default: int) -> int:
    if not told.strip():
        return default
    if not (told.isascii() and told.isdigit()) or int(told) > STEPS_LISTED:
        raise BadRequest(f"{name}={told!r}: expected a step, counted from 1.")
    return int(told)


def _piece(training: Training, first: int, final: int) -> Piece:
    table = steps(training, max(1, first - training.before), final - training.before)
    return Piece(training, table, table["step"].to_numpy().astype(np.float64) + training.before)


def _done(here: Queries, training: Training) -> dict[str, Any]:
    """How far a training is, over all of its steps."""
    if training.entry is None:
        return _summary(steps(training))
    return here.cache.get(("steps", training.entry.artifact), lambda: _summary(steps(training)))


def _summary(table: pa.Table) -> dict[str, Any]:
    if not table.num_rows:
        return {"steps": 0, "tokens": 0, "skipped": 0, "loss": None, "speed": None, "seconds": 0.0}
    seconds = float(np.nansum(table["seconds"].to_numpy()))
    loss = table["loss"].to_numpy()[-max(1, table.num_rows // 20) :]
    return {
        "steps": table["step"][-1].as_py(),
        "tokens": int(table["tokens"].to_numpy().sum()),
        "skipped": table.num_rows - table["skipped"].null_count,
        "loss": float(np.mean(loss)),
        "speed": float(np.nanmedian(table["tokens_per_second"].to_numpy())) if seconds else None,
        "seconds": seconds,
    }


def _zooms(
    run: Run, trainings: Sequence[Training], first: int, final: int, last: int, log: bool
) -> list[tuple[str, str]]:
    """Other stretches of the steps, each with its address: what a mouse would do, without a script."""
    wide = final - first + 1
    stretches: list[tuple[str, int, int]] = [
        ("all", 1, last),
        *((one.segment, one.before + 1, one.before + one.planned) for one in trainings),
        ("first half of these", first, first + max(1, wide // 2) - 1),
        ("last half of these", final - max(1, wide // 2) + 1, final),
        ("twice as many", max(1, first - wide // 2), min(last, final + wide // 2)),
        ("earlier", max(1, first - wide // 2), final - wide // 2 if first > 1 else 0),
        ("later", first + wide // 2 if final < last else 0, min(last, final + wide // 2)),
    ]
    usable = [(name, a, b) for name, a, b in stretches if 1 <= a <= b and (a, b) != (first, final)]
    return [
        (name, url("run", run.id, "training", **{"from": a, "to": b, "log": "1" if log else ""}))
        for name, a, b in usable
    ]


def _spikes(piece: Piece) -> list[Spike]:
    """Steps that the guard skipped, and those that it would have, had it known as many steps as we do."""
    guard = piece.training.params.guard
    loss, norm = piece.column("loss"), piece.column("grad_norm")
    skipped = piece.table["skipped"].to_pylist()
    high = outliers(loss, guard.deviations, guard.window) | outliers(norm, guard.deviations, guard.window)
    at = np.flatnonzero(high | np.array([reason is not None for reason in skipped], np.bool_))
    return [
        Spike(
            int(piece.x[i]),
            piece.training.segment,
            int(piece.x[i]) - piece.training.before,
            float(loss[i]),
            float(norm[i]),
            skipped[i] or "",
        )
        for i in at
    ]


def _curve(
    pieces: Sequence[Piece], spikes: Sequence[Spike], name: str, title: str, unit: str, form: Format,
    marked: bool, log: bool,
) -> Markup:  # fmt: skip
    named = sorted(spikes, key=lambda spike: (not spike.skipped, spike.at))[:MARKS] if marked else []
    return charts.lines(
        [_series(piece, name) for piece in pieces],
        title=title,
        x_label="step",
        y_label=f"{title}, {unit}" if unit else title,
        y_form=form,
        log=log,
        marks=[(spike.at, f"{spike.at:,}") for spike in named],
    )


def _series(piece: Piece, name: str) -> Series:
    """One curve; where there are too many steps, the mean of every stretch with its least and greatest value."""
    x, y = piece.x, piece.column(name)
    if len(x) <= POINTS:
        return Series(piece.training.segment, x.tolist(), y.tolist())
    starts = np.linspace(0, len(x), POINTS, endpoint=False).astype(np.int64)
    known = np.where(np.isfinite(y), y, np.nan)
    low, high = (np.array([f(part) for part in np.split(known, starts[1:])]) for f in (np.fmin.reduce, np.fmax.reduce))
    counts = np.maximum(1, np.add.reduceat(np.isfinite(known), starts))
    mean = np.add.reduceat(np.nan_to_num(known), starts) / counts
    return Series(piece.training.segment, x[starts].tolist(), mean.tolist(), low.tolist(), high.tolist())


def _languages(
    here: Queries, pieces: Sequence[Piece], ratios: dict[str, float], first: int, final: int
) -> list[Language] | None:
    """Bits per byte of each language, those with most tokens first; None while they are summed."""
    bins = min(LANGUAGE_POINTS, final - first + 1)
    sums: dict[str, Floats] = {}
    binned = [_binned(here, piece.training, first, final, bins) for piece in pieces]
    for found in binned:
        if found is None:
            return None
        for name, summed in found.items():
            sums[name] = sums.get(name, np.zeros((2, bins))) + summed
    middles = first + (np.arange(bins) + 0.5) * (final - first + 1) / bins - 0.5
    ranked = sorted(sums, key=lambda name: (-sums[name][1].sum(), name))
    return [_language(name, sums[name], ratios[name], middles) for name in ranked if ratios.get(name)]


def _language(name: str, sums: Floats, ratio: float, middles: Floats) -> Language:
    nll, tokens = sums
    seen = np.flatnonzero(tokens)
    bits = nll[seen] / tokens[seen] / np.log(2) / ratio
    chart = charts.lines(
        [Series(name, middles[seen].tolist(), bits.tolist())],
        title=f"Bits per byte of {name}",
        y_form=lambda value: f"{value:.2f}",
        width=280,
        height=130,
    )
    return Language(name, float(tokens.sum()), float(bits[0]), float(bits[-1]), chart)


def _binned(here: Queries, training: Training, first: int, final: int, bins: int) -> dict[str, Floats] | None:
    """Of each language: nats and tokens in each of the stretches between `first` and `final`; None while they are summed."""

    def made() -> dict[str, Floats]:
        table = by_language(training, max(1, first - training.before), final - training.before)
        x = table["step"].to_numpy() + training.before
        names = table["language"].combine_chunks().dictionary_encode()
        at = names.indices.to_numpy() * bins + (x - first) * bins // (final - first + 1)
        shape = (len(names.dictionary), bins)
        summed = [
            np.bincount(at, table[name].to_numpy(), minlength=shape[0] * bins).reshape(shape)
            for name in ("nll", "tokens")
        ]
        return {name: np.stack([summed[0][i], summed[1][i]]) for i, name in enumerate(names.dictionary.to_pylist())}

    if training.entry is None:
        return made()
    return here.cache.soon(("languages", training.entry.artifact, first, final, bins), made)


def _events(trainings: Sequence[Training]) -> list[dict[str, Any]]:
    """Events of all segments, the newest first."""
    told = [
        {
            **event,
            "segment": one.segment,
            "when": datetime.fromtimestamp(event["time"], UTC),
            "detail": "" if event["detail"] == "{}" else event["detail"],
        }
        for one in trainings
        for event in events(one)
    ]
    return sorted(told, key=lambda event: -float(event["time"]))
