"""A document's text as its page shows it: what `clean` repaired, cut and masked in place, and lines that a rule counts marked."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from polylm.dashboard import document as doc
from polylm.dashboard.cuts import LINE_COUNTS, Piece, agrees, counted_lines, left_of, lines_of, marked, pieces
from polylm.dashboard.document import Verdict
from polylm.dashboard.gates import params_of
from polylm.dashboard.queries import Place, Queries
from polylm.tasks.corpus.text import StatisticsParams
from polylm.tasks.documents.clean import CleanParams
from polylm.tasks.documents.mojibake import repair
from polylm.tasks.maintenance.run_records import Entry, Run
from polylm.tasks.stage import Params
from polylm.tasks.store import StoreError

SHOWN_CHARS = 20_000  # of a text, until the whole is asked for
MOST_CHARS = 5_000_000
COUNTED = {  # what `clean` counts in every document
    "mojibake_lines": "repaired lines",
    "url_lines": "lines of addresses only",
    "long_words": "over-long words",
    "boilerplate_lines": "lines that its site repeats",
    "c4_cut_lines": "lines that C4 drops",
    "masked": "masks",
    "invisible_chars": "invisible characters",
    "space_chars": "characters of white space",
}
LINES = {
    "boilerplate": ("boilerplate_lines", "a line that its site repeats"),
    "c4": ("c4_cut_lines", "a line that C4 drops"),
}
MASKS = {"email": "an e-mail address", "iban": "an account number", "ip": "an IP address", "phone": "a phone number"}


@dataclass(frozen=True)
class Record:
    """What `clean` noted of a text."""

    lines: list[dict[str, Any]] = field(default_factory=list)  # cut and repaired: why, line, text
    masks: list[dict[str, Any]] = field(
        default_factory=list
    )  # why, start and end in the cleaned text, was (characters)
    more: int = 0  # cuts of which only the number is known
    counts: dict[str, int] = field(default_factory=dict)  # by what was counted, where it is not 0

    @property
    def is_whole(self) -> bool:
        """Whether every line that cannot be found again by a rule is in it."""
        found = {why: sum(one["why"] == why for one in self.lines) for why in LINES}
        return all(found[why] == self.counts.get(COUNTED[count], 0) for why, (count, _) in LINES.items())


@dataclass(frozen=True)
class Text:
    """What is shown of a text."""

    pieces: list[Piece]
    chars: int  # of the text as it was read
    shown: int
    agrees: bool  # what stayed is the cleaned text; else that is shown alone
    record: Record

    @property
    def reasons(self) -> list[str]:
        """Why something was cut."""
        return list(dict.fromkeys(piece.cut for piece in self.pieces if piece.cut))

    @property
    def marks(self) -> list[str]:
        """Rules whose lines are marked."""
        return list(dict.fromkeys(mark for piece in self.pieces for mark in piece.marks))

    @property
    def has_notes(self) -> bool:
        return any(piece.note for piece in self.pieces)


def shown_text(here: Queries, run: Run, place: Place, about: Mapping[str, Any], verdict: Verdict, whole: bool) -> Text:
    """The beginning of a document's text, or as much as a page can bear of it."""
    raw = doc.row_of(here, run, "ingest", place, ["text"]).get("text") or ""
    most = MOST_CHARS if whole else SHOWN_CHARS
    read = raw if len(raw) <= most else raw[:most]
    entry = doc.last(here, run, "clean")
    if entry is None:
        return Text([Piece(read)], len(raw), len(read), True, Record())
    row = doc.row_of(here, run, "clean", place, ["text", "cut", *COUNTED])
    cleaned, record, params = row.get("text") or "", record_of(row), _params(here, entry)
    found = []
    if isinstance(params, CleanParams) and record.is_whole:
        found = [Piece(read)] if about["kind"] in params.keep_kinds else in_place(read, params, record, cleaned)
    fits = bool(found) and (len(read) < len(raw) or agrees(found, cleaned))
    if not fits:
        found = _stand_ins(cleaned[:most], record)
    elif len(read) == len(raw) and about["language"]:
        found = marked(found, cleaned, _counted(here, run, place, cleaned, about["language"], verdict))
    return Text(found, len(raw), len(read), fits or not raw, record)


def record_of(row: Mapping[str, Any]) -> Record:
    """The record of a row of `clean`; empty where older code wrote none."""
    noted = json.loads(row.get("cut") or "[]")
    return Record(
        [one for one in noted if "text" in one],
        [one for one in noted if "start" in one],
        sum(one.get("count", 0) for one in noted),
        {name: row[column] for column, name in COUNTED.items() if row.get(column)},
    )


