"""The dashboard as an ASGI application: pages are found by looking, and a guard stands before all of them."""

import importlib
import pkgutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from polylm.dashboard import pages
from polylm.dashboard.errors import handle_errors
from polylm.dashboard.parameters import refuse_unknown
from polylm.dashboard.queries import Queries
from polylm.dashboard.security import Guard
from polylm.dashboard.view import compile_templates
from polylm.deployments.settings import Settings

STATIC = Path(__file__).parent / "static"


def create_app(settings: Settings, *, prefect_url: str = "", allowed_hosts: Collection[str] = ()) -> FastAPI:
    """The dashboard of one store; `prefect_url` is where its pages link to for approvals.

    It answers to 127.0.0.1, localhost and [::1], and to no other Host than `allowed_hosts` add.
    """
    app = _Dashboard(allowed_hosts)
    app.state.queries = Queries(settings)
    app.state.prefect_url = prefect_url
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    for router in _routers():
        app.include_router(router, dependencies=[Depends(refuse_unknown)])
    app.state.paths = frozenset(_paths())
    handle_errors(app)
    compile_templates()
    return app


class _Dashboard(FastAPI):
    def __init__(self, allowed_hosts: Collection[str]) -> None:
        super().__init__(title="polylm", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
        self._allowed_hosts = allowed_hosts

    def build_middleware_stack(self) -> ASGIApp:
        # Outside of everything: pages of unexpected errors are made outside of added middleware.
        return Guard(super().build_middleware_stack(), self._allowed_hosts)


def _routers() -> Iterator[APIRouter]:
    for module in pkgutil.iter_modules(pages.__path__, f"{pages.__name__}."):
        router: Any = getattr(importlib.import_module(module.name), "router", None)
        if router is not None:
            yield router


def _paths() -> Iterator[str]:
    """Which pages there are, so that no link leads to one that is not."""
    for router in _routers():
        for route in router.routes:
            yield str(getattr(route, "path", ""))
