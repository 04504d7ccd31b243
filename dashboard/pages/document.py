"""One document: its verdict and text, every rule, its duplicates, where it was trained on, and what would keep it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from polylm.dashboard import document as doc
from polylm.dashboard.cache import PATIENCE_SECONDS
from polylm.dashboard.charts.svg import chart, line, rect
from polylm.dashboard.commands import polylm
from polylm.dashboard.consequences import Alike, LetIn, alike_with, let_in
from polylm.dashboard.document import Cluster, Verdict
from polylm.dashboard.errors import BadRequest, Missing, Notes
from polylm.dashboard.funnel import gates_of, gone_gates
from polylm.dashboard.keeping import Advice, Change, advice_on
from polylm.dashboard.origins import Origin, origins_of
from polylm.dashboard.queries import Here, Place, Queries
from polylm.dashboard.recipe_fields import command_line, option_lines, set_words
from polylm.dashboard.refit import can_refit, refit
from polylm.dashboard.search import labels_of
from polylm.dashboard.shown_text import shown_text
from polylm.dashboard.training_trace import SHOWN_STEPS, PackedRow, Training, packed_rows, trainings
from polylm.dashboard.view import number, page, words
from polylm.dashboard.word_diff import Diff, word_diff
from polylm.tasks.build import Job
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.why import Answer

SHOWN_ROWS = 20
BAR = 120.0
router = APIRouter()


@dataclass(frozen=True)
class Told:
    """A rule's answer with its bar, and where its threshold comes from where that was chosen by language."""

    answer: Answer
    verdict: str  # of a rule that is switched off "off"
    bar: Markup | None
    origin: Origin | None


@dataclass(frozen=True)
class Parting:
    """The similarity with the centre up to which two documents are in one cluster, 1 of equal ones, and the option above it."""

    similarity: float
    words: list[str]

    @property
    def are_equal(self) -> bool:
        return self.similarity == 1.0


@router.get("/run/{run_id}/doc/{address}")
def document(
    request: Request, here: Here, run_id: str, address: str, text: Literal["", "whole"] = "", beside: str = ""
) -> Response:
    """The page of a document; `text=whole` shows all of a long one, `beside` compares it with another."""
    run = here.run(run_id)
    place = _place(here, run, address)
    jobs, unasked = doc.jobs_of(here, run, place)
    verdict = doc.judge(here, jobs, place)
    recorded = labels_of(here, run, place.part).told(place.row)[1] if unasked else None
    about = doc.about(here, run, place)
    shown = shown_text(here, run, place, about, verdict, text == "whole")
    cluster = doc.cluster_of(here, run, place)
    origins = {
        (entry.stage, rule): one for entry, job in jobs for rule, one in origins_of(job, about["language"]).items()
    }
    other, diff = _beside(here, run, place, cluster, beside)
    return page(
        request,
        "document.html",
        run=run,
        place=place,
        near=_near(here, run, place),
        why=polylm(here.store.root, "why", place.address, "--run", run.id),
        about=about,
        sentence=_recorded(recorded, gone_gates(here, run))
        if unasked
        else _sentence(verdict, about, cluster, is_done=bool(run.entries("drop_duplicates"))),
        verdict=verdict,
        unasked=unasked,
        is_rejected=recorded is not None if unasked else verdict.first is not None,
        is_judged=recorded is not None or not gone_gates(here, run) if unasked else bool(verdict.answers),
        split=doc.row_of(here, run, "assign_split", place, ["split"]).get("split"),
        rules=[
            Told(one, one.verdict, _bar(one), origins.get((one.gate, one.rule))) for one in doc.ordered(verdict.answers)
        ],
        origins=origins,
        unjudged=sum(answer.verdict.startswith("not judged") for answer in verdict.answers),
        text=shown,
        script=about["script"] or doc.script_of("".join(piece.text for piece in shown.pieces if not piece.cut)),
        cluster=cluster,
        is_compared=doc.row_of(here, run, "sign", place, ["bands"]).get("bands") is not None,
        other=other,
        diff=diff,
        **_keeping(here, run, place, jobs, verdict, cluster, unasked),
        command_line=command_line,
        option_lines=option_lines,
        has_packed=bool(run.entries("pack")),
    )


