"""A run's pages as one HTML file that needs nothing else: styles inside, links only within it, no scripts."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from starlette.types import ASGIApp, Message, Scope

from polylm.dashboard.app import STATIC, create_app
from polylm.dashboard.gates import stage_of
from polylm.dashboard.queries import Queries
from polylm.dashboard.view import RUN_PAGES, url, words
from polylm.deployments.settings import Settings
from polylm.tasks.maintenance.run_records import Run

# That have pages of their own, besides the gates.
STAGES = ("identify_language", "fit_thresholds", "label_clusters", "train_tokenizer", "plan_curriculum")
PATIENCE_SECONDS = 120.0  # for what a page makes in the background
LANGUAGES = 18  # of a gate whose thresholds differ by language: those with most documents
_UP = '<p class="up"><a href="#contents">↑ Contents</a></p>'
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
# What only works where a server answers: scripts, controls, navigation; and what has the class `live-only`.
_DROPPED = {
    "script",
    "style",
    "link",
    "meta",
    "base",
    "nav",
    "input",
    "select",
    "textarea",
    "button",
    "iframe",
    "object",
    "embed",
    "img",
    "template",
}
_UNWRAPPED = {"form", "label"}
_KEPT = {
    "class",
    "dir",
    "lang",
    "title",
    "role",
    "open",
    "colspan",
    "rowspan",
    "scope",
    "datetime",
    "aria-label",
    "x",
    "y",
    "x1",
    "x2",
    "y1",
    "y2",
    "cx",
    "cy",
    "r",
    "rx",
    "ry",
    "d",
    "points",
    "width",
    "height",
    "viewbox",
    "transform",
    "text-anchor",
    "fill-opacity",
}
_LOCAL = re.compile(r"https?://(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?[^\s<&\"']*")


@dataclass(frozen=True)
class Page:
    """A page of the report: title, and its address on the dashboard."""

    title: str
    address: str
    anchor: str


def write_report(settings: Settings, run_id: str, file: Path) -> Path:
    """Write the pages of a run (its own, gates, clusters, tokenizer, curriculum, training, instructions, evaluation).

    Waits for what pages count in the background, 120 s a page at most. Raises ValueError for an unknown run or folder.
    """
    file = _writable(file)
    app = create_app(settings)
    here: Queries = app.state.queries
    run = here.run(run_id)
    text = _report(run, _pages(here, run), app)
    text = text.replace(escape(str(here.store.root)), "STORE")
    aside = file.with_name(f"{file.name}.tmp")
    try:
        aside.write_text(_LOCAL.sub("(a server on the machine of the run)", text), encoding="utf-8", errors="replace")
        return aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


def _writable(file: Path) -> Path:
    """The file to write, past links, asked before the work; ValueError where a report cannot be put there."""
    target = file.resolve()
    if target.exists() and not target.is_file():
        raise ValueError(f"{file}: it is there and no file; give another with --out")
    if not target.parent.is_dir():
        raise ValueError(f"{file}: there is no folder {target.parent} to write a report in; make it first")
    return target


def _pages(here: Queries, run: Run) -> list[Page]:
    """The pages that a run has, in the order of reading."""
    wanted = [("Run", url("run", run.id))]
    for entry in run.stages:
        stage = stage_of(entry.stage)
        if here.has(entry) and ((stage and stage.kind == "gate") or entry.stage in STAGES):
            wanted.append((words(entry.stage), url("run", run.id, "stage", entry.stage)))
    for title, path, stages in RUN_PAGES:
        if any(run.entries(stage) for stage in stages):
            wanted.append((title, url("run", run.id) + path))
    titles = {address: title for title, address in wanted}
    return [Page(title, address, f"page-{number}") for number, (address, title) in enumerate(titles.items(), 1)]


def _report(run: Run, wanted: Sequence[Page], app: ASGIApp) -> str:
    pages, answers = asyncio.run(_ask_all(app, wanted))
    anchors = {page.address.partition("?")[0]: page.anchor for page in reversed(pages)}
    anchors |= {page.address: page.anchor for page in pages}
    styles: dict[str, None] = {}
    sections = []
    for page, answer in zip(pages, answers, strict=True):
        styles |= dict.fromkeys(re.findall(r'<link rel="stylesheet" href="/static/([a-z_]+\.css)">', answer))
        body = _Body(page, anchors)
        body.feed(_main(answer))
        body.close()
        sections.append(f'<section id="{page.anchor}">\n{_UP}\n{body.text}\n</section>')
    css = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in styles)
    contents = " · ".join(f'<a href="#{page.anchor}">{escape(page.title)}</a>' for page in pages)
    title = escape(f"{run.name} {run.started:%Y-%m-%d %H:%M} · polylm")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>\n{css}\n</style>\n</head>\n<body>\n<main>\n<nav id='contents' aria-label='Contents'><p>{contents}</p></nav>\n"
        + "\n<hr>\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


async def _ask_all(app: ASGIApp, wanted: Sequence[Page]) -> tuple[list[Page], list[str]]:
    """Pages with their answers; of a gate that opens on one language a page for every language too."""
    pages, answers = [], []
    for page in wanted:
        answer = await _ask(app, page.address)
        others = _in_languages(page, answer)
        for one in others or [page]:
            pages.append(one)
            answers.append(await _ask(app, one.address) if others else answer)
    return pages, answers


def _in_languages(page: Page, answer: str) -> list[Page]:
    """A gate's pages in all languages together and in each, if its thresholds differ by language; else none."""
    choice = re.search(r'<nav class="choice".*?</nav>', answer, re.S)
    links = re.findall(r'href="([^"]*)"[^>]*?( aria-current="page")?>', choice[0]) if choice else []
    if not links or links[0][1]:  # it opens on all
        return []
    languages = [parse_qs(urlsplit(unescape(link)).query)["language"][0] for link, _ in links[: LANGUAGES + 1]]
    more = f" and the largest {LANGUAGES} of {len(links) - 1} languages" if len(links) - 1 > LANGUAGES else ""
    titles = [f"{page.title} ({languages[0]}{more}):", *languages[1:]]
    anchors = [f"{page.anchor}-{number}" for number in range(len(languages))]
    return [
        Page(title, _known_as(page.address, language), anchor)
        for title, language, anchor in zip(titles, languages, anchors, strict=True)
    ]


