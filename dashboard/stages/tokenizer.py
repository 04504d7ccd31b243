"""The tokenizer: how many bytes a token has in every language, how many words it cuts, and how it cuts a text of yours."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel, Field

from polylm.dashboard import charts
from polylm.dashboard.charts import Bar
from polylm.dashboard.document import last
from polylm.dashboard.queries import Queries
from polylm.dashboard.stages.frame import own_page
from polylm.dashboard.stages.reading import read_file
from polylm.tasks.maintenance.run_records import Entry, Run

SAMPLED_CHARS = 20_000  # of each language that words and bytes are counted in
DOCUMENT_CHARS = 2_000
SAMPLED_PARTS = 40
SHOWN = ("language", "sample_bytes", "repeats", "bytes", "bytes_per_token", "fertility")  # of the statistics


@dataclass(frozen=True)
class Piece:
    """One token: what it is written as, its id, and whether it goes on in a word or is part of a character."""

    id: int
    shown: str
    kind: str  # word, continued, byte or special
    line_end: bool


@dataclass(frozen=True)
class Cut:
    """How the tokenizer cuts text of one language."""

    tokens: int
    bytes: int
    words: int
    cut_words: int
    byte_tokens: int

    @property
    def bytes_per_token(self) -> float | None:
        return self.bytes / self.tokens if self.tokens else None

    @property
    def continued(self) -> float | None:
        """Share of words that are more than one token."""
        return self.cut_words / self.words if self.words else None

    @property
    def byte_share(self) -> float | None:
        """Share of tokens that are no whole characters."""
        return self.byte_tokens / self.tokens if self.tokens else None


class Asked(BaseModel):
    """What the page shows of the params."""

    vocabulary: int = Field(ge=0, lt=2**53)
    alpha: float


def view(request: Request, here: Queries, run: Run, entry: Entry) -> Response:
    """The page of `train_tokenizer`; `?text=` is cut into tokens, as long as an address may be (`security`)."""
    text = request.query_params.get("text", "")
    folder = here.folder(entry)
    statistics = _statistics(folder)
    cuts = here.cache.soon(("cuts", entry.artifact, run.id), lambda: cuts_of(here, run, folder))
    return own_page(
        request, here, "tokenizer.html", run, entry, statistics=statistics, cuts=cuts,
        chart=_chart(statistics, cuts or {}), params=here.params(entry, Asked), sampled=SAMPLED_CHARS, text=text,
        pieces=pieces_of(folder, text) if text else [],
    )  # fmt: skip


STAGES = {"train_tokenizer": view}
READS = ("text",)  # of an address


def pieces_of(folder: Path, text: str) -> list[Piece]:
    """The tokens of a text. Lone surrogates, which no text in the corpus has, are replaced."""
    tokenizer = _tokenizer(folder)
    encoding = tokenizer.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False)
    return [_piece(token, number) for token, number in zip(encoding.tokens, encoding.ids, strict=True)]


def cuts_of(here: Queries, run: Run, folder: Path) -> dict[str, Cut]:
    """How selected documents of the run are cut, of each language its first `SAMPLED_CHARS` characters in a few parts."""
    texts: dict[str, list[str]] = {}
    room: Counter[str] = Counter()
    for language, text in _selected(here, run):
        if room[language] < SAMPLED_CHARS:
            room[language] += len(text)
            texts.setdefault(language, []).append(text)
    return {language: _cut(folder, texts[language]) for language in sorted(texts)}


def _statistics(folder: Path) -> list[dict[str, Any]]:
    """What the stage measured; a column that is younger than the artifact is None."""
    rows = read_file(folder / "statistics.parquet").to_pylist()
    return [dict.fromkeys(SHOWN) | row for row in rows]


def _selected(here: Queries, run: Run) -> Iterator[tuple[str, str]]:
    """Beginnings of selected documents with their languages, from parts spread over the corpus; none before they are."""
    needed = [last(here, run, name) for name in ("clean", "identify_language", "select")]
    if None in needed:
        return
    clean, language, select = (entry for entry in needed if entry)
    parts = len(here.manifest(clean).parts)
    for index in sorted(
        {i * parts // SAMPLED_PARTS for i in range(SAMPLED_PARTS)} if parts > SAMPLED_PARTS else range(parts)
    ):
        weights = here.part(select, index, ["weight"])["weight"].to_pylist()
        labels = here.part(language, index, ["language"])["language"].to_pylist()
        texts = here.part(clean, index, ["text"])["text"]
        for row, (weight, label) in enumerate(zip(weights, labels, strict=True)):
            if weight and label:
                yield label, (texts[row].as_py() or "")[:DOCUMENT_CHARS]


def _cut(folder: Path, texts: Sequence[str]) -> Cut:
    tokens = total = words = cut_words = loose = 0
    for encoding, text in zip(
        _tokenizer(folder).encode_batch(list(texts), add_special_tokens=False), texts, strict=True
    ):
        inside = Counter(
            word for word, token in zip(encoding.word_ids, encoding.tokens, strict=True) if _is_word(token)
        )
        tokens += len(encoding.ids)
        total += len(text.encode())
        words += len(inside)
        cut_words += sum(n > 1 for n in inside.values())
        loose += sum(_text(token) is None for token in encoding.tokens)
    return Cut(tokens, total, words, cut_words, loose)


def _is_word(token: str) -> bool:
    """Whether a token is part of a word: letters, or bytes of a character that was cut."""
    text = _text(token)
    return text is None or any(character.isalpha() for character in text)


@cache
def _bytes_of() -> dict[str, int]:
    """From the characters that byte-level BPE writes bytes as, to the bytes (GPT-2's table)."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _text(token: str) -> str | None:
    """What a token stands for; None of bytes that are no whole characters."""
    table = _bytes_of()
    if any(character not in table for character in token):
        return token  # a special token
    try:
        return bytes(table[character] for character in token).decode()
    except UnicodeDecodeError:
        return None


def _piece(token: str, number: int) -> Piece:
    text, table = _text(token), _bytes_of()
    if text is None:
        return Piece(number, " ".join(f"{table[c]:02X}" for c in token), "byte", False)
    if any(character not in table for character in token):
        return Piece(number, token, "special", False)
    shown = text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")
    goes_on = text[:1].isalpha()  # a word begins with the space or sign before it
    return Piece(number, shown, "continued" if goes_on else "word", "\n" in text)


def _chart(statistics: Sequence[Mapping[str, Any]], cuts: Mapping[str, Cut]) -> Any:
    """Bytes per token: of held-out text where it was measured, else of what was sampled, paler."""
    bars = []
    for row in statistics:
        measured, sampled = row["bytes_per_token"], cuts.get(row["language"])
        value = measured or (sampled.bytes_per_token if sampled else None)
        if value:
            bars.append(Bar(row["language"], value, kind="" if measured else "muted", note=f"{value:.2f}"))
    return charts.bars(sorted(bars, key=lambda bar: -bar.value), title="Bytes per token by language", width=480)


def _tokenizer(folder: Path) -> Any:
    from polylm.tasks.tokens.tokenizer import load_tokenizer  # loads a library that other pages do not need

    return load_tokenizer(folder)  # kept by it, one or two at a time
