"""One document of a run: what is known of it, what the gates say, and who its duplicates are."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polylm.dashboard.funnel import gates_of, gone_gates
from polylm.dashboard.gates import gate_jobs
from polylm.dashboard.queries import Place, Queries
from polylm.tasks import keys
from polylm.tasks.build import Job
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.store import StoreError
from polylm.tasks.why import Answer, why

SHOWN_MEMBERS = 50  # of a cluster
MOST_MEMBERS = 1_000  # of a cluster that are asked what would become of them: a second, in parts of any number
_ABOUT = ("id", "url", "date", "licence", "kind", "extra")
_LABELS = ("language", "confidence", "runner_up", "runner_up_confidence", "script", "script_share")
_DECLARED = ("declared",)
_LINES = (
    "line_language", "line_language_chars", "second_line_language", "second_line_language_chars", "other_line_chars",
    "unsure_line_chars",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What became of a document: the first broken rule of the first gate that has one, or kept (`first` None)."""

    answers: list[Answer]

    @property
    def first(self) -> Answer | None:
        return next((answer for answer in self.answers if answer.verdict == "broken"), None)

    @property
    def off(self) -> list[Answer]:
        return [answer for answer in self.answers if is_off(answer)]

    @property
    def broken(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.verdict == "broken"]


@dataclass(frozen=True)
class Member:
    """A document of a cluster; `band` is that which found it, 0 the whole text, none the centre."""

    address: str
    similarity: float
    band: int | None
    is_centre: bool
    is_keeper: bool


@dataclass(frozen=True)
class Cluster:
    """Documents that are alike: every one as similar to the centre as `similarity` says."""

    size: int
    members: list[Member]  # the first SHOWN_MEMBERS by number
    first: list[str]  # addresses of the first MOST_MEMBERS
    centre: str
    keeper: str | None  # None where not more than one of them passed the other gates
    is_judged: bool  # whether it is known which of them stays


def about(here: Queries, run: Run, place: Place) -> dict[str, Any]:
    """What the source says of a document, and its labels; None where the run has not come to that yet."""
    stages = {
        "ingest": _ABOUT,
        "identify_language": _LABELS,
        "read_declared": _DECLARED,
        "measure_line_languages": _LINES,
    }
    known: dict[str, Any] = dict.fromkeys(name for names in stages.values() for name in names)
    for stage, names in stages.items():
        known |= row_of(here, run, stage, place, names)
    return known


def row_of(here: Queries, run: Run, stage: str, place: Place, columns: Sequence[str]) -> dict[str, Any]:
    """Some columns of a document as a stage has them; those there are."""
    return rows_of(here, run, stage, place.part, [place.row], columns)[0]


def rows_of(
    here: Queries, run: Run, stage: str, part: int, rows: Sequence[int], columns: Sequence[str]
) -> list[dict[str, Any]]:
    """The same of several documents of a part, in one question."""
    entry = last(here, run, stage)
    if entry is None or not (names := [name for name in columns if name in here.columns(entry)]):
        return [{} for _ in rows]
    return _read_rows(here, entry, part, rows, names)


def last(here: Queries, run: Run, stage: str) -> Entry | None:
    """The last stage of that name in a run, if its artifact is there."""
    entries = run.entries(stage)
    return entries[-1] if entries and here.has(entries[-1]) else None


def jobs_of(here: Queries, run: Run, place: Place) -> tuple[list[tuple[Entry, Job]], list[str]]:
    """Every gate of a run that can be asked again, with its job on a document's part; and why the others cannot be."""
    jobs = []
    problems = [f"{name}: its artifact is gone: collected as garbage, or lost" for name in gone_gates(here, run)]
    for entry in gates_of(here, run):
        try:
            jobs.append((entry, gate_jobs(here, entry)[place.part]))
        except StoreError as error:  # made by other code, or from what was collected as garbage since
            problems.append(str(error))
    return jobs, problems


def judge(here: Queries, jobs: Sequence[tuple[Entry, Job]], place: Place) -> Verdict:
    """Ask the gates themselves."""
    asked = [job for _, job in jobs]
    key = ("why", tuple((job.stage.name, job.key) for job in asked), place.row)
    return Verdict(here.cache.get(key, lambda: why(asked, place.row, here.store)))


