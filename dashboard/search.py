"""Documents of a run by id, address on the web, words of the text, language, verdict, gate and source; a page at a time.

A question that must read texts stops after SCAN_SECONDS and says where to go on. Questions without words, and ids, are one
statement of DuckDB over columns laid side by side.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from polylm.dashboard.cache import Cache
from polylm.dashboard.document import last
from polylm.dashboard.errors import BadRequest
from polylm.dashboard.funnel import gates_of
from polylm.dashboard.links import NO_LABEL
from polylm.dashboard.queries import Place, Queries
from polylm.dashboard.store_reading import reading
from polylm.tasks import keys
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.stage import REASON

By = Literal["words", "id", "url"]
Fate = Literal["", "kept", "rejected"]
PAGE = 20
SCAN_SECONDS = 1.5
BATCH_ROWS = 2_000  # texts that are searched between two looks at the clock
_LABELS = Cache(32)  # of parts: 2 bytes a document, and for each gate 2 more


@dataclass(frozen=True)
class Question:
    """What is asked for; every field is in the page's address."""

    q: str = ""
    by: By = "words"
    language: str = ""
    fate: Fate = ""
    reason: str = ""
    source: str = ""
    gate: str = ""
    alone: bool = False  # reason and gate whatever other gates say; else those that reject the document first
    after: str = ""  # the address behind which to go on

    @property
    def is_filtered(self) -> bool:
        return bool(self.language or self.fate or self.reason or self.source or self.gate)


@dataclass(frozen=True)
class Found:
    """One page of places (part, row) in order, and where to go on; `searched`: documents looked at, where not all were."""

    places: list[tuple[int, int]]
    after: tuple[int, int] | None = None
    stopped: bool = False  # by the clock, not because the page is full
    searched: int = 0


@dataclass(frozen=True)
class Labels:
    """Language and verdict of every document of a part, as codes; -1 is no label, or kept."""

    languages: list[str]
    language: NDArray[np.int16]
    reasons: list[tuple[str, str]]  # gate and rule
    reason: NDArray[np.int16] = field(repr=False)  # the first
    verdicts: list[NDArray[np.int16]] = field(repr=False)  # of every gate alone

    def told(self, row: int) -> tuple[str, tuple[str, str] | None]:
        language, reason = int(self.language[row]), int(self.reason[row])
        return (self.languages[language] if language >= 0 else "", self.reasons[reason] if reason >= 0 else None)

    def fit(self, asked: Question) -> NDArray[np.bool_]:
        """Which documents have the language and the verdict that are asked for."""
        fits = np.ones(len(self.language), np.bool_)
        if asked.language:
            fits &= np.isin(self.language, _codes_of(self.languages, asked.language))
        if asked.fate:
            fits &= (self.reason < 0) == (asked.fate == "kept")
        if asked.reason or asked.gate:
            fits &= self._rejected_by(asked)
        return fits

    def _rejected_by(self, asked: Question) -> NDArray[np.bool_]:
        wanted = [
            code
            for code, (gate, rule) in enumerate(self.reasons)
            if asked.gate in ("", gate) and asked.reason in ("", rule)
        ]
        fits = np.zeros(len(self.reason), np.bool_)
        for codes in self.verdicts if asked.alone else [self.reason]:
            fits |= np.isin(codes, wanted)
        return fits


def search(here: Queries, run: Run, asked: Question) -> Found:
    """One page of what is asked for."""
    after = _after(here, run, asked)
    if asked.q and asked.by == "id":
        return _by_id(here, run, asked, after)
    return _scan(here, run, asked, after) if asked.q else _by_labels(here, run, asked, after)


def labels_of(here: Queries, run: Run, part: int) -> Labels:
    """The labels of a part's documents, as far as the run has come."""
    language, gates = last(here, run, "identify_language"), gates_of(here, run)
    key = (part, language.artifact if language else "", tuple(gate.artifact for gate in gates))
    return _LABELS.get(key, lambda: _read_labels(here, run, part, language, gates))


