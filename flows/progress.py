"""What a run says while it goes: a live display on a terminal, plain lines elsewhere; all on stderr."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from polylm.tasks.build import Done, Failure
from polylm.tasks.run import Observer, StageReport


class Lines(Observer):
    """One line a stage when it ends, and one every 30 s in a long one."""

    every_seconds = 30.0

    def __init__(self) -> None:
        self._stage, self._todo, self._ended, self._started, self._last = "", 0, 0, 0.0, 0.0

    def stage_begins(self, stage: str, jobs: int, todo: int) -> None:
        self._stage, self._todo, self._ended = stage, todo, 0
        self._started = self._last = time.monotonic()

    def job_ended(self, stage: str, outcome: Done | Failure) -> None:
        self._ended += 1
        if isinstance(outcome, Failure):
            self.notice(f"{outcome.title} failed")
        if time.monotonic() - self._last >= self.every_seconds:
            self._last = time.monotonic()
            self.notice(f"{stage}: {self._ended} of {self._todo} jobs, {self._expected()}")

    def stage_ended(self, report: StageReport) -> None:
        self.notice(describe(report))

    def notice(self, text: str) -> None:
        try:
            print(text, file=sys.stderr, flush=True)  # noqa: T201 -- this is where a run speaks
        except BrokenPipeError:  # who listened is gone; the run is not about them
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())

    def close(self) -> None:
        """Leave the terminal as it was."""

    def _expected(self) -> str:
        seconds = max(1e-9, time.monotonic() - self._started) / self._ended
        rate = f"{1 / seconds:.1f}/s" if seconds < 1 else f"{seconds:.0f} s each"
        return f"{rate}, about {(self._todo - self._ended) * seconds:.0f} s left"


class Live(Lines):
    """A progress bar with rate and expected end for the stage that runs; finished stages scroll up."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:22}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
        self._bar: Any = None

    def stage_begins(self, stage: str, jobs: int, todo: int) -> None:
        super().stage_begins(stage, jobs, todo)
        self._bars.start()
        self._bar = self._bars.add_task(stage, total=todo)

    def job_ended(self, stage: str, outcome: Done | Failure) -> None:
        self._bars.advance(self._bar)
        super().job_ended(stage, outcome)

    def stage_ended(self, report: StageReport) -> None:
        if self._bar is not None:
            self._bars.remove_task(self._bar)
            self._bar = None
        self._bars.stop()
        super().stage_ended(report)

    def close(self) -> None:
        self._bars.stop()


@contextmanager
def shown() -> Iterator[Observer]:
    """What a run says on this standard error, which is left as it was."""
    lines = Live() if sys.stderr.isatty() else Lines()
    try:
        yield lines
    finally:
        lines.close()


def describe(report: StageReport) -> str:
    """One line about a stage of a run."""
    made = f"{len(report.built)} built" if report.built else "re-used"
    rejected = sum(report.reasons.values())
    rows = f"{report.rows:,} rows" if report.rows else ""
    why = f", {rejected:,} rejected ({_top(report.reasons)})" if rejected else ""
    return f"{report.stage:24} {report.jobs:5} jobs  {made:12} {report.seconds:7.1f} s  {rows}{why}".rstrip()


def _top(reasons: dict[str, int], shown: int = 3) -> str:
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    more = f", {len(ranked) - shown} more" if len(ranked) > shown else ""
    return ", ".join(f"{reason} {count:,}" for reason, count in ranked[:shown]) + more
