"""Duplicates: how large clusters are, what they cross, and the members of one side by side with its centre."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import Request, Response
from markupsafe import Markup

from polylm.dashboard import charts
from polylm.dashboard.charts import Bar, Series
from polylm.dashboard.errors import BadRequest, Missing
from polylm.dashboard.queries import Queries
from polylm.dashboard.stages.frame import own_page
from polylm.dashboard.text import shortened, visible
from polylm.dashboard.view import short_count, words
from polylm.tasks import keys
from polylm.tasks.maintenance.run_records import Entry, Run

LARGEST = 20  # clusters that are listed
MEMBERS = 5  # of one cluster on a page
COMPARED_CHARS = 4_000  # of a document that are compared word by word
BEGINNING_CHARS = 120
_PIECE = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+|\s+|[^\w\s]")


@dataclass(frozen=True)
class Cluster:
    """One cluster by the address of its centre; `languages` and `sources` are those of its members."""

    address: str
    members: int
    least: float  # similarity of the member that is least like the centre
    languages: list[str]
    sources: list[str]
    text: str


@dataclass(frozen=True)
class Member:
    """One document beside the centre of its cluster, what differs marked in both."""

    address: str
    language: str
    similarity: float
    band: str
    keeper: str  # the address of the document that stays in its place; "" where this one stays
    centre: Markup
    text: Markup
    is_cut: bool


def view(request: Request, here: Queries, run: Run, entry: Entry) -> Response:
    """The page of all stages that look for duplicates; `?cluster=ADDRESS` shows the members of one."""
    asked = {name: request.query_params.get(name, "") for name in ("cluster", "page")}
    number = _number(asked["page"])
    clusters = _latest(here, run, "verify_clusters")
    values: dict[str, Any] = {
        "bands": _bands(here, run),
        "sizes": None,
        "largest": [],
        "cluster": None,
        "waiting": False,
        "figures": {},
    }
    if clusters is not None:
        values |= _all_clusters(here, run, clusters)
        values["cluster"] = _one_cluster(here, run, clusters, asked["cluster"], number) if asked["cluster"] else None
    return own_page(request, here, "duplicates.html", run, entry, **values)


STAGES = dict.fromkeys(("join_bands", "verify_clusters", "label_clusters", "choose_keepers"), view)
READS = ("cluster", "page")  # of an address


def differences(a: str, b: str) -> tuple[Markup, Markup]:
    """Two texts with what only the first has as deleted and what only the second has as inserted, word by word.

    Characters of scripts without spaces are compared one by one.
    """
    first, second = _PIECE.findall(a), _PIECE.findall(b)
    left, right = [], []
    for kind, i1, i2, j1, j2 in difflib.SequenceMatcher(None, first, second).get_opcodes():
        gone, come = visible("".join(first[i1:i2])), visible("".join(second[j1:j2]))
        left.append(gone if kind == "equal" else Markup("<del>{}</del>").format(gone) if gone else gone)
        right.append(come if kind == "equal" else Markup("<ins>{}</ins>").format(come) if come else come)
    return Markup("").join(left), Markup("").join(right)


def _number(told: str) -> int:
    if told and not (told.isascii() and told.isdigit() and int(told[:9]) > 0 and len(told) < 9):
        raise BadRequest(f"page={told[:40]!r}: expected a number from 1.")
    return int(told or 1)


def _latest(here: Queries, run: Run, stage: str) -> Entry | None:
    found = [entry for entry in run.entries(stage) if here.has(entry)]
    return found[-1] if found else None


def _bands(here: Queries, run: Run) -> Markup | None:
    """Candidates that each band found, from the manifest alone."""
    joined = _latest(here, run, "join_bands")
    if joined is None:
        return None
    bars = [Bar(words(part.label), part.rows) for part in here.manifest(joined).parts]
    return charts.bars(bars, title="Pairs of documents that share a band", width=420)


def _all_clusters(here: Queries, run: Run, clusters: Entry) -> dict[str, Any]:
    """Sizes, the largest, and what clusters cross; some are None while they are counted."""
    of_size = "SELECT n AS size, count(*) AS clusters FROM (SELECT count(*) AS n FROM {beside} GROUP BY cluster) GROUP BY 1 ORDER BY 1"
    sizes = here.sql_soon(of_size, {"c": clusters})
    sources = here.sql_soon(
        "SELECT count(*) AS n FROM (SELECT cluster FROM {beside} GROUP BY cluster HAVING count(DISTINCT doc >> 48) > 1)",
        {"c": clusters},
    )
    languages = _crossing_languages(here, run)
    largest = _largest(here, run, clusters)
    if sizes is None or sources is None or largest is None:
        return {"waiting": True}
    rows = sizes.to_pylist()
    total, members = sum(row["clusters"] for row in rows), sum(row["clusters"] * row["size"] for row in rows)
    return {
        "waiting": False,
        "sizes": _sizes_chart(rows),
        "largest": largest,
        "figures": {
            "clusters": total,
            "members": members,
            "largest": rows[-1]["size"] if rows else 0,
            "sources": sources["n"][0].as_py(),
            "languages": languages,
            "documents": here.documents(run),
        },
    }


def _sizes_chart(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Clusters by size, both in powers: log10 of each, so that a straight line is a power law."""
    if not rows:
        return Markup("")
    top = max(row["size"] for row in rows)
    edges = np.unique(np.floor(np.logspace(np.log10(2), np.log10(top + 1), 33)))
    edges = np.append(edges, top + 1) if edges[-1] <= top else edges
    counts, _ = np.histogram([row["size"] for row in rows], edges, weights=[row["clusters"] for row in rows])
    return (
        charts.histogram(
            edges.tolist(),
            counts.tolist(),
            title="Clusters by their size",
            log_values=True,
            log_counts=True,
            form=short_count,
            width=480,
            height=190,
        )
        if len(edges) > 1
        else charts.lines([Series("clusters", [2.0], [float(counts.sum())])], title="Clusters by their size")
    )


