"""Search a run's documents: by address, id, address on the web or words, with filters that are all in the page's address."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi import Query as Given
from markupsafe import Markup

from polylm.dashboard import document as doc
from polylm.dashboard.errors import BadRequest, Missing
from polylm.dashboard.funnel import gates_of
from polylm.dashboard.links import NO_LABEL
from polylm.dashboard.queries import Here, Place, Queries
from polylm.dashboard.search import By, Fate, Found, Question, labels_of, search
from polylm.dashboard.text import cluster_boundary, shortened, visible
from polylm.dashboard.view import page, url
from polylm.tasks.maintenance.run_records import Run

MOST_ASKED = 200  # characters of what is searched for
BEFORE, BEHIND = 90, 200  # characters shown around a match
router = APIRouter()


@dataclass(frozen=True)
class Hit:
    """A document that was found."""

    address: str
    href: str
    language: str
    rejected_by: tuple[str, str] | None
    id: str | None
    url: str | None
    snippet: Markup


@router.get("/run/{run_id}/search")
def search_page(
    request: Request,
    here: Here,
    run_id: str,
    q: Annotated[str, Given(max_length=MOST_ASKED)] = "",
    by: By = "words",
    language: str = "",
    fate: Fate = "",
    reason: str = "",
    source: str = "",
    gate: str = "",
    alone: bool = False,
    after: str = "",
) -> Response:
    """The form and one page of results."""
    run = here.run(run_id)
    asked = Question(q.strip(), by, language, fate, reason, source, gate, alone, after)
    found = search(here, run, asked) if run.entries("ingest") else Found([])
    named = _at_address(here, run, asked)
    following = replace(asked, after=here.address(run, *found.after)) if found.after else None
    return page(
        request,
        "search.html",
        run=run,
        asked=asked,
        hits=_hits(here, run, asked, found.places),
        named=_hits(here, run, asked, [(named.part, named.row)]) if named else [],
        found=found,
        documents=here.documents(run),
        more=_url(run, following) if following else "",
        first=_url(run, replace(asked, after="")) if after else "",
        languages=_languages(here, run, asked.language),
        reasons=_reasons(here, run, asked),
        gates=_with([one.stage for one in gates_of(here, run)], gate),
        sources=_with(list(here.manifest(here.entry(run, "ingest")).sources) if run.entries("ingest") else [], source),
    )


def snippet(text: str, asked: str) -> Markup:
    """The first match with what stands around it, or the beginning."""
    match = re.search(re.escape(asked), text, re.IGNORECASE) if asked else None
    begin, end = match.span() if match else (0, 0)
    start = cluster_boundary(text, max(0, begin - BEFORE))
    told = [visible(text[start:begin]), Markup("<mark>{}</mark>").format(visible(text[begin:end])) if match else ""]
    rest = visible(shortened(text[end : end + 2 * BEHIND], BEHIND))
    return Markup("{}{}{}{}").format("…" if start else "", *told, rest)


def _at_address(here: Queries, run: Run, asked: Question) -> Place | None:
    """The document whose address was typed."""
    try:
        return here.place(run, asked.q) if asked.q and not asked.after else None
    except (BadRequest, Missing):
        return None


def _hits(here: Queries, run: Run, asked: Question, places: Sequence[tuple[int, int]]) -> list[Hit]:
    """What is shown of some places; they are in order, so those of a part are together."""
    return [
        hit
        for part, own in groupby(places, key=lambda place: place[0])
        for hit in _of_part(here, run, asked, part, [row for _, row in own])
    ]


def _of_part(here: Queries, run: Run, asked: Question, part: int, rows: Sequence[int]) -> Iterator[Hit]:
    labels = labels_of(here, run, part)
    about = doc.rows_of(here, run, "ingest", part, rows, ["id", "url"])
    texts = doc.rows_of(here, run, "clean", part, rows, ["text"])
    for row, told, cleaned in zip(rows, about, texts, strict=True):
        address = here.address(run, part, row)
        language, rejected = labels.told(row)
        text = snippet(cleaned.get("text") or "", asked.q if asked.by == "words" else "")
        href = url("run", run.id, "doc", address)
        yield Hit(address, href, language, rejected, told.get("id"), told.get("url"), text)


def _url(run: Run, asked: Question) -> str:
    default = {"by": "" if asked.by == "words" else asked.by, "alone": "1" if asked.alone else ""}
    return url("run", run.id, "search", **{**asdict(asked), **default})


def _languages(here: Queries, run: Run, chosen: str) -> list[str]:
    """The labels that `count_labels` counted, those with most documents first."""
    entry = doc.last(here, run, "count_labels")
    rows: list[dict[str, Any]] = here.small_table(entry).to_pylist() if entry else []
    ranked = sorted(rows, key=lambda row: -row.get("documents", 0))
    return _with([row["language"] or NO_LABEL for row in ranked if "language" in row], chosen)


def _reasons(here: Queries, run: Run, asked: Question) -> list[str]:
    """The reasons of the gate that is asked for, or of all."""
    gates = [gate for gate in gates_of(here, run) if asked.gate in ("", gate.stage)]
    return _with([reason for gate in gates for reason in here.manifest(gate).reasons], asked.reason)


def _with(names: Sequence[str], chosen: str) -> list[str]:
    """Names once each, with the chosen one even if nothing has it."""
    return list(dict.fromkeys([*names, *([chosen] if chosen else [])]))
