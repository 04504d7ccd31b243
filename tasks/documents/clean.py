"""The paper's line-wise rules (PolyLM 3.1) and what a recipe adds to them, and the gate for texts of which nothing is left."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import field_validator

from polylm.kernels import clean_text
from polylm.kernels.c4_lines import judge_lines
from polylm.tasks.documents.boilerplate import cut_lines, lines_by_host
from polylm.tasks.documents.masks import STAND_INS, Kind, mask, mask_part, maybe
from polylm.tasks.documents.mojibake import repair
from polylm.tasks.rules import Rules, at_least
from polylm.tasks.stage import Columns, Field, NoParams, Params, Rows, gate, measure

Cuts: TypeAlias = dict[int, list[dict[str, Any]]]
Counts: TypeAlias = NDArray[np.uint32]
_SHOWN_CHARS = 200  # of a cut line or word that the record keeps
_SHOWN_CUTS = 100
_NO_LIMIT = 1 << 30  # characters of a word


class CleanParams(Params):
    max_word_chars: int = Field(
        1_000,
        ge=1,
        description="Longer words are cut out, but in scripts without spaces.",
        unit="characters",
        source="C4",
    )
    drop_url_lines: bool = Field(
        True, description="Drop lines that are only addresses.", source="PolyLM 3.1, line-wise rules"
    )
    fix_mojibake: bool = Field(
        False,
        description="Repair lines of UTF-8, and of Russian in Windows-1251 or KOI8-R, that were read as another encoding.",
        source="ftfy; ours for Russian",
    )
    c4_lines: bool = Field(
        False, description="Drop lines as C4 does: unterminated, under 3 words, javascript, policies.", source="C4"
    )
    masks: tuple[Kind, ...] = Field((), description="What is replaced by a stand-in: email, iban, ip, phone.")
    phone_regions: tuple[str, ...] = Field(
        (), description="Regions whose phone numbers are found without a country code, such as DE."
    )
    keep_kinds: tuple[str, ...] = Field(
        ("code",), description="Kinds of documents that stay as they are: cleaning takes the indentation of code."
    )

    @field_validator("phone_regions")
    @classmethod
    def _are_regions(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        if not regions:
            return regions
        import phonenumbers  # 0.3 s

        if unknown := sorted({*regions} - phonenumbers.SUPPORTED_REGIONS):
            raise ValueError(f"{', '.join(unknown)} are no regions of ISO 3166, such as DE or US")
        return regions


@measure(
    reads=["text", "url", "kind"],
    writes={
        "text": pa.string(),
        "chars": pa.uint32(),
        "url_lines": pa.uint32(),
        "long_words": pa.uint32(),
        "invisible_chars": pa.uint32(),
        "space_chars": pa.uint32(),
        "mojibake_lines": pa.uint32(),
        "boilerplate_lines": pa.uint32(),
        "c4_cut_lines": pa.uint32(),
        "masked": pa.uint32(),
        "cut": pa.string(),
    },
    version=6,
    libraries=["unicodedata", "ftfy", "phonenumbers", "python-stdnum", "xxhash"],
)
def clean(rows: Rows, params: CleanParams, boilerplate: pa.Table | None = None) -> Columns:
    """Standardise white space; drop invisible characters, lines that are only addresses and over-long words.

    By recipe: repair mojibake, cut the lines that a site repeats and those that C4 drops, mask what leads to a person. `cut`
    is a JSON list of what went: lines and words with the number of their line before anything was cut from that text, masks
    with the exact span of their stand-in and how many characters they had; null for none. What masks take from texts they
    take from what `cut` shows as well. A text of which nothing is left is null, with 0 characters. Memory: two copies of the part's text, and Python's strings of the texts that change.
    """
    kept = np.asarray(pc.fill_null(pc.is_in(rows["kind"], pa.array(params.keep_kinds, pa.string())), False))
    work = _Work(rows["text"], kept, params)
    mojibake = work.repair() if params.fix_mojibake else None
    cleaned = work.clean()
    repeated = work.drop(_repeated(rows["url"], boilerplate), "boilerplate") if boilerplate is not None else None
    c4 = work.drop(_dropped_by_c4, "c4") if params.c4_lines else None
    masked = work.mask() if params.masks else None
    texts = work.finished(rows["text"])
    return {
        "text": texts,
        "chars": pc.utf8_length(texts).fill_null(0).cast(pa.uint32()),
        "url_lines": np.where(kept, 0, cleaned.url_lines).astype(np.uint32),
        "long_words": np.where(kept, 0, cleaned.long_words).astype(np.uint32),
        "invisible_chars": np.where(kept, 0, cleaned.invisible_chars).astype(np.uint32),
        "space_chars": np.where(kept, 0, cleaned.space_chars).astype(np.uint32),
        "mojibake_lines": _counts(mojibake, len(texts)),
        "boilerplate_lines": _counts(repeated, len(texts)),
        "c4_cut_lines": _counts(c4, len(texts)),
        "masked": _counts(masked, len(texts)),
        "cut": work.record(),
    }


@gate(reads=["chars"])
def drop_empty(rows: Rows, params: NoParams) -> Rules:
    """Reject documents of which cleaning left nothing."""
    return {"empty": at_least(np.asarray(rows["chars"]), 1)}


class _Work:
    """The texts of a part on their way, and what was cut from each; rows in `kept` are left alone."""

    def __init__(self, texts: pa.Array, kept: NDArray[np.bool_], params: CleanParams) -> None:
        self._texts, self._kept, self._params = texts, kept, params
        self._cuts: Cuts = {}

    def repair(self) -> dict[int, int]:
        """Repair mojibake; lines by row."""
        self._texts, found = repair(self._texts)
        for row, lines in found.items():
            better = self._texts[row].as_py().split("\n") if self._params.masks else None
            for number, line in lines:
                shown = line if better is None else _broken(line, better[number], self._params)
                self._note(row, [{"why": "mojibake", "line": number, "text": shown}])
        return {row: len(lines) for row, lines in found.items() if not self._kept[row]}

    def clean(self) -> clean_text.CleanResult:
        """The rules for lines and words."""
        params = self._params
        longest, without_urls = params.max_word_chars, params.drop_url_lines
        cleaned = clean_text.clean(self._texts, max_word_chars=longest, drop_url_lines=without_urls)
        for row in np.flatnonzero((cleaned.url_lines + cleaned.long_words > 0) & ~self._kept).tolist():
            self._note(row, _lines_and_words(self._texts[row].as_py(), params))
        self._texts = cleaned.texts
        return cleaned

    def drop(self, cut: Callable[[int, str], tuple[str, list[tuple[int, str]]]], why: str) -> dict[int, int]:
        """Cut lines from every text that has some to cut; lines by row."""
        changed, counts = {}, {}
        for row, text in enumerate(self._texts.to_pylist()):
            if text is None or self._kept[row]:
                continue
            left, gone = cut(row, text)
            if gone:
                changed[row], counts[row] = left.strip("\n ") or None, len(gone)
                self._note(row, ({"why": why, "line": number, "text": line} for number, line in gone))
        self._replace(changed)
        return counts

    def mask(self) -> dict[int, int]:
        """Replace what leads to a person; spans by row."""
        params = self._params
        changed: dict[int, str | None] = {}
        counts: dict[int, int] = {}
        for row in maybe(self._texts, params.masks):
            if self._kept[row]:
                continue
            text, spans = mask(self._texts[row].as_py(), params.masks, params.phone_regions)
            if spans:
                changed[row], counts[row] = text, len(spans)
                self._note(row, ({"why": s.kind, "start": s.start, "end": s.end, "was": s.was} for s in spans))
        self._replace(changed)
        return counts

    def finished(self, raw: pa.Array) -> pa.Array:
        """The texts, with those that stay as they were."""
        return pc.if_else(pa.array(self._kept), raw, self._texts) if self._kept.any() else self._texts

    def record(self) -> pa.Array:
        """What was cut from every text, as JSON, without what leads to a person where masks are on."""
        shown = {row: _shown(cuts) for row, cuts in self._cuts.items() if not self._kept[row]}
        _hide([cut for cuts in shown.values() for cut in cuts if "text" in cut], self._params)
        return pa.array([_json(shown[row]) if row in shown else None for row in range(len(self._kept))], pa.string())

    def _note(self, row: int, cuts: Iterable[dict[str, Any]]) -> None:
        self._cuts.setdefault(row, []).extend(cuts)

    def _replace(self, changed: dict[int, str | None]) -> None:
        if changed:
            where = np.zeros(len(self._texts), np.bool_)
            where[list(changed)] = True
            new = pa.array(list(changed.values()), self._texts.type)
            self._texts = pc.replace_with_mask(self._texts, pa.array(where), new)


def _lines_and_words(text: str, params: CleanParams) -> list[dict[str, Any]]:
    """The lines of addresses and the over-long words of one text, a line and a word at a time by the very rules."""
    visible = (
        clean_text.clean(pa.array([text], pa.string()), max_word_chars=_NO_LIMIT, drop_url_lines=False).texts[0].as_py()
    )
    lines = (visible or "").split("\n")
    judged = _judge(lines, params)
    found = []
    for number, line in enumerate(lines):
        if judged.url_lines[number]:
            found.append({"why": "address", "line": number, "text": line})
        elif judged.long_words[number]:
            found += [{"why": "long word", "line": number, "text": word} for word in _long_words(line, params)]
    return found


def _long_words(line: str, params: CleanParams) -> Iterator[str]:
    """The over-long words of a line, masked there: only the line tells that a word is a piece of a phone number."""
    words, at = line.split(" "), 0
    for word, gone in zip(words, _judge(words, params).long_words, strict=True):
        if gone:
            yield mask_part(line, at, at + len(word), params.masks, params.phone_regions)
        at += len(word) + 1


def _broken(line: str, better: str, params: CleanParams) -> str:
    """A line before its mojibake was repaired, as the record may show it.

    Where its repair holds what is masked and the broken line hides it (`+49Â 30Â 901820`), these are the stand-ins alone.
    """
    texts = clean_text.clean(
        pa.array([line, better], pa.string()), max_word_chars=_NO_LIMIT, drop_url_lines=False
    ).texts
    (shown, one), (_, other) = (mask(text or "", params.masks, params.phone_regions) for text in texts.to_pylist())
    if [(span.kind, span.was) for span in one] == [(span.kind, span.was) for span in other]:
        return shown if one else line
    return " … ".join(STAND_INS[span.kind] for span in other or one)


def _judge(texts: list[str], params: CleanParams) -> clean_text.CleanResult:
    array = pa.array(texts, pa.string())
    return clean_text.clean(array, max_word_chars=params.max_word_chars, drop_url_lines=params.drop_url_lines)


def _repeated(urls: pa.Array, table: pa.Table) -> Callable[[int, str], tuple[str, list[tuple[int, str]]]]:
    known, addresses = lines_by_host(table), urls.to_pylist()
    return lambda row, text: cut_lines(text, addresses[row], known)


def _dropped_by_c4(_: int, text: str) -> tuple[str, list[tuple[int, str]]]:
    """A text without the lines that C4 drops, and those; citations (`[2]`) stay, because they are no lines."""
    lines = text.split("\n")
    judged = judge_lines(pa.array(lines, pa.string()), terminal=True)
    keeps = judged.counts["c4_kept_lines"]
    gone = [(number, line) for number, line in enumerate(lines) if line and not keeps[number]]
    numbers = {number for number, _ in gone}
    return "\n".join(line for number, line in enumerate(lines) if number not in numbers), gone


def _counts(by_row: dict[int, int] | None, rows: int) -> Counts:
    counts = np.zeros(rows, np.uint32)
    for row, count in (by_row or {}).items():
        counts[row] = count
    return counts


def _shown(cuts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first cuts, and how many more there were; all spans: nothing else tells where a mask is."""
    texts = [cut for cut in cuts if "text" in cut]
    more = len(texts) - _SHOWN_CUTS
    rest = [{"why": "more", "count": more}] if more > 0 else []
    return texts[:_SHOWN_CUTS] + rest + [cut for cut in cuts if "text" not in cut]


def _hide(cuts: list[dict[str, Any]], params: CleanParams) -> None:
    """Mask the texts of cuts, whole: half an address is no address, and would be shown."""
    texts = pa.array((cut["text"] for cut in cuts), pa.large_string())
    for place in maybe(texts, params.masks):
        cuts[place]["text"], _ = mask(cuts[place]["text"], params.masks, params.phone_regions)


def _json(cuts: list[dict[str, Any]]) -> str:
    """Cuts with the beginnings of long texts."""
    return orjson.dumps(
        [{**cut, "text": cut["text"][:_SHOWN_CHARS]} if "text" in cut else cut for cut in cuts]
    ).decode()
