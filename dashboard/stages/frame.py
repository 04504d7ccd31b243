"""What the own pages of stages have in common: their head, and links to their params, parts and rows."""

from typing import Any

from fastapi import Request, Response

from polylm.dashboard.distinct import siblings
from polylm.dashboard.gates import stage_of
from polylm.dashboard.links import key_of
from polylm.dashboard.queries import Queries
from polylm.dashboard.view import page, url
from polylm.tasks.maintenance.run_records import Entry, Run


def own_page(request: Request, here: Queries, template: str, run: Run, entry: Entry, **values: Any) -> Response:
    """A page of a stage whose template extends `stage_own.html`."""
    key = key_of(entry)
    return page(
        request, template, run=run, entry=entry, stage=stage_of(entry.stage), siblings=siblings(here, run, entry),
        artifact=key, table=url("run", run.id, "stage", entry.stage, artifact=key, **{"as": "table"}), **values,
    )  # fmt: skip
