"""Dumps of Wikipedia: every page of the main namespace that is no redirect, its wiki markup taken out.

Pages are cut out of the stream by their tags and parsed one by one, so that a damaged page costs itself only and every bad
record has its place; mwxml, which parses the dump as one document, ends at the first error.
"""

import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from polylm.tasks.documents.readers.batches import Batch, Collector, Damaged, Options, gathered
from polylm.tasks.documents.readers.streams import BoundedBytes, chunks
from polylm.tasks.documents.schema import FOUND_BYTES, BadRecord, FieldMap, decode, too_long

_COLUMNS = FieldMap.of(None)
_BEGIN, _END = b"<page>", b"</page>"
_TAGS = re.compile(rb"</?page>")
_MAX_HEAD_BYTES = 1 << 20
_FILE, _CATEGORY = 6, 14  # numbers of namespaces
_NO_PROSE = ("ref", "references", "gallery", "math", "chem", "score", "timeline", "table", "syntaxhighlight", "source",
             "imagemap", "templatestyles", "mapframe", "graph", "style")  # fmt: skip
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")
_EMPTY_BRACKETS = re.compile(r"[ \t]*[(（][\s,;:،、，；]*[)）]")
_LONE_MARKS = re.compile(r"^[ \t]*[*#:;]+[ \t]*$", re.MULTILINE)
_SPACES = re.compile(r"[ \t]*\n[ \t]*")
_MAGIC_WORDS = re.compile(r"__[A-Z]+__")


@dataclass(frozen=True)
class _Site:
    """What the head of a dump says of its wiki."""

    base: str | None  # of the addresses of its pages
    hidden: tuple[str, ...]  # prefixes of links to files and categories, which are no part of the prose


def read_wikipedia(path: Path, format: str, options: Options) -> Iterator[Batch]:
    """Read the articles of a dump; redirects and pages of other namespaces (talk, users, templates) are no records."""
    site = _Site(None, ())

    def collect(page: tuple[int, bytes, int], out: Collector) -> None:
        nonlocal site
        offset, data, length = page
        if offset == 0 and not data.startswith(_BEGIN):
            site = _site(path, data)
        else:
            _collect(offset, data, length, site, out)

    pages = _pages(chunks(path, format), options.max_record_bytes)
    return gathered(pages, collect, Collector(path, options))


def _pages(parts: Iterator[bytes], limit: int) -> Iterator[tuple[int, bytes, int]]:
    """The head of the dump, at offset 0, and the bytes of every page: from its tag to the end of the tag that closes it.

    A page that another one follows unclosed ends there; what stands between pages is handed over where a page ends in it.
    """
    cutter = _Cutter(limit)
    try:
        for part in parts:
            yield from cutter.add(part)
    except Damaged as damage:
        damage.offset, damage.found = cutter.start, cutter.content()[:FOUND_BYTES]
        raise
    yield from cutter.end()


class _Cutter:
    """Cuts a stream at the tags of pages; holds a page at most, and only the beginning of one that is too long."""

    def __init__(self, limit: int) -> None:
        self.start = 0  # of the piece that is being read
        self._limit, self._ahead, self._in_page = limit, bytearray(), False
        self._piece = BoundedBytes(_MAX_HEAD_BYTES)
        self._ends_page = False

    def add(self, part: bytes) -> Iterator[tuple[int, bytes, int]]:
        """The pieces that end in the next part of the stream."""
        self._ahead += part
        while found := _TAGS.search(self._ahead):
            closes = found.group() == _END
            self._take(found.end() if closes else found.start())
            self._ends_page = self._ends_page or (closes and not self._in_page)
            if closes and not self._in_page:
                continue
            yield from self._finished()
            self._in_page = not closes
            if not closes:
                self._take(len(_BEGIN))
        self._take(max(0, len(self._ahead) - len(_END) + 1))

    def end(self) -> Iterator[tuple[int, bytes, int]]:
        """The last piece."""
        self._take(len(self._ahead))
        yield from self._finished()

    def content(self) -> bytes:
        """What is held of the piece that is being read."""
        return self._piece.content()

    def _take(self, count: int) -> None:
        self._piece.add(bytes(self._ahead[:count]), count)
        del self._ahead[:count]

    def _finished(self) -> Iterator[tuple[int, bytes, int]]:
        """The piece, if it is a page, the head, or holds the end of a page; then a new one begins."""
        length = self._piece.length
        if length and (self._in_page or self.start == 0 or self._ends_page):
            yield self.start, self._piece.content(), length
        self.start, self._ends_page = self.start + length, False
        self._piece = BoundedBytes(self._limit)


