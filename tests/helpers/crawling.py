"""Every page of the dashboard as its own links lead to it."""

import re
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import cycle
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from attacks import Answer
from starlette.routing import Mount

EACH = 3  # addresses of a route with one run and one stage


@dataclass
class Page:
    """One page: its address, the route that makes it, and the names of the parameters that it has been seen with."""

    path: str
    route: object
    values: dict
    query: str = ""
    names: set = field(default_factory=set)

    @property
    def kind(self):
        return self.route.path, self.values.get("run_id"), self.values.get("stage")


def routes_of(app):
    """All routes of the app but its files."""
    found = []
    for route in app.routes:
        inner = getattr(route, "original_router", None)
        found += inner.routes if inner is not None else [] if isinstance(route, Mount) else [route]
    return found


def crawl(client, app, *, begin="/"):
    """(page, answer) of all that links, forms and htmx lead to, a few of each route, run and stage.

    A page's names grow while the pages after it are looked at: a link to it has other parameters. Routes that no page of
    these runs leads to come last, with values of parameters of the same names.
    """
    routes, seen, waiting = routes_of(app), {}, deque([begin])
    counted = Counter()
    while waiting or (waiting := deque(_unreached(routes, seen))):
        told = urlsplit(waiting.popleft())
        names = {name for name, _ in parse_qsl(told.query, keep_blank_values=True)}
        if told.path in seen:
            seen[told.path].names |= names
            continue
        page = _page(routes, told, names)
        counted[page.kind] += 1
        if counted[page.kind] > EACH:
            continue
        seen[told.path] = page
        answer = client.get(told.path + (f"?{told.query}" if told.query else ""))
        parsed = Answer(answer.text)
        page.names |= parsed.names
        waiting.extend(link for link in parsed.links if re.match(r"/(?!static/|/)", link))
        yield page, answer


def _page(routes, told, names):
    for route in routes:
        if match := route.path_regex.fullmatch(told.path):
            declared = {one.alias for one in route.dependant.query_params}
            return Page(told.path, route, match.groupdict(), told.query, names | declared)
    raise AssertionError(f"a page links to {told.path}, which no route makes")


def _unreached(routes, seen):
    """Addresses of routes that are not seen yet, from values that were."""
    values = {}
    for page in seen.values():
        for name, value in page.values.items():
            values.setdefault(name, {})[unquote(value)] = None
    reached = {page.route.path for page in seen.values()}
    for route in routes:
        wanted = re.findall(r"{(\w+)", route.path)
        if route.path not in reached and all(name in values for name in wanted):
            for choice in zip(*(cycle(values[name]) for name in wanted), range(EACH), strict=False):
                yield route.path.format(**{n: quote(v, safe="") for n, v in zip(wanted, choice, strict=False)})
