"""Lines that stand on many pages of one site: navigation, notices, invitations. Counted by hash and host, then cut."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from polylm.kernels import clean_text, utf8
from polylm.tasks.corpus.spill import Groups, spill_folder
from polylm.tasks.stage import Corpus, Field, Params, Rows, Workspace, files

Hashes: TypeAlias = NDArray[np.uint64]
_GROUPS = 256
_LINE = np.dtype([("host", np.uint64), ("line", np.uint64)])
_PAGE = np.uint64(0)  # the line that every page has: counts pages


class BoilerplateParams(Params):
    min_documents: int = Field(
        0, ge=0, description="Pages of a site on which a line must stand to be cut; 0 cuts none.", source="ours"
    )
    min_share: float = Field(
        0.1, ge=0, le=1, description="Share of a site's pages on which it must stand.", source="ours"
    )


@files(reads=["text", "url"], writes={"host": pa.uint64(), "line": pa.uint64(), "documents": pa.uint32()}, version=1)
def count_lines(corpus: Corpus, params: BoilerplateParams, work: Workspace) -> pa.Table:
    """Count on how many pages of a site each line stands; those that `clean` cuts are written.

    Memory: the lines of a part, 16 bytes each, and of the largest of 256 groups of sites. Disk: 16 bytes a line.
    """
    with spill_folder(work.scratch) as folder:
        groups = Groups(folder / "lines", _LINE)
        for rows in corpus:
            found = np.concatenate([np.empty(0, _LINE), *_pages(rows)])
            groups.add((found["host"] % _GROUPS).astype(np.int64), found)
        repeated = [_repeated(groups.read(group), params) for group in groups]
    table = pa.concat_tables([_table(np.empty(0, _LINE), np.empty(0, np.int64)), *repeated])
    return table.sort_by([("host", "ascending"), ("line", "ascending")]).combine_chunks()


def lines_by_host(table: pa.Table) -> dict[int, frozenset[int]]:
    """The lines to cut, by hash of the site."""
    hosts, lines = table["host"].to_numpy(), table["line"].to_numpy()
    borders = np.flatnonzero(np.diff(hosts, prepend=hosts[:1])) if len(hosts) else np.empty(0, np.int64)
    bounds = [0, *borders.tolist(), len(hosts)]
    return {
        int(hosts[first]): frozenset(lines[first:last].tolist()) for first, last in pairwise(bounds) if last > first
    }


def cut_lines(text: str, url: str | None, known: Mapping[int, frozenset[int]]) -> tuple[str, list[tuple[int, str]]]:
    """A text without the lines that its site repeats, and those, with their numbers."""
    repeated = known.get(host_hash(url)) if url else None
    if not repeated:
        return text, []
    lines = text.split("\n")
    gone = [(number, line) for number, line in enumerate(lines) if line and line_hash(line) in repeated]
    numbers = {number for number, _ in gone}
    return "\n".join(line for number, line in enumerate(lines) if number not in numbers), gone


@lru_cache(maxsize=10_000)
def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""


def host_hash(url: str) -> int:
    """The hash of an address's site; 0 where it names none."""
    host = _host(url)
    return xxhash.xxh3_64_intdigest(host.encode()) if host else 0


def line_hash(line: str) -> int:
    """The hash of a cleaned line."""
    return xxhash.xxh3_64_intdigest(line.encode())


def _pages(rows: Rows) -> Iterator[NDArray[np.void]]:
    """The different lines of every page of a site, as they are after cleaning, and the line that all have."""
    for start, texts in _batches(rows["text"]):
        cleaned = clean_text.clean(texts, max_word_chars=1 << 30, drop_url_lines=False).texts
        urls = rows["url"].slice(start, len(texts)).to_pylist()
        for text, url in zip(cleaned.to_pylist(), urls, strict=True):
            host = host_hash(url) if url and text else 0
            if host:
                lines = {line_hash(line) for line in text.split("\n") if line} | {int(_PAGE)}
                page = np.empty(len(lines), _LINE)
                page["host"], page["line"] = host, np.fromiter(sorted(lines), np.uint64, len(lines))
                yield page


def _batches(texts: pa.Array) -> Iterator[tuple[int, pa.Array]]:
    start = 0
    for batch in utf8.row_batches(texts):
        yield start, batch
        start += len(batch)


def _repeated(lines: NDArray[np.void], params: BoilerplateParams) -> pa.Table:
    """The lines of a group of sites that stand on enough pages."""
    unique, counts = np.unique(lines, return_counts=True)
    is_page = unique["line"] == _PAGE
    hosts, pages = unique["host"][is_page], counts[is_page]
    of_site = pages[np.searchsorted(hosts, unique["host"])]
    enough = (counts >= params.min_documents) & (counts >= params.min_share * of_site) & ~is_page & (counts > 1)
    return _table(unique[enough], counts[enough])


def _table(lines: NDArray[np.void], counts: NDArray[np.int64]) -> pa.Table:
    return pa.table(
        {
            "host": np.ascontiguousarray(lines["host"]),
            "line": np.ascontiguousarray(lines["line"]),
            "documents": counts.astype(np.uint32),
        }
    )