@router.get("/run/{run_id}/doc/{address}/training")
def training(request: Request, here: Here, run_id: str, address: str) -> Response:
    """The packed rows of a document and the steps that saw them, for htmx or alone."""
    run = here.run(run_id)
    place = _place(here, run, address)
    rows = packed_rows(here, run, place)
    found = trainings(here, run)
    return _part_of_page(
        request,
        "document_training.html",
        run=run,
        place=place,
        rows=rows[:SHOWN_ROWS],
        count=len(rows),
        held=_held(rows),
        rejected_but_paired=bool(rows) and doc.row_of(here, run, "select", place, ["weight"]).get("weight") is None,
        trainings=found,
        steps=_steps(rows, found or []),
        shown_steps=SHOWN_STEPS,
    )


@router.get("/run/{run_id}/doc/{address}/let-in/{change}")
def lets_in(request: Request, here: Here, run_id: str, address: str, change: int | Literal["all"]) -> Response:
    """How many other documents a change of the advice lets in, or all of them together, for htmx."""
    run = here.run(run_id)
    place = _place(here, run, address)
    asked = _advice(here, run, place).changes if change == "all" else [_change(here, run, place, change)]
    if not any(one.changes for one in asked):
        raise Missing(f"No option keeps the document {place.address} by change {change}.")
    found = _let_in(here, run, place, asked, PATIENCE_SECONDS)
    return _part_of_page(request, "document_let_in.html", run=run, place=place, index=change, found=found)


@router.get("/run/{run_id}/doc/{address}/alike")
def alike(request: Request, here: Here, run_id: str, address: str) -> Response:
    """Which of the documents that are alike is kept with all changes of the advice made, for htmx."""
    run = here.run(run_id)
    place = _place(here, run, address)
    advice, cluster = _advice(here, run, place), doc.cluster_of(here, run, place)
    if cluster is None or not _comes_to_its_like(advice, cluster):
        raise Missing(f"No option brings the document {place.address} to those that are like it.")
    found = _alike(here, run, place, advice, cluster, PATIENCE_SECONDS)
    parting = _parting(here, run, place, found.keeper if found else None)
    return _part_of_page(
        request,
        "document_alike.html",
        run=run,
        place=place,
        cluster=cluster,
        alike=found,
        alike_parting=parting,
        command_line=command_line,
    )


@router.get("/run/{run_id}/doc/{address}/refit/{change}")
def refits(request: Request, here: Here, run_id: str, address: str, change: int) -> Response:
    """Which field would move a bound that was fitted, for htmx."""
    run = here.run(run_id)
    place = _place(here, run, address)
    asked = _change(here, run, place, change)
    if not can_refit(here, asked):
        raise Missing(f"The bound of {asked.rule} is not fitted again here.")
    key = ("refit", run.id, asked.entry.artifact, place.number, asked.rule)
    found = here.cache.soon(key, lambda: refit(here, run, asked, place))
    return _part_of_page(
        request, "document_refit.html", run=run, place=place, index=change, found=found, command_line=command_line
    )


def _keeping(
    here: Queries,
    run: Run,
    place: Place,
    jobs: Sequence[tuple[Entry, Job]],
    verdict: Verdict,
    cluster: Cluster | None,
    unasked: Sequence[str],
) -> dict[str, Any]:
    """What the page says of what would keep a document, and what of the gates' files it could not read."""
    notes = Notes(here.store.root)
    gone = _gone(here, run, place)
    keeper = cluster.keeper if cluster else None
    if not verdict.first or unasked:
        return {"gone": gone, "uncounted": [], "advice": None, "parting": _parting(here, run, place, keeper)}
    advice = advice_on(here, run, jobs, place, verdict)

    def counted(changes: Sequence[Change]) -> LetIn | None:
        return notes.read(lambda: _let_in(here, run, place, changes, patience=0.0), None)

    alike = notes.read(lambda: _alike(here, run, place, advice, cluster, patience=0.0), None)
    return {
        "advice": advice,
        "let_in": [counted([change]) for change in advice.changes],
        "all_let_in": counted(advice.changes),
        "with_others": _comes_to_its_like(advice, cluster),
        "alike": alike,
        "alike_parting": _parting(here, run, place, alike.keeper if alike else None),
        "parting": _parting(here, run, place, keeper),
        "refits": [can_refit(here, change) for change in advice.changes],
        "gone": gone,
        "uncounted": [problem for problem in notes.problems if problem not in gone],
    }


