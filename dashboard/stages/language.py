"""The page of language identification: labels, how sure they are, what was declared against what was found, and doubt."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fastapi import Request, Response
from markupsafe import Markup
from pydantic import BaseModel

from polylm.dashboard import charts
from polylm.dashboard.distinct import siblings
from polylm.dashboard.errors import Missing
from polylm.dashboard.links import documents_url, stage_url
from polylm.dashboard.queries import Queries
from polylm.dashboard.stages.examples import Example, examples
from polylm.dashboard.stages.reading import read_rows
from polylm.dashboard.view import count, page, percent, url
from polylm.tasks.corpus.declared import MEMBERS
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.stage import REASON
from polylm.tasks.store import StoreError

BINS = 40
DECLARED = ("lang_declared", "declared_language", "language", "lang")  # fields of `extra` that say a language
GATES = ("want_languages", "keep_sure", "check_declared")  # that read what is shown here
SEEN_RECORDS = 200  # in which those are looked for
DOUBT_PARTS = 16  # in which doubtful documents are looked for
SHOWN_LABELS, SHOWN_DOUBTS, SHOWN_DIFFERENCES = 24, 12, 12


@dataclass(frozen=True)
class Label:
    """One label's histogram of confidence, with its floor."""

    name: str
    documents: int
    unsure: int
    chart: Markup
    href: str


@dataclass(frozen=True)
class Declared:
    """What the sources say against what was found; `field` is where they say it.

    Agreement is as the gate `check_declared` has it: a label that is a member of the declared macrolanguage agrees.
    """

    field: str
    documents: int  # of which a source says it
    agreeing: int
    heat: Markup
    differences: list[tuple[str, str, int]]
    rejected: int | None = None  # by `check_declared`, where the run has it
    href: str = ""  # of those


def view(request: Request, here: Queries, run: Run, entry: Entry) -> Response:
    """Labels of a run; `?language=` shows doubtful documents of one label only."""
    if missing := {"language", "confidence"} - set(here.columns(entry)):
        raise StoreError(f"its table has no column {', '.join(sorted(missing))}")
    chosen = request.query_params.get("language", "")
    histograms = _histograms(here, run, entry)
    if chosen and histograms is not None and chosen not in {row["language"] for row in histograms}:
        raise Missing(f"No document is labelled {chosen[:40]!r}.")
    labels = None if histograms is None else _labels(run, entry, histograms, _floors(here, run))
    declared, pending = _declared_soon(here, run, entry)
    return page(
        request, "language.html", run=run, entry=entry, labels=labels, chosen=chosen, declared=declared,
        declared_pending=pending,
        bars=_bars(labels) if labels else None, doubts=_doubts(here, run, entry, chosen),
        scripts=_scripts(here, entry), more=max(0, len(labels or ()) - SHOWN_LABELS), shown=SHOWN_LABELS,
        gates=[(one.stage, stage_url(run, one)) for name in GATES for one in run.entries(name)[-1:]],
        again=f"{request.url.path}?{request.url.query}", siblings=siblings(here, run, entry), doubt_parts=min(DOUBT_PARTS, len(here.manifest(entry).parts)),
    )  # fmt: skip


STAGES = {"identify_language": view}
READS = ("language",)  # of an address


def _histograms(here: Queries, run: Run, entry: Entry) -> list[dict[str, Any]] | None:
    """Documents by label and step of confidence, and how many of them the gate `keep_sure` rejects."""
    beside, unsure = {"l": entry}, "0"
    if gates := [gate for gate in run.entries("keep_sure") if here.has(gate)]:
        beside["v"], unsure = gates[-1], f"count(v.{REASON})"
    rows = here.sql_soon(
        f"SELECT l.language AS language, least(floor(l.confidence * {BINS}), {BINS - 1})::INT AS step, count(*) AS n, "
        f"{unsure} AS unsure FROM {{beside}} WHERE l.language IS NOT NULL GROUP BY ALL",
        beside,
    )
    return None if rows is None else rows.to_pylist()


def _floors(here: Queries, run: Run) -> dict[str, float]:
    fitted = [entry for entry in run.entries("fit_language_floors") if here.has(entry)]
    if not fitted:
        return {}
    table = here.small_table(fitted[-1])
    return dict(zip(table["language"].to_pylist(), table["floor"].to_pylist(), strict=True))