def is_off(answer: Answer) -> bool:
    """Whether a rule is switched off (in the document's language): without a bound nothing can break it."""
    return answer.verdict == "off"


def ordered(answers: Sequence[Answer]) -> list[Answer]:
    """Broken rules first, then those that hold, those that are off, and what was not judged; each in the gates' order."""
    rank = {"broken": 0, "holds": 1, "off": 2}
    return sorted(answers, key=lambda answer: rank.get(answer.verdict, 3))


def cluster_of(here: Queries, run: Run, place: Place) -> Cluster | None:
    """The cluster that a document is in; None where it has no duplicates."""
    number = row_of(here, run, "label_clusters", place, ["cluster"]).get("cluster")
    clusters = last(here, run, "verify_clusters")
    if number is None or clusters is None:
        return None
    every = here.sql(
        "SELECT doc, similarity, band FROM {beside} WHERE c.cluster = ? ORDER BY doc", {"c": clusters}, [number]
    )
    found = every.slice(0, SHOWN_MEMBERS).to_pylist()
    keepers = last(here, run, "choose_keepers")
    keeper = _keeper(here, keepers, every["doc"].to_pylist()) if keepers else None
    names = list(here.manifest(here.entry(run, "ingest")).sources)
    members = [
        Member(
            keys.address(row["doc"], names),
            row["similarity"],
            None if row["doc"] == number else row["band"],
            row["doc"] == number,
            row["doc"] == keeper,
        )
        for row in found
    ]
    told = None if keeper is None else keys.address(keeper, names)
    first = [keys.address(doc, names) for doc in every["doc"].slice(0, MOST_MEMBERS).to_pylist()]
    return Cluster(every.num_rows, members, first, keys.address(number, names), told, keepers is not None)


def script_of(text: str | None, looked_at: int = 20_000) -> str:
    """The script of most letters of a text's beginning, by the first word of their Unicode names; "" without letters."""
    letters = [character for character in (text or "")[:looked_at] if character.isalpha()]
    names = Counter(unicodedata.name(character, "").partition(" ")[0] for character in letters)
    name = names.most_common(1)[0][0] if names else ""
    return name if name == "CJK" else name.capitalize()


def _keeper(here: Queries, keepers: Entry, docs: list[int]) -> int | None:
    found = here.sql("SELECT keeper FROM {beside} WHERE k.doc IN (SELECT unnest(?)) LIMIT 1", {"k": keepers}, [docs])
    return found["keeper"][0].as_py() if found.num_rows else None


def similarities(here: Queries, run: Run, places: Sequence[Place]) -> list[float]:
    """How similar each document is to the centre of its cluster; fewer numbers where one is in none."""
    clusters = last(here, run, "verify_clusters")
    if clusters is None:
        return []
    docs = [place.number for place in places]
    found = here.sql("SELECT similarity FROM {beside} WHERE c.doc IN (SELECT unnest(?))", {"c": clusters}, [docs])
    return [float(value) for value in found["similarity"].to_pylist()]


def are_equal(here: Queries, run: Run, places: Sequence[Place]) -> bool:
    """Whether the search for duplicates takes documents for the same: the hash of their words is its first band's."""
    bands = [row_of(here, run, "sign", place, ["bands"]).get("bands") for place in places]
    return None not in bands and len({own[0] for own in bands if own}) == 1


def _read_rows(
    here: Queries, entry: Entry, part: int, rows: Sequence[int], names: Sequence[str]
) -> list[dict[str, Any]]:
    # DuckDB goes to the pages that hold the rows: 10 to 30 ms, where a row group of 64 MB of text takes 0.3 s to decode.
    columns = ", ".join(f'd."{name}"' for name in names)
    wanted = ", ".join("?" for _ in rows)
    found = here.sql(
        f"SELECT d.file_row_number AS at_row, {columns} FROM {{beside}} WHERE d.file_index = ? AND d.file_row_number IN ({wanted})",
        {"d": entry},
        [part, *rows],
    ).to_pylist()
    by_row = {told.pop("at_row"): told for told in found}
    assert by_row.keys() == set(rows), f"{entry.stage} has fewer rows than the documents"
    return [by_row[row] for row in rows]
