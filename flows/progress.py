"""What a run says while it goes: a live display on a terminal, plain lines elsewhere; all on stderr."""

import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from polylm.tasks.build import Done, Failure
from polylm.tasks.session import Observer, StageReport
from polylm.tasks.stage import Progress


class Lines(Observer):
    """One line a stage when it ends, and one every 30 s in a long one."""

    every_seconds = 30.0

    def __init__(self) -> None:
        self._todo, self._ended, self._started, self._last = 0, 0, 0.0, 0.0
        self._first: dict[str, tuple[int, float]] = {}  # what each job at work told first, and when

    def stage_begins(self, stage: str, jobs: int) -> None:
        self._todo, self._ended, self._first = jobs, 0, {}
        self._started = self._last = time.monotonic()

    def at_work(self, stage: str, told: Mapping[str, Progress]) -> None:
        for title, progress in told.items():
            self._first.setdefault(title, (progress.done, time.monotonic()))
        if self._is_due():
            jobs = [self._jobs()] if self._todo > 1 or not told else []
            own = [f"{title.removeprefix(stage)} {self._of_job(title, one)}".strip() for title, one in told.items()]
            self.notice(f"{stage}: {'; '.join([*jobs, *own])}")

    def job_ended(self, stage: str, outcome: Done | Failure) -> None:
        self._ended += 1
        if isinstance(outcome, Failure):
            self.notice(f"{outcome.title} failed")
        if self._is_due():
            self.notice(f"{stage}: {self._jobs()}")

    def stage_ended(self, report: StageReport) -> None:
        self.notice(describe(report))

    def notice(self, text: str) -> None:
        try:
            print(text, file=sys.stderr, flush=True)  # noqa: T201 -- this is where a run speaks
        except (
            OSError
        ):  # who listened is gone, or their terminal, or room for what they keep; the run is not about them
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())

    def close(self) -> None:
        """Leave the terminal as it was."""

    def _is_due(self) -> bool:
        due = time.monotonic() - self._last >= self.every_seconds
        if due:
            self._last = time.monotonic()
        return due

    def _jobs(self) -> str:
        counted, spent = f"{self._ended} of {self._todo} jobs", time.monotonic() - self._started
        if not self._ended:
            return f"{counted}, {_span(spent)} so far"
        seconds = max(1e-9, spent) / self._ended
        rate = f"{1 / seconds:.1f}/s" if seconds < 1 else f"{seconds:.0f} s each"
        return f"{counted}, {rate}, about {_span((self._todo - self._ended) * seconds)} left"

    def _of_job(self, title: str, told: Progress) -> str:
        first, since = self._first[title]
        steps, spent = told.done - first, time.monotonic() - since
        left = f"about {_span(spent / steps * (told.of - told.done))} left" if steps > 0 else ""
        return ", ".join(word for word in (f"{told.done:,} of {told.of:,}", told.more, left) if word)


class Live(Lines):
    """A progress bar with rate and expected end for the stage that runs; finished stages scroll up."""

    every_seconds = math.inf  # the bar says it

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

    def stage_begins(self, stage: str, jobs: int) -> None:
        super().stage_begins(stage, jobs)
        self._bars.start()
        self._bar = self._bars.add_task(stage, total=jobs)

    def at_work(self, stage: str, told: Mapping[str, Progress]) -> None:
        if self._todo == 1 and not self._first:
            for progress in told.values():  # one at most; from here on its own steps are what is counted
                self._bars.reset(self._bar, total=progress.of, completed=progress.done)
        super().at_work(stage, told)
        for progress in told.values():
            done = progress.done if self._todo == 1 else None
            self._bars.update(self._bar, description=f"{stage} {progress.more}", completed=done)

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


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"


def _top(reasons: dict[str, int], shown: int = 3) -> str:
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    more = f", {len(ranked) - shown} more" if len(ranked) > shown else ""
    return ", ".join(f"{reason} {count:,}" for reason, count in ranked[:shown]) + more
