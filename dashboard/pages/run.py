"""One run: what became of its documents, what was made from what, what it cost, and what alarmed. Live while it runs."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, Request, Response

from polylm.dashboard import charts
from polylm.dashboard.alarms import evidence_of, other_errors, without_evidence
from polylm.dashboard.charts import Bar, Node, Step
from polylm.dashboard.charts.svg import Format
from polylm.dashboard.distinct import apart, titled
from polylm.dashboard.errors import Notes
from polylm.dashboard.funnel import Funnel, funnel_of, packed_tokens
from polylm.dashboard.links import documents_url, stage_url
from polylm.dashboard.queries import Facts, Here, Queries
from polylm.dashboard.view import count, duration, page, short_count, size, url, words
from polylm.tasks.maintenance.run_records import Entry, Run

Unit = Literal["documents", "chars", "bytes"]
FORMS: dict[Unit, Format] = {"documents": count, "chars": short_count, "bytes": size}
NAMES: dict[Unit, str] = {"documents": "documents", "chars": "characters", "bytes": "bytes"}
_STAGE = re.compile(r"[a-z0-9_]{1,80}")
router = APIRouter()
SHOWN_REASONS = 4
AROUND = 200  # runs before and after one, among which the other attempts of its flow run are
SHOWN_BARS = 10


@dataclass(frozen=True)
class Line:
    """One stage in the table of stages; `facts` None: collected as garbage, or still being read."""

    entry: Entry
    title: str
    href: str
    rows_href: str  # "" of folders
    facts: Facts | None


@dataclass(frozen=True)
class New:
    """What a run had that the one before had not."""

    since: str
    href: str  # "" where that run's record is gone
    sources: list[tuple[str, int, int]]  # name, documents, parts
    parts_gone: int
    kept_more: int | None
    recut: bool


@router.get("/run/{run_id}")
def run_page(request: Request, here: Here, run_id: str, by: Unit = "documents") -> Response:
    """The page of a run."""
    return page(request, "run.html", **_values(here, here.run(run_id), by))


@router.get("/run/{run_id}/live")
def live(request: Request, here: Here, run_id: str, by: Unit = "documents") -> Response:
    """All of the page that changes while the run goes on, for htmx."""
    return page(request, "run_live.html", **_values(here, here.run(run_id), by))


def _values(here: Queries, run: Run, by: Unit) -> dict[str, Any]:
    notes = Notes(here.store.root)
    funnel = notes.read(lambda: funnel_of(here, run), Funnel([]))
    tokens: dict[str, int] = notes.read(lambda: packed_tokens(here, run), {})
    facts = here.facts_of(run, notes)
    told = apart(here, run)
    lines = [
        Line(entry, titled(entry, told), stage_url(run, entry), _rows_href(here, run, entry) if entry.artifact in facts else "", facts.get(entry.artifact))
        for entry in run.stages
    ]  # fmt: skip
    pending = funnel is None or None in facts.values()
    return {
        "run": run,
        "by": by,
        "units": list(FORMS),
        "names": NAMES,
        "form": FORMS[by],
        "tokens": tokens,
        "documents": here.documents(run),
        "survivors": notes.read(lambda: here.survivors(run), None),
        "funnel": funnel,
        "funnel_chart": _funnel_chart(run, funnel, by) if funnel and funnel.gates else None,
        "reasons_chart": _reasons_chart(run, funnel, by) if funnel and funnel.gates else None,
        "more_reasons": max(0, sum(len(funnel.reasons(gate, unit=by)) for gate in funnel.gates) - SHOWN_BARS)
        if funnel
        else 0,
        "lineage": charts.lineage(*_graph(here, run, told), title="What was made from what"),
        "lines": lines,
        "cost_chart": _cost_chart(lines),
        "poll": run.state == "running" or pending,
        "href": {entry.stage: stage_url(run, entry) for entry in run.stages},
        "found": partial(documents_url, run),
        "new": _new(here, run),
        "evidence": notes.read(lambda: evidence_of(here, run, funnel), without_evidence(run)),
        "error": other_errors(run).replace(str(here.store.root), "STORE"),  # as on pages of errors
        "attempts": _attempts(here, run),
        "problems": notes.problems,
    }


def _rows_href(here: Queries, run: Run, entry: Entry) -> str:
    """Where the rows of a table are; "" of folders."""
    if here.manifest(entry).shape.startswith("folder"):
        return ""
    return stage_url(run, entry, **{"as": "table"}) + "#rows"


def _new(here: Queries, run: Run) -> New | None:
    """Read with care, as the rest of a record is: it may be of another version."""
    told = run.new
    if not told:
        return None
    since, sources = str(told.get("since") or ""), told.get("sources")
    known = [
        (name, _whole(one.get("documents")) or 0, _whole(one.get("parts")) or 0)
        for name, one in (sources.items() if isinstance(sources, Mapping) else ())
        if isinstance(one, Mapping)
    ]
    href = url("run", since) if here.runs().has(since) else ""
    gone, more = _whole(told.get("parts_gone")) or 0, _whole(told.get("kept_more"))
    return New(since, href, known, gone, more, bool(told.get("recut")))


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _attempts(here: Queries, run: Run) -> list[Run]:
    """The runs of one flow run, the first first: each alarm that was approved made it begin again. None where it is alone.

    They are looked for among the runs around it, not in all of the store.
    """
    if not run.flow_run:
        return []
    runs = here.runs()
    place = len(runs) - len(runs.older(run.id))
    around = runs[max(0, place - AROUND) : place + AROUND]
    own = [one for one in reversed(around) if one.flow_run == run.flow_run]
    return own if len(own) > 1 else []


def _funnel_chart(run: Run, funnel: Funnel, by: Unit) -> object:
    left = funnel.total().of(by)
    steps = [Step(NAMES[by], left)]
    for gate in funnel.gates:
        lost = funnel.total(gate=gate).of(by)
        left -= lost
        href, lost_href = url("run", run.id, "stage", gate), documents_url(run, gate=gate)
        steps.append(Step(words(gate), left, lost, href, _top(funnel.reasons(gate)), lost_href))
    return charts.funnel(steps, title=f"{NAMES[by].capitalize()} left after each gate", form=FORMS[by], width=760)


def _reasons_chart(run: Run, funnel: Funnel, by: Unit) -> object:
    found = [
        Bar(words(reason), amount, documents_url(run, gate=gate, reason=reason))
        for gate in funnel.gates
        for reason, amount in funnel.reasons(gate, unit=by).items()
    ]
    ranked = sorted(found, key=lambda bar: -bar.value)[:SHOWN_BARS]
    return charts.bars(ranked, title="The commonest first reasons", form=FORMS[by], width=480) if ranked else None


def _top(reasons: dict[str, int]) -> str:
    more = [f"{len(reasons) - SHOWN_REASONS} more"] if len(reasons) > SHOWN_REASONS else []
    return ", ".join([*(f"{words(r)} {count(n)}" for r, n in list(reasons.items())[:SHOWN_REASONS]), *more])


def _graph(here: Queries, run: Run, told: Mapping[str, str]) -> tuple[list[Node], list[tuple[str, str]]]:
    """The stages of a run and, while it is not complete, those that the last complete run of the recipe had after them."""
    nodes, edges = [], []
    for entry in run.stages:
        note = f"{entry.state} · {duration(entry.seconds)}" if entry.built else entry.state
        nodes.append(Node(entry.artifact, titled(entry, told), entry.state, note, stage_url(run, entry)))
        edges += [(ref, entry.artifact) for ref in entry.reads]
    like = _like(here, run)
    told = apart(here, like) if like else {}
    for entry, state, note in _ahead(run, like):
        nodes.append(Node(entry.artifact, titled(entry, told), state, note))
        edges += [(_known(run, ref), entry.artifact) for ref in entry.reads]
    return nodes, edges


def _like(here: Queries, run: Run) -> Run | None:
    """The last complete run of the recipe of a run that is not complete: it tells what is still to come."""
    if run.state in ("completed", "approved", "damaged"):
        return None
    return next((one for one in here.runs().of(run.name) if one.state == "completed"), None)


def _ahead(run: Run, like: Run | None) -> list[tuple[Entry, str, str]]:
    """What is still to come of a run that is not complete, as far as an earlier run tells; the first of it is at work."""
    if run.state in ("completed", "approved", "damaged"):
        return []
    rest = _without(like.stages, run.stages) if like else []
    at_work = str(run.now.get("stage") or "")
    if _STAGE.fullmatch(at_work) and (
        not rest or rest[0].stage != at_work
    ):  # the first run of its kind: nothing tells what follows
        jobs = _whole(run.now.get("jobs")) or 0
        entry = Entry(stage=at_work, jobs=jobs, reused=0, built=0, seconds=0.0, rows=0, reasons={}, artifact=at_work)  # fmt: skip
        rest = [entry, *rest]
    goes_on = "waiting" if run.state in ("running", "awaiting approval") else "not reached"
    first = {"running": ("running", "running"), "failed": ("failed", "failed")}.get(run.state, ("waiting", goes_on))
    return [(entry, *(first if index == 0 else ("waiting", goes_on))) for index, entry in enumerate(rest)]


def _without(stages: Sequence[Entry], done: Sequence[Entry]) -> list[Entry]:
    """Stages of another run that one has not come to, in their order: it may have had others in between."""
    left, rest = Counter(entry.stage for entry in done), []
    for entry in stages:
        if left[entry.stage]:
            left[entry.stage] -= 1
        else:
            rest.append(entry)
    return rest


def _known(run: Run, ref: str) -> str:
    """The artifact of this run that stands where another run had `ref`."""
    entries = run.entries(ref.partition("/")[0])
    return entries[-1].artifact if entries else ref


def _cost_chart(lines: list[Line]) -> object:
    known = [line for line in lines if line.facts]
    ranked = sorted(known, key=lambda line: -line.facts.cpu_seconds if line.facts else 0)[:SHOWN_BARS]
    items = [
        Bar(line.title, line.facts.cpu_seconds, line.href, note=f"{duration(line.facts.cpu_seconds)} CPU, peak {size(line.facts.peak_bytes)}")
        for line in ranked
        if line.facts
    ]  # fmt: skip
    return charts.bars(items, title="The costliest stages, by CPU time", width=480) if items else None