def _by_id(here: Queries, run: Run, asked: Question, after: tuple[int, int]) -> Found:
    entry = here.entry(run, "ingest")
    if "id" not in here.columns(entry):
        return Found([])
    rows = here.sql(
        "SELECT file_index AS part, file_row_number AS row FROM {beside} WHERE d.id = ? LIMIT 1000", {"d": entry}, [asked.q]
    ).to_pylist()  # fmt: skip
    places = sorted((int(row["part"]), int(row["row"])) for row in rows)
    return _page([p for p in places if p > after and _fits(here, run, asked, p)])


def _by_labels(here: Queries, run: Run, asked: Question, after: tuple[int, int]) -> Found:
    """Without words: from the labels of all documents, or the first ones where nothing is asked for."""
    raw = here.manifest(here.entry(run, "ingest"))
    gates, language = gates_of(here, run), last(here, run, "identify_language")
    if not gates or language is None or not asked.is_filtered:
        every = (
            (part, row) for part, told in enumerate(raw.parts) if _is_of(told.label, asked) for row in range(told.rows)
        )
        return _page(_some(place for place in every if place > after))
    beside = {"l": language} | {f"g{index}": gate for index, gate in enumerate(gates)}
    wanted, values = _conditions(asked, [gate.stage for gate in gates], [part.label for part in raw.parts])
    rows = here.sql(
        "SELECT l.file_index AS part, l.file_row_number AS row FROM {beside} "
        f"WHERE (l.file_index, l.file_row_number) > (?, ?) AND {wanted} LIMIT {PAGE + 1}",
        beside,
        [*after, *values],
    ).to_pylist()
    return _page([(int(row["part"]), int(row["row"])) for row in rows])


def _conditions(asked: Question, gates: Sequence[str], labels: Sequence[str]) -> tuple[str, list[Any]]:
    told: list[tuple[str, list[Any]]] = []
    if asked.language == NO_LABEL:
        told.append(("l.language IS NULL", []))
    elif asked.language:
        told.append(("l.language = ?", [asked.language]))
    if asked.fate:
        told.append((f"({_first(len(gates))} IS NULL) = ?", [asked.fate == "kept"]))
    if asked.reason or asked.gate:
        told.append(_rejected_by(asked, gates))
    if asked.source:
        parts = [index for index, label in enumerate(labels) if _is_of(label, asked)]
        told.append(("list_contains(?::BIGINT[], l.file_index::BIGINT)", [parts]))
    return " AND ".join(one for one, _ in told) or "true", [value for _, values in told for value in values]


def _rejected_by(asked: Question, gates: Sequence[str]) -> tuple[str, list[Any]]:
    """One of the gates that are asked for gives the reason that is asked for, alone or before the others."""
    ways = []
    for index, gate in enumerate(gates):
        if asked.gate in ("", gate):
            own = f"{_verdict(index)} = ?" if asked.reason else f"{_verdict(index)} IS NOT NULL"
            ways.append(own if asked.alone or not index else f"({own} AND {_first(index)} IS NULL)")
    return f"({' OR '.join(ways) or 'false'})", [asked.reason] * len(ways) if asked.reason else []


def _first(gates: int) -> str:
    """The reason of the first of some gates that rejects a document."""
    return f"coalesce({', '.join(_verdict(index) for index in range(gates))})"


def _verdict(index: int) -> str:
    return f"g{index}.{REASON}::VARCHAR"


