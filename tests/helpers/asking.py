"""Asks an ASGI application in this process: no client library mends what is sent, and nothing but the answer takes time."""

import asyncio
import html
import re
import time
from urllib.parse import quote, unquote_to_bytes

import httpx

from polylm.dashboard.search import Question, search

PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))  # what a server takes in an address as it is


def settled(ask, *pending):
    """The text of a page, asked for until none of these words are in it: until what it counts in the background is there.

    With a pause: who asks without one takes the interpreter from the thread that counts.
    """
    while any(word in (page := ask().text) for word in pending):
        time.sleep(0.05)
    return page


def first(here, run, **asked):
    """The first document that is asked for."""
    places = search(here, run, Question(**asked)).places
    assert places, f"the sample has none of {asked}"
    return here.place(run, here.address(run, *places[0]))


def text_of(page):
    """What a reader sees of a page, on one line."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<.*?>", "", page, flags=re.S)))


class Asker:
    """A client of one application; an error that the application answers and raises again is only answered here."""

    def __init__(self, app, host="127.0.0.1:8000"):
        self._app, self._host, self._loop = app, host, asyncio.new_event_loop()

    def get(self, address, **more):
        return self.request("GET", address, **more)

    def request(self, method, address, *, headers=None, content=b""):
        """The answer to one request, as httpx has it."""
        path, _, query = quote(address, safe=PRINTABLE, errors="surrogatepass").partition("?")
        given = {"host": self._host, **(headers or {})}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("utf-8")) for name, value in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }
        return self._loop.run_until_complete(self._answer(scope, content))

    def close(self):
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _answer(self, scope, content):
        said, asked = [], []

        async def receive():
            if asked:  # whether the client has gone: it has not
                await asyncio.Event().wait()
            asked.append(True)
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message):
            said.append(message)

        try:
            await self._app(scope, receive, send)
        except Exception:  # Starlette answers 500 and raises on, for the server's log: the tests look at the 500
            if not said or said[0]["status"] != 500:
                raise
        body = b"".join(message.get("body", b"") for message in said[1:])
        return httpx.Response(said[0]["status"], headers=said[0]["headers"], content=body)
