"""WARC and WET: pages as a crawler stored them, and their text as Common Crawl extracted it."""

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

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
_HEADER = (
    b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n"
)
MOST_NESTED = 3_000  # half a second of the parser's
# Not those that may stay open (p, li, td, ...), nor those that the parser takes well (b, i, font, span, a).
_NESTING = re.compile(
    r"<(/?)(?:article|aside|blockquote|center|details|div|dl|fieldset|figure|footer|form|header|main|nav|ol|section|table|ul)\b",
    re.IGNORECASE,
)
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
    kind = frame.headers.get("warc-type", "").lower()
    if kind in _NO_TEXT:
        return
    try:
        if frame.problem is not None:
            raise BadRecord(frame.problem)
        if kind not in ("response", "conversion"):
            raise BadRecord(f"unknown WARC-Type {frame.headers.get('warc-type', '')[:40]!r}")
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
        message = frame.headers.get("content-type", "no content type")
        if not message.lower().startswith("application/http"):
            raise BadRecord(f"not html: {message}")
        http = _http(frame, "all")
        status, media = http.http_headers.status_code, http.http_content_type
        if status is None:
            raise BadRecord("broken HTTP header")
        if not 200 <= status < 300:
            raise BadRecord(f"HTTP status {status}")
        media = frame.headers.get("warc-identified-payload-type") or media or "no content type"
        if media.lower() not in _HTML:
            raise BadRecord(f"not html: {media}")
        body = http.reader.read(limit + 1)
        if _is_cut(frame, http, limit):
            raise BadRecord("broken HTTP message: its gzip data ends early")
    except OSError as error:  # from memory: never a disk's fault
        raise BadRecord(f"broken HTTP message: {error}") from error
    if len(body) > limit:
        raise BadRecord(too_long(limit))
    page = _decode_page(body, http.http_charset)
    if _depth(page) > MOST_NESTED:
        raise BadRecord(f"html whose tags are nested more than {MOST_NESTED:,} deep")
    if options.extract == "trafilatura":
        return _carefully(page)
    return str(extract_plain_text(page, main_content=True, alt_texts=False))


def _http(frame: Frame, decode: Literal["all", "transfer"]) -> WarcRecord:
    """The response in a record, under a header as FastWARC wants it: names and ends of lines of real files differ."""
    block = frame.block
    end = block.find(b"\n\n")
    if end >= 0 and b"\r\n\r\n" not in block[:end]:
        block = block[:end].replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n\r\n" + block[end + 2 :]
    record = WarcRecord.from_bytes(_HEADER % len(block) + block)
    record.parse_http(auto_decode=decode)
    return record


def _is_cut(frame: Frame, http: WarcRecord, limit: int) -> bool:
    """Whether a gzip body lacks its end, which FastWARC does not say. Common Crawl's are stored decoded."""
    if (http.http_headers.get("Content-Encoding") or "").strip().lower() not in ("gzip", "x-gzip"):
        return False
    inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    inflate.decompress(_http(frame, "transfer").reader.read(), limit + 1)
    return not inflate.eof and not inflate.unconsumed_tail


def _depth(page: str) -> int:
    """How deep the tags are nested that must be closed: the parser takes the square of it, a minute at 40,000."""
    deepest = depth = 0
    for tag in _NESTING.finditer(page) if page.count("<") > MOST_NESTED else ():
        depth = max(0, depth - 1) if tag[1] else depth + 1
        deepest = max(deepest, depth)
    return deepest


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
