"""The beginnings of some documents' texts, read without reading their parts whole."""

from collections.abc import Sequence
from dataclasses import dataclass

from polylm.dashboard.cache import PATIENCE_SECONDS
from polylm.dashboard.queries import Queries
from polylm.dashboard.stages.reading import read_rows
from polylm.dashboard.view import url
from polylm.tasks.maintenance.run_records import Run

CHARS = 320


@dataclass(frozen=True)
class Example:
    """A document as a list shows it; `notes` are values with their names."""

    address: str
    href: str
    label: str
    text: str | None  # None: still being read; `ask` gives it then
    ask: str = ""
    notes: tuple[tuple[str, str], ...] = ()


def examples(
    here: Queries, run: Run, places: Sequence[tuple[int, int]], labels: Sequence[str],
    notes: Sequence[tuple[tuple[str, str], ...]] = (), patience: float = PATIENCE_SECONDS,
) -> list[Example]:  # fmt: skip
    """Documents by (part, row); their texts are None where reading takes longer than `patience`: ask again."""
    texts = here.cache.soon(("beginnings", run.id, tuple(places)), lambda: _texts(here, run, places), patience)
    listed = []
    for index, (part, row) in enumerate(places):
        address = here.address(run, part, row)
        text = texts[index] if texts else None
        href, ask = url("run", run.id, "doc", address), url("run", run.id, "beginning", address)
        listed.append(Example(address, href, labels[index], text, ask, notes[index] if notes else ()))
    return listed


def beginning(here: Queries, run: Run, part: int, row: int) -> str:
    """The beginning of a document's text as `clean` left it; "" where there is none."""
    cleaned = run.entries("clean")
    if not cleaned or "text" not in here.columns(cleaned[-1]):
        return ""
    text = read_rows(here.paths(cleaned[-1])[part], row, 1, ["text"])["text"][0].as_py()
    return "" if text is None else str(text[: 2 * CHARS])  # enough to see where a cut may be


def _texts(here: Queries, run: Run, places: Sequence[tuple[int, int]]) -> list[str]:
    return [beginning(here, run, part, row) for part, row in places]