def in_place(raw: str, params: CleanParams, record: Record, cleaned: str) -> list[Piece]:
    """A text as it was read, step by step as `clean` goes: repaired, cut by its rules, without lines, masked."""
    repaired, before = repair(pa.array([raw], pa.string())) if params.fix_mojibake else (None, {})
    text = raw if repaired is None else repaired[0].as_py()
    shown = list(_repaired(pieces(text, params), text, before.get(0, [])))
    left = left_of(text, params)
    for why, (_, told) in LINES.items():
        gone = {one["line"] for one in record.lines if one["why"] == why}
        shown, left = _without(shown, left, gone, told) if gone else (shown, left)
    return list(_masked(shown, left, cleaned, record)) if record.masks else shown


def _repaired(shown: Sequence[Piece], text: str, before: Sequence[tuple[int, str]]) -> Iterator[Piece]:
    """Lines that were repaired say what stood there."""
    if not before:
        yield from shown
        return
    lines = text.split("\n")
    known = {"".join(lines[number].split()): was for number, was in before}
    for line in lines_of(shown):
        was = known.get("".join("".join(piece.text for piece in line).split()))
        yield from (line if was is None else (replace(piece, note=f"repaired; it read: {was}") for piece in line))


def _without(shown: Sequence[Piece], text: str, gone: set[int], why: str) -> tuple[list[Piece], str]:
    """The pieces with some lines of what stays cut, by their numbers in the text that it is, and the text left."""
    lines = text.split("\n")
    filled = iter([number for number, line in enumerate(lines) if line.strip()])
    found: list[Piece] = []
    for line in lines_of(shown):
        stays = any(piece.text.strip() for piece in line if not piece.cut)
        goes = stays and next(filled, None) in gone
        found += [replace(piece, cut=why) if goes and not piece.cut else piece for piece in line]
    return found, "\n".join(line for number, line in enumerate(lines) if number not in gone).strip("\n ")


def _masked(shown: Sequence[Piece], text: str, cleaned: str, record: Record) -> Iterator[Piece]:
    """The pieces with stand-ins where `clean` put them: what they stand for is not shown, on this page or in a record."""
    spans = iter(list(_spans(text, cleaned, record)))
    first, last, stand_in = next(spans, _NEVER)
    at = 0  # characters so far that are no white space: pieces have other white space than the text
    for piece in shown:
        if piece.cut:
            yield piece
            continue
        begin = 0
        for place, character in enumerate(piece.text):
            if character.isspace():
                continue
            if at == first:
                yield replace(piece, text=piece.text[begin:place])
            at += 1
            if at == last:
                yield stand_in
                begin = place + 1
                first, last, stand_in = next(spans, _NEVER)
        if not first < at < last:
            yield replace(piece, text=piece.text[begin:])


_NEVER = (-1, -1, Piece(""))


def _spans(text: str, cleaned: str, record: Record) -> Iterator[tuple[int, int, Piece]]:
    """What is masked of a text, as counts of characters that are no white space, with its stand-in."""
    moved = 0
    for mask in record.masks:
        begin, end = mask["start"] - moved, mask["start"] - moved + mask["was"]
        first = len("".join(text[:begin].split()))
        yield first, first + len("".join(text[begin:end].split())), _stand_in(cleaned, mask)
        moved += mask["end"] - mask["start"] - mask["was"]


def _stand_in(cleaned: str, mask: Mapping[str, Any]) -> Piece:
    told = MASKS.get(mask["why"], str(mask["why"]))
    return Piece(cleaned[mask["start"] : mask["end"]], note=f"stands for {told} of {mask['was']} characters")


def _stand_ins(cleaned: str, record: Record) -> list[Piece]:
    """The cleaned text alone, with its stand-ins marked."""
    found, at = [], 0
    for mask in record.masks:
        found += [Piece(cleaned[at : mask["start"]]), _stand_in(cleaned, mask)]
        at = mask["end"]
    return [piece for piece in [*found, Piece(cleaned[at:])] if piece.text]


def _counted(
    here: Queries, run: Run, place: Place, cleaned: str, language: str, verdict: Verdict
) -> dict[int, list[str]]:
    rules = [answer.rule for answer in verdict.broken if answer.rule in LINE_COUNTS]
    entry = doc.last(here, run, "measure_text")
    if not rules or entry is None:
        return {}
    params = _params(here, entry)
    if not isinstance(params, StatisticsParams):
        return {}
    stop_words = params.stop_words.get(language, ())
    return here.cache.get(("lines", run.id, place.number), lambda: counted_lines(cleaned, language, stop_words, rules))


def _params(here: Queries, entry: Entry) -> Params | None:
    """What a stage was made with; None where other code made it."""
    try:
        return params_of(here, entry)
    except StoreError:
        return None
