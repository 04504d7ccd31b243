"""WARC and WET: pages as a crawler stored them, and their text as Common Crawl extracted it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastwarc.warc import WarcRecord
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

from polylm.tasks.documents.readers.batches import Batch, Collector, Options, Range
from polylm.tasks.documents.readers.frames import Frame, frames
from polylm.tasks.documents.schema import BadRecord, FieldMap, decode, too_long

EXTRACTORS = ("resiliparse", "trafilatura")
_COLUMNS = FieldMap.of(None)
_HTML = ("text/html", "application/xhtml+xml")
_NO_TEXT = ("warcinfo", "request", "metadata", "revisit", "resource", "continuation")
_LANGUAGE = "WARC-Identified-Content-Language"


def read_warc(path: Path, format: str, range_: Range, options: Options) -> Iterator[Batch]:
    """Read the responses with HTML, main content only, and the conversions (WET); other kinds of records are no documents."""
    out = Collector(path, options)
    for frame in frames(path, format, options.max_record_bytes, range_.start, range_.stop):
        _collect(frame, out)
        if out.is_full:
            yield out.flush()
    if not out.is_empty:
        yield out.flush()


def _collect(frame: Frame, out: Collector) -> None:
    """Add a record as a document or a bad record, if it is of a kind that holds text."""
    kind = frame.headers.get("warc-type", "")
    if kind in _NO_TEXT:
        return
    try:
        if frame.problem is not None:
            raise BadRecord(frame.problem)
        if kind not in ("response", "conversion"):
            raise BadRecord(f"unknown WARC-Type {kind[:40]!r}")
        text = decode(frame.block) if kind == "conversion" else _page(frame, out.options)
        out.add(_COLUMNS.row(_record(text, frame.headers)), len(text))
    except BadRecord as bad:
        out.reject(frame.offset, str(bad), frame.head)


def _record(text: str, headers: dict[str, str]) -> dict[str, Any]:
    """The fields of a document."""
    return {
        "text": text,
        "id": headers.get("warc-record-id", "").strip("<>") or None,
        "url": headers.get("warc-target-uri", "").strip("<>") or None,
        "date": headers.get("warc-date"),
        _LANGUAGE: headers.get(_LANGUAGE.lower()),
    }


def _page(frame: Frame, options: Options) -> str:
    """The main content of the HTML page in a response."""
    limit = options.max_record_bytes
    try:
        http = WarcRecord.from_bytes(frame.head + frame.block)
        if not http.is_http:
            raise BadRecord(f"not html: {frame.headers.get('content-type', 'no content type')}")
        http.parse_http(auto_decode="all")
        status, media = http.http_headers.status_code, http.http_content_type
        if status is None:
            raise BadRecord("broken HTTP header")
        if not 200 <= status < 300:
            raise BadRecord(f"HTTP status {status}")
        media = frame.headers.get("warc-identified-payload-type") or media or "no content type"
        if media not in _HTML:
            raise BadRecord(f"not html: {media}")
        body = http.reader.read(limit + 1)
    except OSError as error:  # from memory: never a disk's fault
        raise BadRecord(f"broken HTTP message: {error}") from error
    if len(body) > limit:
        raise BadRecord(too_long(limit))
    page = _decode_page(body, http.http_charset)
    if options.extract == "trafilatura":
        return _carefully(page)
    return str(extract_plain_text(page, main_content=True, alt_texts=False))


def _carefully(page: str) -> str:
    """Trafilatura's text: less boilerplate and more of it lost, at 20 to 50 times the price; its settings are FineWeb's."""
    import trafilatura  # costs a second, and only the careful choice needs it

    try:
        found = trafilatura.extract(page, favor_precision=True, include_comments=False, deduplicate=False)
    except (ValueError, RecursionError, AssertionError) as error:  # of lxml, for pages that it cannot hold
        raise BadRecord(f"html that cannot be parsed: {type(error).__name__}") from error
    return found or ""


def _decode_page(body: bytes, charset: str | None) -> str:
    """Decode a page: by the charset that the server declares if it fits, else by its own meta tag or its bytes."""
    declared = map_encoding_to_html5(charset, fallback_utf8=False) if charset else None
    if declared is not None:
        try:
            return body.decode(declared)
        except (UnicodeDecodeError, LookupError):
            pass  # a wrong declaration: look at the page itself
    try:
        return body.decode(detect_encoding(body, from_html_meta=True) or "utf-8", "replace")
    except LookupError:  # an encoding of browsers that Python does not have
        return body.decode("utf-8", "replace")
