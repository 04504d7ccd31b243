"""The first page: every run of the store, whatever started it."""

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from polylm.dashboard.comparison import run_before
from polylm.dashboard.errors import Notes
from polylm.dashboard.queries import Here, Queries
from polylm.dashboard.view import page
from polylm.tasks.maintenance.run_records import Run

PAGE_RUNS = 100
router = APIRouter()


@dataclass(frozen=True)
class Row:
    """A run in the list; `problems` say why a number is missing."""

    run: Run
    documents: int | None
    selected: int | None
    before: Run | None  # of the same recipe
    problems: tuple[str, ...]


@router.get("/")
def runs(request: Request, here: Here, before: str = "") -> Response:
    """Runs, the newest first, a hundred a page."""
    every = here.runs()
    found = every.older(before) if before else every
    rows = [_row(here, run, run_before(every, run)) for run in found[:PAGE_RUNS]]
    problems = list(dict.fromkeys(problem for row in rows for problem in row.problems))
    older, gone = len(found) > PAGE_RUNS, "" if here.store.root.is_dir() else str(here.store.root)
    return page(request, "runs.html", rows=rows, problems=problems, older=older, before=before, gone=gone)


def _row(here: Queries, run: Run, before: Run | None) -> Row:
    notes = Notes(here.store.root)
    selected = notes.read(lambda: here.survivors(run), None)
    return Row(run, here.documents(run), selected, before, tuple(notes.problems))
