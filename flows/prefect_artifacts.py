"""What a run shows in Prefect: the progress of each stage, and the funnel as a table."""

import time
from collections.abc import Mapping, Sequence
from uuid import UUID

from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact

from polylm.flows.prefect_runs import unless_away
from polylm.tasks.build import Done, Failure, Job
from polylm.tasks.session import Observer, StageReport, current
from polylm.tasks.stage import Progress, Stage

PROGRESS_SECONDS = 10.0  # at most one update of a stage's progress in this time


class PrefectObserver(Observer):
    """Shows each stage's progress, at most every 10 s, and passes what it is told on to others."""

    def __init__(self, *others: Observer, every_seconds: float = PROGRESS_SECONDS) -> None:
        self.others, self.every_seconds = others, every_seconds
        self.reports: list[StageReport] = []
        self.run = ""  # the id of the run's record
        self._progress: UUID | None = None
        self._todo = self._ended = 0
        self._last = 0.0

    def jobs_named(self, stage: Stage, jobs: Sequence[Job]) -> None:
        for other in self.others:
            other.jobs_named(stage, jobs)

    def stage_begins(self, stage: str, jobs: int) -> None:
        for other in self.others:
            other.stage_begins(stage, jobs)
        self._progress, self._todo, self._ended, self._last = None, jobs, 0, time.monotonic()

    def at_work(self, stage: str, told: Mapping[str, Progress]) -> None:
        for other in self.others:
            other.at_work(stage, told)
        if told and time.monotonic() - self._last >= self.every_seconds:
            self._last = time.monotonic()
            done = self._ended + sum(progress.done / progress.of for progress in told.values())
            self._show_progress(stage, 100.0 * done / self._todo)

    def job_ended(self, stage: str, outcome: Done | Failure) -> None:
        for other in self.others:
            other.job_ended(stage, outcome)
        self._ended += 1
        if time.monotonic() - self._last >= self.every_seconds or (self._progress and self._ended == self._todo):
            self._last = time.monotonic()
            self._show_progress(stage, 100.0 * self._ended / self._todo)

    def stage_ended(self, report: StageReport) -> None:
        for other in self.others:
            other.stage_ended(report)
        self.reports.append(report)
        self.run = current().record["id"]

    def notice(self, text: str) -> None:
        for other in self.others:
            other.notice(text)

    def alarm(self, text: str) -> None:
        for other in self.others:
            other.alarm(text)

    @unless_away
    def _show_progress(self, stage: str, percent: float) -> None:
        if self._progress is not None:
            update_progress_artifact(self._progress, percent)
            return
        created = create_progress_artifact(percent, key=stage.replace("_", "-"), description=f"jobs of {stage}")
        assert isinstance(created, UUID)
        self._progress = created


@unless_away
def publish_funnel(reports: Sequence[StageReport], link: str = "", waits: bool = False) -> None:
    """One table an attempt: what every stage did, and why documents were rejected; `link` leads to the dashboard.

    The UI lists the tables of one flow run in no order, so that of an attempt that waits for an approval says so.
    """
    rows = [
        {
            "stage": report.stage,
            "jobs": report.jobs,
            "built": len(report.built),
            "rows": report.rows,
            "rejected": ", ".join(f"{reason} {count}" for reason, count in report.reasons.items()),
            "seconds": report.seconds,
        }
        for report in reports
        if report.artifact  # past --until nothing was made
    ]
    more = f" [The run on the dashboard]({link})." if link else ""
    what = "Stages, jobs and rejected documents of this run" + (
        ", until an alarm asked for an approval" if waits else ""
    )
    create_table_artifact(rows, key="funnel", description=f"{what}.{more}")