def _site(path: Path, head: bytes) -> _Site:
    """The wiki of a dump; ValueError for XML that is none."""
    text = head.decode("utf-8", "replace")
    if "<mediawiki" not in text:
        raise ValueError(f"{path}: expected a dump of MediaWiki, but its XML begins with {text[:60]!r}")
    base = re.search(r"<base>([^<]+)</base>", text)
    names = dict(re.findall(r'<namespace key="(-?\d+)"[^>/]*>([^<]*)</namespace>', text))
    hidden = {"file", "image", "category", *(names.get(str(key), "").lower() for key in (_FILE, _CATEGORY))}
    root = base.group(1).rpartition("/")[0] + "/" if base else None
    return _Site(root, tuple(sorted(f"{name}:" for name in hidden - {""})))


def _collect(offset: int, data: bytes, length: int, site: _Site, out: Collector) -> None:
    """Add one page as a document or a bad record, if it is an article."""
    try:
        if length > out.options.max_record_bytes:
            raise BadRecord(too_long(out.options.max_record_bytes))
        if (record := _article(data, site)) is not None:
            out.add(_COLUMNS.row(record), len(record["text"]))
    except BadRecord as bad:
        out.reject(offset, str(bad), data)


def _article(data: bytes, site: _Site) -> dict[str, Any] | None:
    """The fields of an article; None for a page that is none."""
    page = _parsed(data)
    if page.findtext("ns", "0") != "0" or page.find("redirect") is not None:
        return None
    revision = page.find("revision")
    if revision is None:
        raise BadRecord("a page without a revision")
    if revision.findtext("model", "wikitext") != "wikitext":
        return None  # a page of scripts or data
    title = page.findtext("title", "")
    return {
        "text": plain_text(revision.findtext("text") or "", site.hidden),
        "id": page.findtext("id"),
        "url": site.base + urllib.parse.quote(title.replace(" ", "_"), safe="/:,()!'") if site.base and title else None,
        "date": revision.findtext("timestamp"),
        "title": title or None,
        "revision": revision.findtext("id"),
    }


def _parsed(data: bytes) -> ElementTree.Element:
    if not data.startswith(_BEGIN):
        raise BadRecord("a page that does not begin")
    if not data.endswith(_END):
        raise BadRecord("a page that does not end")
    decode(data)
    if b"<!" in data:  # the export knows neither declarations nor sections: nobody's entities are unfolded
        raise BadRecord("not XML of a dump: a declaration inside of a page")
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise BadRecord(f"not XML: {error}") from error


def plain_text(markup: str, hidden: tuple[str, ...] = ("file:", "image:", "category:")) -> str:
    """The prose of a page: no templates, tables, references, files or categories; of links their text.

    Raises BadRecord where the markup is nested so deeply that it cannot be parsed.
    """
    import mwparserfromhell  # only workers that read dumps need it

    try:
        code = mwparserfromhell.parse(markup, skip_style_tags=True)
        shown = [link for link in code.ifilter_wikilinks(recursive=False) if _is_hidden(link, hidden)]
        others = [tag for tag in code.ifilter_tags(recursive=False) if str(tag.tag).strip().lower() in _NO_PROSE]
        for node in [*shown, *others]:
            code.remove(node)
        text = str(code.strip_code(normalize=True, collapse=True))
    except (RecursionError, ValueError, mwparserfromhell.parser.ParserError) as error:
        raise BadRecord(f"wiki markup that cannot be parsed: {type(error).__name__}") from error
    for pattern in (_MAGIC_WORDS, _EMPTY_BRACKETS, _LONE_MARKS):
        text = pattern.sub("", text)
    text = _SPACES.sub("\n", text.replace("'''", "").replace("''", ""))
    return _BLANK_LINES.sub("\n\n", text).strip()


def _is_hidden(link: Any, hidden: tuple[str, ...]) -> bool:
    """Does a link show a file, or put the page into a category?"""
    title = str(link.title).strip().lower()
    return title.startswith(hidden)