def _labels(run: Run, entry: Entry, rows: list[dict[str, Any]], floors: dict[str, float]) -> list[Label]:
    counts: dict[str, Any] = {}
    for row in rows:
        of = counts.setdefault(row["language"], np.zeros((2, BINS), np.int64))
        of[:, row["step"]] += row["n"], row["unsure"]
    named = sorted(counts.items(), key=lambda item: (-int(item[1][0].sum()), item[0]))
    edges = [step / BINS for step in range(BINS + 1)]
    return [
        Label(
            name,
            int(of[0].sum()),
            int(of[1].sum()),
            charts.histogram(
                edges,
                of[0].tolist(),
                title=f"Confidence of {name}",
                thresholds=[("floor", floors[name])] if name in floors else (),
                rejected=of[1].tolist(),
                log_counts=True,
                width=300,
                height=110,
            ),
            url("run", run.id, "stage", entry.stage, language=name) + "#doubt",
        )
        for name, of in named
    ]


def _bars(labels: Sequence[Label]) -> Markup:
    total = sum(label.documents for label in labels)
    items = [
        charts.Bar(label.name, label.documents, label.href, note=f"{count(label.documents)} · {percent(label.documents / total)}")
        for label in labels[:SHOWN_LABELS]
    ]  # fmt: skip
    return charts.bars(items, title="Documents by label", width=520)


class _StillCounting(Exception):
    """An answer is being made: ask again."""


def _declared_soon(here: Queries, run: Run, entry: Entry) -> tuple[Declared | None, bool]:
    """What sources declare, and whether it is still being counted."""
    try:
        return _declared(here, run, entry), False
    except _StillCounting:
        return None, True


def _declared(here: Queries, run: Run, entry: Entry) -> Declared | None:
    """None where no source declares a language; _StillCounting where that is not known yet."""
    read = [one for one in run.entries("read_declared") if here.has(one)]
    found = _as_read(here, run, entry, read[-1]) if read else _as_written(here, run, entry)
    gates = [one for one in run.entries("check_declared") if here.has(one)]
    if found is None or not gates:
        return found
    rejected = sum(gates[-1].reasons.values())
    return replace(found, rejected=rejected, href=documents_url(run, gate="check_declared", alone=True))


def _as_read(here: Queries, run: Run, entry: Entry, read: Entry) -> Declared | None:
    """By the run's own stage, which knows tags such as `pt-BR` and `por_Latn`."""
    rows = here.sql_soon(
        "SELECT d.declared AS declared, l.language AS found, count(*) AS n FROM {beside} WHERE d.declared IS NOT NULL "
        "GROUP BY ALL ORDER BY n DESC, declared, found",
        {"d": read, "l": entry},
    )
    if rows is None:
        raise _StillCounting
    pairs = [(row["declared"], row["found"] or "", row["n"]) for row in rows.to_pylist()]
    fields = here.params(read, _Declaring).fields
    return _compared(", ".join(fields), pairs) if pairs else None


class _Declaring(BaseModel):
    fields: tuple[str, ...] = ()


def _as_written(here: Queries, run: Run, entry: Entry) -> Declared | None:
    """By the letters that a field of `extra` begins with, where the run has no stage for it."""
    field = _declaring_field(here, run)
    if not field:
        return None
    rows = here.sql_soon(
        "SELECT lower(regexp_extract(json_extract_string(d.extra, ?), '^[A-Za-z]+')) AS declared, l.language AS found, "
        "count(*) AS n FROM {beside} WHERE json_valid(d.extra) GROUP BY ALL ORDER BY n DESC, declared, found",
        {"d": run.entries("ingest")[-1], "l": entry},
        [f"$.{field}"],
    )
    if rows is None:
        raise _StillCounting
    pairs = [(row["declared"], row["found"] or "", row["n"]) for row in rows.to_pylist() if row["declared"]]
    return _compared(field, pairs) if pairs else None


def _declaring_field(here: Queries, run: Run) -> str:
    """Which field of the records' `extra` says a language: the first known one in some records of the first part."""
    raw = run.entries("ingest")
    if not raw or "extra" not in here.columns(raw[-1]):
        return ""
    values = here.cache.get(
        ("extra", here.manifest(raw[-1]).key),
        lambda: read_rows(here.paths(raw[-1])[0], 0, SEEN_RECORDS, ["extra"])["extra"].to_pylist(),
    )
    known = {name for value in values if value for name in _fields(value)}
    return next((name for name in DECLARED if name in known), "")


