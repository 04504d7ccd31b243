"""The funnel of a run as a table in Prefect."""

from collections.abc import Sequence

from prefect.artifacts import create_table_artifact

from polylm.tasks.prefect_runs import unless_away
from polylm.tasks.run import StageReport


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