def _advice(here: Queries, run: Run, place: Place) -> Advice:
    """What would keep a document, by the gates that can be asked again."""
    jobs, unasked = doc.jobs_of(here, run, place)
    if unasked:
        raise Missing(f"What would keep a document cannot be said here: {unasked[0]}.")
    return advice_on(here, run, jobs, place, doc.judge(here, jobs, place))


def _change(here: Queries, run: Run, place: Place, index: int) -> Change:
    """A change of the document's advice, by its place there."""
    changes = _advice(here, run, place).changes
    if not 0 <= index < len(changes):
        raise Missing(f"The document {place.address} has no change {index} that would keep it.")
    return changes[index]


def _let_in(here: Queries, run: Run, place: Place, changes: Sequence[Change], patience: float) -> LetIn | None:
    """Which other documents changes let in together; None while they are judged, or where there is no change."""
    made = [change for change in changes if change.changes]
    if not made:
        return None
    gates = gates_of(here, run)
    key = ("let in", tuple(gate.artifact for gate in gates), place.number, *map(_told, made))
    return here.cache.soon(key, lambda: let_in(here, gates, made, place), patience)


def _comes_to_its_like(advice: Advice, cluster: Cluster | None) -> bool:
    """Whether options bring a document through all gates but that of duplicates, and which of its like stays can be said."""
    through = advice.is_whole and advice.is_kept and bool(advice.changes)
    return through and cluster is not None and cluster.is_judged


def _alike(
    here: Queries, run: Run, place: Place, advice: Advice, cluster: Cluster | None, patience: float
) -> Alike | None:
    """Which of documents that are alike is kept by the advice; None while they are judged, or where none are."""
    if cluster is None or not _comes_to_its_like(advice, cluster):
        return None
    gates = gates_of(here, run)
    key = ("alike", tuple(gate.artifact for gate in gates), place.number, *map(_told, advice.changes))
    return here.cache.soon(key, lambda: alike_with(here, run, gates, advice.changes, place, cluster), patience)


def _told(change: Change) -> tuple[str, str]:
    return change.entry.artifact, repr(change.changes)


def _part_of_page(request: Request, template: str, **values: Any) -> Response:
    """A part alone for htmx, which asks by a header; in a frame for those without scripts."""
    frame = "document_part.html"
    return page(request, template if "hx-request" in request.headers else frame, part=template, **values)


def _place(here: Queries, run: Run, address: str) -> Place:
    try:
        return here.place(run, address)
    except BadRequest as error:  # it is part of the page's own address, so the page is what there is not
        raise Missing(str(error)) from error


def _near(here: Queries, run: Run, place: Place) -> list[tuple[str, str]]:
    """The documents before and after it."""
    rows = here.manifest(here.entry(run, "ingest")).parts[place.part].rows
    near = [("before", place.row - 1), ("after", place.row + 1)]
    return [(name, here.address(run, place.part, row)) for name, row in near if 0 <= row < rows]


def _gone(here: Queries, run: Run, place: Place) -> list[str]:
    """The parts of gates that should hold this document's verdict and cannot be read: the page asks the gates themselves."""
    notes = Notes(here.store.root)
    for gate in gates_of(here, run):
        notes.read(partial(here.check_part, gate, place.part), None)
    return notes.problems


def _sentence(verdict: Verdict, about: dict[str, Any], cluster: Cluster | None, *, is_done: bool) -> Markup:
    first, gates = verdict.first, len({answer.gate for answer in verdict.answers})
    if not verdict.answers:
        return Markup("No gate has judged it yet.")
    if first is None:
        told = (
            "Kept: none of the {} rules of {} gates is broken{}."
            if is_done
            else "None of the {} rules of {} gates so far is broken{}; not all have judged."
        )
        off = f" ({len(verdict.off)} of them off)" if verdict.off else ""
        return Markup(told).format(len(verdict.answers), gates, off)
    rest = len(verdict.broken) - 1
    more = (
        Markup("")
        if not rest
        else Markup(" {} more {} broken too.").format(rest, "rule is" if rest == 1 else "rules are")
    )
    because = _because(first, about["language"], cluster)
    return Markup("Rejected by {} because of {}: {}.{}").format(words(first.gate), words(first.rule), because, more)