def _fields(value: str) -> set[str]:
    try:
        told = json.loads(value)
    except ValueError:
        return set()
    return set(told) if isinstance(told, dict) else set()


def _compared(field: str, pairs: list[tuple[str, str, int]]) -> Declared:
    sums: dict[str, int] = {}
    for declared, _, n in pairs:
        sums[declared] = sums.get(declared, 0) + n
    names = sorted(sums, key=lambda name: (-sums[name], name))[:SHOWN_LABELS]
    found = {(declared, label): n for declared, label, n in pairs}
    others = sorted({label for d, label, n in pairs if d in names and label not in names and n / sums[d] >= 0.01})
    columns = [*names, *others][: SHOWN_LABELS + 4]
    shares = [[found[d, c] / sums[d] if (d, c) in found else None for c in columns] for d in names]
    heat = charts.heat(
        names, [c or "none" for c in columns], shares, title="Declared against found", form=_share, most=1.0
    )
    return Declared(
        field,
        sum(sums.values()),
        sum(n for declared, label, n in pairs if _agree(declared, label)),
        heat,
        [pair for pair in pairs if not _agree(*pair[:2])][:SHOWN_DIFFERENCES],
    )


def _agree(declared: str, label: str) -> bool:
    return label == declared or label in MEMBERS.get(declared, ())


def _share(share: float | None) -> str:
    return "" if share is None else "<1" if share < 0.01 else f"{share * 100:.0f}"


def _doubts(here: Queries, run: Run, entry: Entry, chosen: str) -> list[Example]:
    """The documents whose two likeliest labels are closest, in up to 16 parts evenly spaced."""
    found = here.cache.get(("doubt", here.manifest(entry).key, chosen), lambda: _closest(here, entry, chosen))
    if "ingest" not in {one.stage for one in run.stages}:
        return []
    places, labels, notes = (
        [(part, row) for part, row, *_ in found],
        [one[2] for one in found],
        [one[3] for one in found],
    )
    return examples(here, run, places, labels, notes)


def _closest(here: Queries, entry: Entry, chosen: str) -> list[tuple[int, int, str, Any]]:
    parts = len(here.manifest(entry).parts)
    wanted = ["language", "confidence", "runner_up", "runner_up_confidence"]
    if not set(wanted) <= set(here.columns(entry)):
        return []
    ranked: list[tuple[float, int, int, str, Any]] = []
    for index in np.unique(np.linspace(0, parts - 1, min(parts, DOUBT_PARTS)).astype(int)):
        table = here.part(entry, int(index), wanted)
        first, second = (table[name].to_numpy().astype(np.float64) for name in ("confidence", "runner_up_confidence"))
        margin = np.where(np.isnan(second), np.inf, first - second)
        if chosen:
            margin[np.array(table["language"].to_pylist(), object) != chosen] = np.inf
        for row in np.argsort(margin, kind="stable")[:SHOWN_DOUBTS]:
            if np.isfinite(margin[row]):
                label, other = table["language"][row].as_py(), table["runner_up"][row].as_py()
                notes = ((f"{first[row]:.3f}, before", f"{other} {second[row]:.3f}"),)
                ranked.append((float(margin[row]), int(index), int(row), str(label), notes))
    return [
        (part, row, label, notes)
        for _, part, row, label, notes in sorted(ranked, key=lambda one: one[:3])[:SHOWN_DOUBTS]
    ]


def _scripts(here: Queries, entry: Entry) -> Markup | None:
    """Labels by script, where the stage writes one: a label in a script that its language does not use is a mistake."""
    if "script" not in here.columns(entry):
        return None
    rows = here.sql_soon(
        "SELECT l.language AS a, l.script AS b, count(*) AS n FROM {beside} GROUP BY ALL ORDER BY n DESC", {"l": entry}
    )
    items: dict[str, dict[str, float]] = {}
    for row in [] if rows is None else rows.to_pylist():
        items.setdefault(row["a"] or "none", {})[row["b"] or "none"] = row["n"]
    return charts.stacked(list(items.items())[:SHOWN_LABELS], title="Scripts by label", shares=True) if items else None