def _scan(here: Queries, run: Run, asked: Question, after: tuple[int, int]) -> Found:
    """Read one column, part after part, until the page is full or the time is up."""
    stage, column = ("ingest", "url") if asked.by == "url" else ("clean", "text")
    entry = last(here, run, stage)
    if entry is None or column not in here.columns(entry):
        return Found([])
    until, searched = time.monotonic() + SCAN_SECONDS, 0
    places: list[tuple[int, int]] = []
    parts = here.manifest(entry).parts
    for part in range(max(0, after[0]), len(parts)):
        begin = after[1] + 1 if part == after[0] else 0
        if not _is_of(parts[part].label, asked):
            continue
        fits = labels_of(here, run, part).fit(asked) if asked.is_filtered else None
        if fits is not None and not fits[begin:].any():
            searched += parts[part].rows - begin
            continue
        for first, values in _batches(here, entry, part, column, begin):
            matches = np.asarray(pc.match_substring(values, asked.q, ignore_case=True).fill_null(False))
            if fits is not None:
                matches &= fits[first : first + len(values)]
            places += [(part, first + int(row)) for row in np.flatnonzero(matches)]
            searched += len(values)
            if len(places) > PAGE:
                return _page(places)
            if time.monotonic() > until:
                end = (part, first + len(values) - 1)
                return Found(places, end, stopped=end < (len(parts) - 1, parts[-1].rows - 1), searched=searched)
    return Found(places, searched=searched)


def _batches(here: Queries, entry: Entry, part: int, column: str, begin: int) -> Iterator[tuple[int, pa.Array]]:
    """(first row, values) of a column from a row on; row groups before it are not read."""
    path = here.paths(entry)[part]
    with reading(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        first = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            at, first = first, first + rows
            if first <= begin:
                continue
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=[column], use_threads=False):
                skip = min(max(0, begin - at), batch.num_rows)
                if skip < batch.num_rows:
                    yield at + skip, batch.column(0).slice(skip)
                at += batch.num_rows


def _read_labels(here: Queries, run: Run, part: int, language: Entry | None, gates: Sequence[Entry]) -> Labels:
    rows = here.manifest(here.entry(run, "ingest")).parts[part].rows
    names: list[str] = []
    codes = np.full(rows, -1, np.int16)
    if language is not None:
        column = here.part(language, part, ["language"])["language"].combine_chunks()
        names, codes = column.dictionary.to_pylist(), _codes(column)
    reasons: list[tuple[str, str]] = []
    verdicts: list[NDArray[np.int16]] = []
    reason = np.full(rows, -1, np.int16)
    for gate in gates:
        column = keys.contiguous(here.part(gate, part, [REASON])[REASON])
        own = _codes(column)
        own[own >= 0] += len(reasons)
        verdicts.append(own)
        reason = np.where(reason < 0, own, reason)
        reasons += [(gate.stage, rule) for rule in column.dictionary.to_pylist()]
    return Labels(names, codes, reasons, reason, verdicts)


def _codes_of(names: Sequence[str], chosen: str) -> list[int]:
    return [-1] if chosen == NO_LABEL else [code for code, name in enumerate(names) if name == chosen]


def _codes(column: pa.DictionaryArray) -> NDArray[np.int16]:
    return np.array(column.indices.cast(pa.int16()).fill_null(-1))


def _fits(here: Queries, run: Run, asked: Question, place: tuple[int, int]) -> bool:
    part, row = place
    label = here.manifest(here.entry(run, "ingest")).parts[part].label
    return _is_of(label, asked) and (not asked.is_filtered or bool(labels_of(here, run, part).fit(asked)[row]))


def _is_of(label: str, asked: Question) -> bool:
    return not asked.source or label.rpartition(".")[0] == asked.source


def _some(places: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    return [place for place, _ in zip(places, range(PAGE + 1), strict=False)]


def _page(places: Sequence[tuple[int, int]]) -> Found:
    shown = list(places[:PAGE])
    return Found(shown, shown[-1] if len(places) > PAGE else None)


def _after(here: Queries, run: Run, asked: Question) -> tuple[int, int]:
    if not asked.after:
        return (-1, -1)
    try:
        place: Place = here.place(run, asked.after)
    except ValueError as error:
        raise BadRequest(f"after: {error}") from error
    return (place.part, place.row)