def _crossing_languages(here: Queries, run: Run) -> int | None:
    """Clusters whose members have several labels."""
    labels, language = _latest(here, run, "label_clusters"), _latest(here, run, "identify_language")
    if labels is None or language is None:
        return None
    rows = here.sql_soon(
        "SELECT count(*) AS n FROM (SELECT c.cluster FROM {beside} WHERE c.cluster IS NOT NULL GROUP BY 1 HAVING count(DISTINCT l.language) > 1)",
        {"c": labels, "l": language},
    )
    return None if rows is None else rows["n"][0].as_py()


def _largest(here: Queries, run: Run, clusters: Entry) -> list[Cluster] | None:
    """The largest clusters with their sources, languages of their members as far as they are looked at, and a beginning."""
    rows = here.sql_soon(
        "SELECT cluster, count(*) AS members, min(similarity) AS least, list(DISTINCT doc >> 48) AS sources, list(doc ORDER BY doc)[:50] AS some "
        f"FROM {{beside}} GROUP BY cluster ORDER BY members DESC, cluster LIMIT {LARGEST}",
        {"c": clusters},
    )
    if rows is None:
        return None
    made = here.cache.soon(
        ("clusters", clusters.artifact, run.id), lambda: [_cluster(here, run, row) for row in rows.to_pylist()]
    )
    return made


def _cluster(here: Queries, run: Run, row: Mapping[str, Any]) -> Cluster:
    sources = list(here.manifest(here.entry(run, "ingest")).sources)
    labels = {_of(here, run, "identify_language", "language", doc) or "no label" for doc in row["some"]}
    text = _of(here, run, "clean", "text", row["cluster"]) or ""
    address = keys.address(row["cluster"], sources)
    return Cluster(
        address,
        row["members"],
        row["least"],
        sorted(labels),
        sorted(sources[s] for s in row["sources"]),
        shortened(text, BEGINNING_CHARS),
    )


def _of(here: Queries, run: Run, stage: str, column: str, doc: int) -> Any:
    """One value of one document, by its number; None where the run has no such stage."""
    if (entry := _latest(here, run, stage)) is None:
        return None
    raw = here.manifest(here.entry(run, "ingest"))
    index = next(
        i
        for i, part in enumerate(raw.parts)
        if part.number is not None and part.number <= doc < part.number + part.rows
    )
    return here.part(entry, index, [column])[column][doc - (raw.parts[index].number or 0)].as_py()


def _one_cluster(here: Queries, run: Run, clusters: Entry, address: str, number: int) -> dict[str, Any]:
    """The members of the cluster that a document is in, a page of them beside its centre."""
    asked = here.place(run, address).number
    found = here.sql("SELECT cluster FROM {beside} WHERE doc = ?", {"c": clusters}, bind=[asked])["cluster"].to_pylist()
    if not found:
        raise Missing(f"{address[:100]} is in no cluster: it has no duplicates.")
    centre = found[0]
    rows = here.sql(
        f"SELECT doc, similarity, band, count(*) OVER () AS n FROM {{beside}} WHERE cluster = ? AND doc <> cluster ORDER BY similarity, doc LIMIT {MEMBERS} OFFSET ?",
        {"c": clusters},
        bind=[centre, (number - 1) * MEMBERS],
    ).to_pylist()
    sources = list(here.manifest(here.entry(run, "ingest")).sources)
    text = _of(here, run, "clean", "text", centre) or ""
    return {
        "address": keys.address(centre, sources),
        "asked": address,
        "language": _of(here, run, "identify_language", "language", centre) or "",
        "keeper": _keeper(here, run, centre, sources),
        "members": [_member(here, run, row, text, sources) for row in rows],
        "total": rows[0]["n"] if rows else 0,
        "number": number,
        "shown": MEMBERS,
    }


def _member(here: Queries, run: Run, row: Mapping[str, Any], centre: str, sources: list[str]) -> Member:
    text = _of(here, run, "clean", "text", row["doc"]) or ""
    left, right = differences(centre[:COMPARED_CHARS], text[:COMPARED_CHARS])
    band = "the same text" if row["band"] == 0 else f"band {row['band']}"
    language = _of(here, run, "identify_language", "language", row["doc"]) or ""
    address = keys.address(row["doc"], sources)
    is_cut = max(len(centre), len(text)) > COMPARED_CHARS
    return Member(
        address, language, row["similarity"], band, _keeper(here, run, row["doc"], sources), left, right, is_cut
    )


def _keeper(here: Queries, run: Run, doc: int, sources: list[str]) -> str:
    """The address of the document that is kept in place of this one; "" where none is: it stays, or a gate took it before."""
    keepers = _latest(here, run, "choose_keepers")
    if keepers is None:
        return ""
    found = here.sql("SELECT keeper FROM {beside} WHERE doc = ?", {"k": keepers}, bind=[doc])["keeper"].to_pylist()
    return keys.address(found[0], sources) if found else ""
