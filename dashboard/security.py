"""What stands before every page: the Host header, the method, the length of the address, and headers on every answer.

The dashboard has no passwords. It listens on this machine, and a web page that a browser has open elsewhere must not
reach it: a name that somebody's DNS points to 127.0.0.1 is refused by its Host header.
"""

import re
from collections.abc import Collection
from http import HTTPStatus

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
MAX_ADDRESS_BYTES = 8 << 10
CONTENT_POLICY = "default-src 'self'; object-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
HEADERS = (
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
)
_HOST = re.compile(rb"(\[[0-9a-f:]+\]|[a-z0-9.-]+)(:\d{1,5})?")


class Guard:
    """ASGI middleware around the whole application, error pages included."""

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = LOCAL_HOSTS | {name.lower() for name in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        only_headers = scope["method"] == "HEAD"
        send = _guarded(send, only_headers=only_headers)
        if refusal := self._refusal(scope):
            return await refusal(scope, receive, send)
        if only_headers:
            scope = {**scope, "method": "GET"}
        return await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        if scope["method"] not in ("GET", "HEAD"):
            return _refuse(HTTPStatus.METHOD_NOT_ALLOWED, "The dashboard only reads: GET and HEAD.")
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_ADDRESS_BYTES:
            return _refuse(HTTPStatus.REQUEST_URI_TOO_LONG, f"Addresses have at most {MAX_ADDRESS_BYTES:,} bytes.")
        if host_name(scope) not in self._hosts:
            return _refuse(HTTPStatus.BAD_REQUEST, "This host name is not one of the dashboard's.")
        return None


def host_name(scope: Scope) -> str:
    """The name in a request's Host header, without its port; "" where there is none, several, or something else."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    found = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
    return found[1].decode() if found else ""


def _refuse(status: HTTPStatus, message: str) -> PlainTextResponse:
    headers = {"allow": "GET, HEAD"} if status == HTTPStatus.METHOD_NOT_ALLOWED else None
    return PlainTextResponse(message, status, headers)


def _guarded(send: Send, *, only_headers: bool) -> Send:
    """Put our headers on an answer in place of any of the same names, take cookies off, and its body for HEAD."""
    ours = {name for name, _ in HEADERS} | {b"set-cookie"}

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in ours]
            message = {**message, "headers": [*kept, *HEADERS]}
        elif only_headers and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return guarded