def _recorded(first: tuple[str, str] | None, gone: Sequence[str]) -> Markup:
    if first is None and gone:
        told = "What became of it is not known here: what {} said is gone, and no other gate rejected it."
        return Markup(told).format(", ".join(map(words, gone)))
    if first is None:
        return Markup("Kept, as the run recorded it.")
    return Markup("Rejected by {} because of {}, as the run recorded it.").format(*map(words, first))


def _because(first: Answer, language: str | None, cluster: Cluster | None) -> Markup:
    if first.rule == "duplicate" and cluster and cluster.keeper:
        return Markup("it is one of {} documents that are alike, of which {} is kept").format(
            cluster.size, cluster.keeper
        )
    if isinstance(first.bound, list):
        return Markup("<bdi>{}</bdi> is not one of {}").format(first.value, len(first.bound))
    side = "less" if first.side == "at_least" else "more"
    assert not isinstance(first.value, str)
    where = Markup(" in <bdi>{}</bdi>").format(language) if language else ""
    return Markup("its value {} is {} than {}{}").format(number(first.value), side, number(first.bound), where)


def _beside(here: Queries, run: Run, place: Place, cluster: Cluster | None, beside: str) -> tuple[str, Diff | None]:
    """The document that this one is compared with, and how: the one asked for, else the keeper, else the centre."""
    if cluster is None and not beside:
        return "", None
    asked = beside or _counterpart(place, cluster)
    if not asked:
        return "", None
    own, other = (
        doc.row_of(here, run, "clean", one, ["text"]).get("text") or "" for one in (place, _place(here, run, asked))
    )
    return asked, here.cache.get(("diff", run.id, place.address, asked), lambda: word_diff(own, other))


def _counterpart(place: Place, cluster: Cluster | None) -> str:
    if cluster is None:
        return ""
    likely = [cluster.keeper, cluster.centre, *(member.address for member in cluster.members)]
    return next((address for address in likely if address and address != place.address), "")


def _parting(here: Queries, run: Run, place: Place, keeper: str | None) -> Parting | None:
    """What would part this document from the one that is kept of its cluster."""
    entry = doc.last(here, run, "verify_clusters")
    if entry is None or keeper in (None, place.address):
        return None
    both = [place, here.place(run, str(keeper))]
    similar = doc.similarities(here, run, both)
    if doc.are_equal(here, run, both) or len(similar) < 2 or min(similar) >= 1 - 1e-4:
        return Parting(1.0, [])
    above = round(min(similar) + 1e-4, 4)
    return Parting(min(similar), set_words(run, here.manifest(entry), {"min_similarity": above}))


def _bar(answer: Answer) -> Markup | None:
    """A rule's value as a bar from zero, with its bound as a line."""
    value, bound = answer.value, answer.bound
    if isinstance(value, str | None) or isinstance(bound, list | None) or min(value, bound) < 0:
        return None
    most = max(value, bound) * 1.08 or 1.0
    kind = "bar lost" if answer.verdict == "broken" else "bar soft"
    at = BAR * bound / most
    drawn = [rect(0, 2, max(1.0, BAR * value / most), 9, kind), line(at, 0, at, 13, "threshold")]
    return chart(BAR, 13, f"{answer.rule}: {number(value)}, bound {number(bound)}", drawn)


def _held(rows: Sequence[PackedRow]) -> list[tuple[str, int, int]]:
    """Packed rows of documents and of pairs: how many, and how many tokens in them."""
    names = {"pack": "documents", "pack_pairs": "bilingual pairs"}
    counted = [(name, [row.tokens for row in rows if row.stage == stage]) for stage, name in names.items()]
    return [(name, len(tokens), sum(tokens)) for name, tokens in counted if tokens]


def _steps(rows: Sequence[PackedRow], found: Sequence[Training]) -> list[tuple[Training, list[int] | None]]:
    """For every training the steps that saw any of these rows, counted from one."""
    seen = []
    for one in found:
        steps = None
        if one.seen is not None:
            steps = sorted({step + 1 for row in rows for step in one.seen.get((row.stage, row.part, row.row), ())})
        seen.append((one, steps))
    return seen
