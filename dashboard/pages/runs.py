"""The first page: every run of the store, whatever started it."""

from fastapi import APIRouter, Request, Response

from polylm.dashboard.queries import Here
from polylm.dashboard.view import page

PAGE_RUNS = 100
router = APIRouter()


@router.get("/")
def runs(request: Request, here: Here, before: str = "") -> Response:
    """Runs, the newest first, a hundred a page."""
    found = [run for run in here.runs() if not before or run.id < before]
    rows = [(run, here.documents(run), here.survivors(run)) for run in found[:PAGE_RUNS]]
    compare = "/compare/{a}/{b}" in request.app.state.paths
    return page(request, "runs.html", rows=rows, older=len(found) > PAGE_RUNS, compare=compare, before=before)