async def _ask(app: ASGIApp, address: str) -> str:
    """A page once nothing on it is being made any more."""
    waited = 0.0
    while True:
        text = await _get(app, address)
        if not ('class="pending"' in text or 'http-equiv="refresh"' in text) or waited >= PATIENCE_SECONDS:
            return text
        await asyncio.sleep(0.25)
        waited += 0.25


async def _get(app: ASGIApp, address: str) -> str:
    """What the application answers to GET, without a server."""
    parts = urlsplit(address)
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(parts.path),
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
    }
    pieces: list[bytes] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        pieces.append(message.get("body", b"") if message["type"] == "http.response.body" else b"")

    await app(scope, receive, send)
    return b"".join(pieces).decode("utf-8", "replace")


def _main(text: str) -> str:
    """The content of a page, without its frame. Text of others is escaped, so the first and last tags are ours."""
    _, _, after = text.partition("<main")
    return after.partition(">")[2].rpartition("</main>")[0]


class _Body(HTMLParser):
    """Copies a page's content: known attributes only, ids made the page's own, links to what is in the report or none."""

    def __init__(self, page: Page, anchors: Mapping[str, str]) -> None:
        super().__init__(convert_charrefs=True)
        self._page = page
        self._anchors = anchors
        self._open: list[tuple[str, str]] = []  # tag, and what ends it: "" where its start was not copied
        self._dropped = 0  # how deep within something that is left out
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if self._dropped or self._is_dropped(tag, given):
            if tag not in _VOID:
                self._dropped += 1
                self._open.append((tag, "dropped"))
            return
        told = self._told(tag, given)
        if told:
            self._pieces.append(told)
        if tag not in _VOID:
            self._open.append((tag, f"</{tag}>" if told else ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in (name for name, _ in self._open):
            return
        while self._open:
            name, end = self._open.pop()
            if end == "dropped":
                self._dropped -= 1
            else:
                self._pieces.append(end)
            if name == tag:
                return

    def handle_data(self, data: str) -> None:
        if not self._dropped:
            self._pieces.append(escape(data))

    def _is_dropped(self, tag: str, given: Mapping[str, str]) -> bool:
        kinds = given.get("class", "").split()
        if tag == "nav" and "choice" in kinds:  # between the languages of a gate
            return "?" not in self._page.address
        return tag in _DROPPED or (tag == "form" and "line" in kinds) or bool({"pending", "live-only"} & set(kinds))

    def _told(self, tag: str, given: Mapping[str, str]) -> str:
        """The start of a tag as it is copied; "" where only its content is."""
        kept = {name: value for name, value in given.items() if name in _KEPT}
        if "id" in given:
            kept["id"] = f"{self._page.anchor}-{given['id']}"
        if tag == "a":
            target = self._target(given.get("href", ""))
            if not target:
                return ""
            kept["href"] = target
        if tag in _UNWRAPPED:
            return ""
        told = "".join(f' {name}="{escape(value)}"' for name, value in kept.items())
        return f"<{tag}{told}>"

    def _target(self, address: str) -> str:
        parts = urlsplit(address)
        asked = parse_qs(parts.query)
        elsewhere = set(asked) - {"artifact", "language", "source"}  # the same page with other content
        if parts.scheme or parts.netloc or elsewhere:
            return ""
        known = _known_as(parts.path, *asked.get("language", [""])) if parts.path else self._page.address
        anchor = self._anchors.get(known) or (self._anchors.get(parts.path, "") if "language" not in asked else "")
        if not anchor:
            return ""
        return f"#{anchor}-{parts.fragment}" if parts.fragment else f"#{anchor}"


def _known_as(path: str, language: str = "") -> str:
    return f"{path}?{urlencode({'language': language})}" if language else path
