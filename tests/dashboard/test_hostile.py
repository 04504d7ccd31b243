"""Nobody gets in: hostile documents, addresses, parameters and headers against every page that the application has.

Pages are found by their own links, so a new page is attacked without a new line here. Each test counts what it tried; the
table of all of them stands at the end of the report.
"""

import asyncio
import os
import random
import socket
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, unquote

import pytest
from asking import Asker
from attacks import (
    EVIL,
    MARKUP,
    NUMBERS,
    RAW,
    SECRET,
    STORED,
    TEMPLATES,
    TEXTS_OF_LENGTH,
    UNSEEN,
    Answer,
    encodings,
    paths,
    sql,
    successes,
)
from browsing import chromium, served
from crawling import crawl, routes_of
from filelock import FileLock
from hostile_store import make_hostile_store
from samples import MODEL, ROOT
from wire import HARMLESS, LONG, METHODS, REFUSED, answers, request, spoken

from polylm.dashboard.app import STATIC, create_app
from polylm.dashboard.security import HEADERS
from polylm.deployments.settings import Settings

PREFECT = "http://127.0.0.1:4200"
MOST_BYTES = 8 << 20  # of an answer; a text of 5 million characters is the longest thing that is shown
MOST_SECONDS = 10.0
FAMILIES = ("markup", "templates", "unseen", "sql", "paths", "numbers", "long", "raw")
SEED = 5
EACH = 4  # attacks of a family on each parameter of a page; over all parameters every attack comes
MIXED = 150  # seeded attacks on any parameter of any page
HOSTS = (EVIL, f"{EVIL}:80", "127.0.0.1.evil.example", "localhost.", "127.0.0.1@evil.example", "evil.example#127.0.0.1", "127.0.0.2", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.0.0.1:80:80", "127.0.0.1:x", "127.0.0.1, evil.example", " ", "", "<pwned>", "{{1337*1009}}")  # fmt: skip
FORWARDED = ("x-forwarded-host", "x-forwarded-for", "x-original-url", "x-rewrite-url", "forwarded", "x-http-method-override", "referer", "origin", "user-agent", "accept-language", "cookie", "hx-current-url", "hx-target", "hx-prompt", "if-modified-since", "if-none-match", "range", "content-length", "accept", "authorization")  # fmt: skip


@pytest.fixture(scope="module")
def store(shared_folder):
    """The store of hostile documents, made once by whichever process of pytest comes first."""
    if not MODEL.exists():
        pytest.skip(f"{MODEL} is not there: `make install` fetches it")
    folder = shared_folder / "hostile"
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            folder.mkdir()
            make_hostile_store(folder)
            (folder / "done").touch()
    return folder / "store"


@pytest.fixture(scope="module")
def attacked(store):
    """A dashboard over that store, with its pages as a crawl of it has found them."""
    app = create_app(Settings(store=store), prefect_url=PREFECT)
    client = Asker(app)
    found = list(crawl(client, app))
    yield SimpleNamespace(app=app, client=client, folder=store.parent, store=store, found=found, pages=[page for page, _ in found])  # fmt: skip
    client.close()


@pytest.fixture
def tried(attacked, record_property):
    """A function that makes one attack and holds it against the answer; all that was reached fails the test at its end."""
    before, count, reached = _files(attacked.folder), Counter(), {}

    def attack(address, method="GET", **more):
        count["attacks"] += 1
        began = time.monotonic()
        answer = attacked.client.request(method, address, **more)
        found = successes(answer.status_code, answer.headers, answer.content, elsewhere=PREFECT)
        found += [f"{len(answer.content)} bytes"] if len(answer.content) > MOST_BYTES else []
        found += ["seconds"] if time.monotonic() - began > MOST_SECONDS else []
        for one in found:
            reached.setdefault(one, f"{method} {address[:300]} {str(more)[:100]}")
        return answer

    yield attack
    record_property("attacks", count["attacks"])
    assert reached == {}
    assert _files(attacked.folder) == before, "an attack has written a file"


def _files(folder):
    """All files of a folder, and those that attacks would write elsewhere."""
    return {str(path) for path in folder.rglob("*")} | {str(path) for path in (ROOT / "dashboard").rglob("pwned*")}


def test_every_route_is_reached(attacked):
    assert {page.route.path for page in attacked.pages} == {route.path for route in routes_of(attacked.app)}


def test_every_page_of_hostile_documents_shows_and_does_nothing(attacked, record_property):
    open_ = {}
    for page, answer in attacked.found:
        if found := successes(answer.status_code, answer.headers, answer.content, elsewhere=PREFECT):
            open_[f"{page.path}?{page.query}"] = found
        assert len(answer.content) < MOST_BYTES
    assert open_ == {}
    assert {answer.status_code for _, answer in attacked.found} <= {200, 400, 404}
    record_property("attacks", len(attacked.found) * len(STORED))


def test_hostile_text_is_shown_not_dropped(attacked):
    """Attacks are in the pages as text: a page that has lost them would pass everything else here."""
    shown = "".join(text for _, answer in attacked.found for text in Answer(answer.text).text)
    for attack in (*MARKUP[:12], *TEMPLATES):
        assert attack in shown or attack.replace("__", "  ") in shown, attack
    assert "U+202E" in shown


@pytest.mark.parametrize("family", FAMILIES)
def test_attacks_in_every_query_parameter(attacked, tried, family):
    places = {}
    for page in attacked.pages:
        for name in page.names:
            places.setdefault((page.route.path, name.split(".")[0]), []).append((page, name))
    attacks = _dealt(attacked, family, len(places))
    for where, payloads in zip(places.values(), attacks, strict=True):
        for (page, name), payload in zip(cycle(where), payloads, strict=False):
            tried(f"{page.path}?{quote(name, safe='')}={payload}")


def test_any_attack_in_any_parameter_of_any_page(attacked, tried):
    """Seeded; two parameters at once, one of them perhaps of another page."""
    chosen = random.Random(SEED)
    names = sorted({name for page in attacked.pages for name in page.names})
    families = [_payloads(attacked, name) for name in ("markup", "templates", "unseen", "sql", "paths", "numbers", "raw")]  # fmt: skip
    for _ in range(MIXED):
        page = chosen.choice(attacked.pages)
        own, any_ = chosen.choice(sorted(page.names) or names), chosen.choice(names)
        first, second = (chosen.choice(chosen.choice(families)) for _ in range(2))
        tried(f"{page.path}?{quote(own)}={first}&{quote(any_)}={second}")


@pytest.mark.parametrize("family", FAMILIES)
def test_attacks_in_every_path_parameter(attacked, tried, family):
    examples = {}
    for page in attacked.pages:
        examples.setdefault(page.route.path, page)
    places = [(page, name) for page in examples.values() for name in page.values]
    for (page, name), payloads in zip(places, _dealt(attacked, family, len(places)), strict=True):
        for payload in payloads:
            for told in _in_path(name, payload):
                values = {**page.values, name: told}
                tried(page.route.path.format(**{n: v if n == name else quote(unquote(v), safe="") for n, v in values.items()}))  # fmt: skip


def _dealt(attacked, family, places):
    """For each of some places EACH attacks of a family, or more where they would not all come."""
    attacks = _payloads(attacked, family)
    random.Random(SEED).shuffle(attacks)
    each = max(EACH, -(-len(attacks) // max(1, places)))
    endless = cycle(attacks)
    return [list(islice(endless, min(each, len(attacks)))) for _ in range(places)]


def _in_path(name, payload):
    """A payload as a segment, once and twice encoded; and within the parts of a document's address."""
    within = (f"hostile.0.{payload}", f"hostile.{payload}.0", f"{payload}.0.0") if name == "address" else ()
    return payload, quote(payload, safe=""), *within


def _payloads(attacked, family):
    """Attacks of a family as pieces of an address."""
    if family == "raw":
        return list(RAW)
    texts = {"markup": MARKUP, "templates": TEMPLATES, "unseen": UNSEEN, "numbers": NUMBERS, "long": TEXTS_OF_LENGTH, "sql": sql(attacked.folder), "paths": paths(attacked.folder, attacked.store, STATIC)}  # fmt: skip
    return [quote(text, safe="") for text in texts[family]]


def test_no_address_leads_to_a_file_outside(attacked, tried):
    ways = paths(attacked.folder, attacked.store, STATIC, Path.cwd())
    bases = {route.path.partition("{")[0] for route in routes_of(attacked.app)} | {"/static/", "/static/../", "/"}
    for base in sorted(bases):
        for way in ways:
            for told in encodings(way):
                answer = tried(base + told)
                assert answer.status_code in (200, 400, 404, 405), (base, told)


def test_files_of_the_store_itself_have_no_address(attacked, tried):
    for path in (path for path in sorted(attacked.store.rglob("*")) if path.is_file()):
        relative = os.path.relpath(path, STATIC)
        for told in (quote(relative), relative.replace("/", "%2f"), quote(str(path))):
            assert tried(f"/static/{told}").status_code == 404
        if path.stat().st_mode & 0o444 and path.suffix == ".parquet":
            break


def test_a_link_within_the_static_folder_would_not_be_followed_out(attacked, tried):
    assert not [path for path in STATIC.rglob("*") if path.is_symlink()]


def test_addresses_of_any_length_are_refused_at_once(attacked, tried):
    for page in {page.route.path: page for page in attacked.pages}.values():
        for name in sorted(page.names)[:3] or ["q"]:
            assert tried(f"{page.path}?{quote(name)}={'A' * 9_000}").status_code == 414
    assert tried("/" + "A" * 60_000).status_code == 414


@pytest.mark.parametrize("where", ["raw_path", "query_string"])
def test_ten_megabytes_are_refused_whatever_server_is_in_front(attacked, where):
    """The one that we use refuses them by itself: see the attacks on the wire."""
    said = []
    host = [(b"host", b"127.0.0.1")]
    scope = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "headers": host}

    async def send(message):
        said.append(message)

    asyncio.run(attacked.app(scope | {where: b"A" * LONG}, None, send))
    assert said[0]["status"] == 414
    assert len(said[1]["body"]) < 200


def test_thousands_of_parameters(attacked, tried):
    for page in {page.route.path: page for page in attacked.pages}.values():
        tried(f"{page.path}?{'&'.join(f'{name}={n}' for n in range(40) for name in sorted(page.names)[:9] or ['q'])}")
        tried(f"{page.path}?{'&' * 4_000}")
        tried(f"{page.path}?{'p.x[]=1&' * 900}")


@pytest.mark.parametrize("method", METHODS)
def test_no_page_takes_another_method(attacked, tried, method):
    for page in attacked.pages:
        assert tried(page.path, method, content=b"<pwned>").status_code == 405


@pytest.mark.parametrize("host", HOSTS)
def test_no_page_answers_to_another_name(attacked, tried, host):
    for page in attacked.pages[:12]:
        answer = tried(page.path, headers={"host": host})
        assert answer.status_code == 400
        assert page.values.get("run_id", "by-hand") not in answer.text


@pytest.mark.parametrize("header", FORWARDED)
def test_headers_of_others_change_nothing(attacked, tried, header):
    for page in random.Random(header).sample(attacked.pages, 2):
        for value in (
            EVIL,
            "<pwned>",
            '"><pwned>{{1337*1009}}',
            "' OR 1=1 --",
            "A" * 5_000,
            "bytes=0-99999999999,5-1,-",
        ):
            answer = tried(page.path, headers={header: value})
            assert EVIL not in "".join(answer.headers.values())
            if value == EVIL and page.path == "/":
                assert EVIL not in answer.text


@pytest.fixture(scope="module")
def address(attacked):
    """That dashboard on a port of its own."""
    with served(attacked.app) as address:
        yield address


@pytest.mark.parametrize(("wanted", "family"), [*(("refused", name) for name in REFUSED), *(("any", name) for name in HARMLESS)])  # fmt: skip
def test_attacks_on_the_wire(address, wanted, family, record_property):
    """What a client library would not send. Bytes that are no request are refused by the server itself, in words of its own."""
    attacks = (REFUSED if wanted == "refused" else HARMLESS)[family]
    for words in attacks:
        began = time.monotonic()
        said = spoken(address, words)
        assert time.monotonic() - began < MOST_SECONDS
        assert len(said) < MOST_BYTES
        assert SECRET.encode() not in said
        for status, headers, body in answers(said):
            by_itself = (status, body) == (403, b"") or (status == 400 and b"Invalid HTTP request" in body[:40])
            found = [] if by_itself else successes(status, headers, body, elsewhere=PREFECT)
            assert not found, (words[:200], status, found[:5])
            assert status != 101, "nothing is upgraded"
            assert status >= 400 or wanted == "any", (words[:200], status)
    assert [status for status, _, _ in answers(spoken(address, request("GET /")))] == [200], "it still serves"
    record_property("attacks", len(attacks))


def test_many_that_say_nothing_keep_nobody_waiting(address, record_property):
    silent = [socket.create_connection(address) for _ in range(200)]
    try:
        for one in silent[::2]:
            one.sendall(b"GET / HTTP/1.1\r\nHost: 127")
        began = time.monotonic()
        (answer,) = answers(spoken(address, request("GET /"), MOST_SECONDS))
        assert answer[0] == 200
        assert time.monotonic() - began < MOST_SECONDS
    finally:
        for one in silent:
            one.close()
    record_property("attacks", len(silent))


def test_every_header_of_ours_is_on_every_kind_of_answer(attacked):
    kinds = {attacked.client.get(path).status_code: path for path in ("/", "/nothing", "/static/style.css", "/static/no", "/" + "A" * 9_000)}  # fmt: skip
    assert set(kinds) == {200, 404, 414}
    for path in kinds.values():
        answer = attacked.client.get(path)
        for name, value in HEADERS:
            assert answer.headers.get_list(name.decode()) == [value.decode()]


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def test_in_a_browser_hostile_pages_ask_nobody_and_run_nothing(browser, address, attacked, record_property):
    page, wrong = browser.new_page(), []
    site = "http://{}:{}".format(*address)
    page.on("request", lambda one: one.url.startswith(site) or wrong.append(f"asked {one.url}"))
    page.on("console", lambda one: wrong.append(f"said {one.text}"))  # what the policy blocks is said here
    page.on("pageerror", lambda one: wrong.append(f"failed: {one}"))
    page.on("dialog", lambda one: (wrong.append(f"dialog {one.message}"), one.dismiss()))
    shown = _shown_pages(attacked)
    for path in shown:
        _go(page, site + path)
        made = page.evaluate("document.querySelectorAll('pwned, [pwned], img, iframe, object').length")
        wrong += [f"{path}: the payload made an element"] if made else []
        for width in (800, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            wide = page.evaluate("document.documentElement.scrollWidth")
            wrong += [f"{path}: {wide} pixels wide of {width}"] if wide > width else []
    page.close()
    assert wrong == []
    record_property("attacks", len(shown))


def _go(page, address, tries=10):
    """Open a page; one that is still being counted reloads itself, which can abort the step to the next one."""
    from playwright.sync_api import Error as PlaywrightError

    for left in range(tries - 1, -1, -1):
        try:
            page.goto(address)
            return
        except PlaywrightError:
            if not left:
                raise
            page.wait_for_timeout(1_000)


def test_without_scripts_every_page_shows_its_content(browser, address, attacked):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    whole = {page.route.path: page.path for page, answer in attacked.found if answer.status_code == 200 and "<html" in answer.text}  # fmt: skip
    for path in whole.values():
        _go(page, "http://{}:{}".format(*address) + path)
        assert page.locator("main").inner_text().strip(), path
    context.close()


def test_the_keyboard_reaches_links_and_thresholds(browser, address, attacked):
    page = browser.new_page()
    (run,) = {page.values["run_id"] for page in attacked.pages if page.values.get("stage") == "filter_text"}
    page.goto("http://{}:{}/run/{}/stage/filter_text".format(*address, run))
    page.wait_for_selector("input[data-low]", state="attached", timeout=20_000)
    reached = set()
    for _ in range(200):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName + (document.activeElement.dataset.low ? ' threshold' : '')"))  # fmt: skip
        if {"A", "INPUT threshold"} <= reached:
            break
    page.close()
    assert {"A", "INPUT threshold"} <= reached


def _shown_pages(attacked):
    """One whole page of every route, run and stage."""
    whole = [page for page, answer in attacked.found if answer.status_code == 200 and "<html" in answer.text]
    return list({page.kind: page.path for page in whole}.values())
