"""What a training tells: one JSON line a step and an event, flushed at once, and Parquet tables at the end."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

STEPS = pa.schema(
    [
        ("step", pa.int64()),  # steps done, from 1
        ("segment", pa.string()),
        ("loss", pa.float64()),  # nats a token, with the z-loss
        ("z_loss", pa.float64()),  # mean logsumexp^2, without its factor
        ("tokens", pa.int64()),  # that gave a loss
        ("grad_norm", pa.float64()),  # before clipping
        ("rate", pa.float64()),
        ("seconds", pa.float64()),
        ("tokens_per_second", pa.float64()),
        ("skipped", pa.string()),  # why the step was not taken, or null
    ]
)
LANGUAGES = pa.schema([("step", pa.int64()), ("language", pa.string()), ("nll", pa.float64()), ("tokens", pa.int64())])
CELLS = pa.schema([("step", pa.int64()), ("cell", pa.string()), ("rows", pa.int64())])
EVENTS = pa.schema([("time", pa.float64()), ("event", pa.string()), ("step", pa.int64()), ("detail", pa.string())])

_LINE_BYTES = 1 << 18  # no line of a step is longer: some 50 bytes a language and a cell


@dataclass(frozen=True)
class StepMetrics:
    """A step; `languages` holds (summed nll, tokens), `rows` what each cell delivered."""

    step: int
    segment: str
    loss: float
    z_loss: float
    tokens: int
    grad_norm: float
    rate: float
    seconds: float
    tokens_per_second: float
    skipped: str | None
    languages: dict[str, tuple[float, int]]
    rows: dict[str, int]


class RunLog:
    """The append-only journals of a training's folder. Only rank 0 has one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._metrics = folder / "metrics.jsonl"
        self._events = folder / "events.jsonl"
        self._board: Any = None

    def step(self, metrics: StepMetrics) -> None:
        """Note a step."""
        _append(self._metrics, asdict(metrics))
        if self._board is not None:
            self._show(metrics)

    def event(self, event: str, step: int, **detail: Any) -> None:
        """Note something that happened after `step` steps."""
        _append(self._events, {"time": time.time(), "event": event, "step": step, "detail": json.dumps(detail)})

    def open_board(self, step: int) -> None:
        """Also write TensorBoard events, in place of those after `step`."""
        from torch.utils.tensorboard import SummaryWriter  # takes a second; not every run wants it

        self._board = SummaryWriter(str(self._folder / "tensorboard"), purge_step=step + 1)

    def _show(self, metrics: StepMetrics) -> None:
        for name in ("loss", "grad_norm", "rate", "tokens_per_second"):
            self._board.add_scalar(name, getattr(metrics, name), metrics.step)
        for language, (nll, tokens) in metrics.languages.items():
            self._board.add_scalar(f"loss/{language}", nll / tokens, metrics.step)
        self._board.flush()

    def rewind(self, step: int) -> None:
        """Forget the steps after `step`, and a line that a crash cut, so that the table has each step once."""
        kept = [line for line in _lines(self._metrics) if line["step"] <= step]
        aside = self._metrics.with_suffix(".tmp")
        with aside.open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(line) + "\n" for line in kept)
            out.flush()
            os.fsync(out.fileno())
        aside.replace(self._metrics)

    def sync(self) -> None:
        """Bring the journals to the disk; a checkpoint must not be ahead of its metrics."""
        for path in (self._metrics, self._events):
            if path.exists():
                with path.open("rb") as file:
                    os.fsync(file.fileno())

    def rows_delivered(self) -> dict[str, dict[str, int]]:
        """Sum the rows of each cell, segment by segment."""
        totals: dict[str, dict[str, int]] = {}
        for line in _lines(self._metrics):
            cells = totals.setdefault(line["segment"], {})
            for cell, rows in line["rows"].items():
                cells[cell] = cells.get(cell, 0) + rows
        return totals

    def steps_skipped(self) -> int:
        """Count the steps that were not taken."""
        return sum(line["skipped"] is not None for line in _lines(self._metrics))

    def write_tables(self) -> None:
        """Turn the journals into Parquet, a few thousand lines at a time."""
        self._table("metrics.parquet", STEPS, self._metrics, lambda line: [line])
        self._table("metrics_by_language.parquet", LANGUAGES, self._metrics, _language_rows)
        self._table("metrics_by_cell.parquet", CELLS, self._metrics, _cell_rows)
        self._table("events.parquet", EVENTS, self._events, lambda line: [line])

    def _table(self, name: str, schema: pa.Schema, source: Path, rows: Callable[[Any], Iterable[Any]]) -> None:
        aside = self._folder / f"{name}.tmp"
        with pq.ParquetWriter(aside, schema, compression="zstd") as writer:
            for lines in _chunks(_lines(source), 4096):
                batch = [{key: row[key] for key in schema.names} for line in lines for row in rows(line)]
                writer.write_table(pa.Table.from_pylist(batch, schema))
        aside.replace(self._folder / name)


def last_step(folder: Path) -> dict[str, Any] | None:
    """The latest step that a training at work in this folder has noted; None before the first."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LINE_BYTES))
            lines = file.read().split(b"\n")[:-1]
            return dict(json.loads(lines[-1])) if lines else None
    except (FileNotFoundError, json.JSONDecodeError):
        return None  # a line that is longer shows nothing


def _language_rows(line: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"step": line["step"], "language": language, "nll": nll, "tokens": tokens}
        for language, (nll, tokens) in line["languages"].items()
    ]


def _cell_rows(line: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"step": line["step"], "cell": cell, "rows": rows} for cell, rows in line["rows"].items()]


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole lines of a journal; a last one without its end was cut by a crash."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def _chunks(lines: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    for line in lines:
        chunk.append(line)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
