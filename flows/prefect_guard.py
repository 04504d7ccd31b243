"""What stands before a Prefect server that we start: it has no passwords, and whoever may create a flow run may run a command.

Prefect answers to any Host and lets every web page ask (its CORS origins are `*`), so a page that a browser has open elsewhere
could. Here both headers must name this machine; what is no browser sends no Origin.
"""

import re

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from polylm.dashboard.security import LOCAL_HOSTS, host_name


class LocalOnly:
    """ASGI middleware around Prefect's application on a port: only this machine by name, and only its own pages."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        hosts = "|".join(map(re.escape, sorted(LOCAL_HOSTS)))
        self._own = re.compile(rf"http://({hosts}):{port}".encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_own(scope):
            return await self._app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        refusal = PlainTextResponse("This server answers to this machine and its own pages only.", 403)
        return await refusal(scope, receive, send)

    def _is_own(self, scope: Scope) -> bool:
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        return host_name(scope) in LOCAL_HOSTS and all(self._own.fullmatch(origin) for origin in origins)
