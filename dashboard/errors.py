"""What goes wrong with a request, as a page that says what was asked for and what there is; never a traceback."""

import logging
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from polylm.dashboard.commands import polylm
from polylm.dashboard.view import page
from polylm.tasks.store import StoreError

T = TypeVar("T")
S = TypeVar("S")
_LOG = logging.getLogger(__name__)
_VERIFY = "`polylm verify`"
_IN_OTHER_WORDS = "delete it, and the next run makes it again"  # what stages' own code says of a file that it reads


class Missing(ValueError):
    """A run, stage, artifact or document that the store does not have: 404. The message is shown."""


class BadRequest(ValueError):
    """A parameter of an address that cannot be: 400. The message is shown."""


class TooSlow(ValueError):
    """A query was stopped after its time: 503. The message is shown."""


class Damaged(StoreError):
    """A file of an artifact that is gone or not what was written; the message names it, its stage and the way out: 500."""

    def __init__(self, path: Path, what: str) -> None:
        places = [index for index, name in enumerate(path.parts) if name in ("parts", "folders")]
        stage = "".join(path.parts[places[-1] + 1 : places[-1] + 2]) if places else ""
        super().__init__(f"{stage}: {path} is {what}: {_VERIFY} says which command makes it again.")


class Notes:
    """What of a page cannot be read, each once: the page shows the rest, and says this."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self.problems: list[str] = []

    def read(self, ask: Callable[[], T], instead: S) -> T | S:
        """What `ask` reads, or `instead` of it where the store is damaged."""
        try:
            return ask()
        except StoreError as error:
            self.add(error)
            return instead

    def add(self, error: StoreError) -> None:
        said = shown(error, self._store)
        if said not in self.problems:
            self.problems.append(said)


def shown(error: Exception, store: Path) -> str:
    """An error's message as a page says it: files from the store's root, and commands that can be run. It is logged once."""
    _log(str(error))
    # Where the store is on this machine is nobody's business, but who runs a command must say it.
    told = str(error).replace(f"{store}/", "").replace(str(store), "STORE")
    if _IN_OTHER_WORDS in told:
        told = f"{told}; {_VERIFY} names all that is damaged"
    return told.replace(_VERIFY, f"`{polylm(store, 'verify')}`")


def handle_errors(app: FastAPI) -> None:
    """Show every error as a page."""
    app.add_exception_handler(Missing, _shown(404))
    app.add_exception_handler(BadRequest, _shown(400))
    app.add_exception_handler(TooSlow, _shown(503))
    app.add_exception_handler(StoreError, _shown(500))
    app.add_exception_handler(OSError, _unreadable)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _ours)  # the server logs it, with its traceback


@lru_cache(1_000)  # a page that follows a run asks every few seconds
def _log(message: str) -> None:
    _LOG.warning("%s", message)


def _shown(status: int) -> Callable[[Request, Exception], Response]:
    def handle(request: Request, error: Exception) -> Response:
        root = request.app.state.queries.store.root
        if isinstance(error, StoreError):
            return _page(request, status, shown(error, root), "This cannot be shown")
        return _page(request, status, str(error).replace(str(root), "STORE"))

    return handle


def _unreadable(request: Request, error: Exception) -> Response:
    """A file of the store that the stages' own code did not find, or could not read."""
    assert isinstance(error, OSError)
    if not isinstance(error.filename, str) or not Path(error.filename).is_relative_to(
        request.app.state.queries.store.root
    ):
        raise error
    gone = isinstance(error, FileNotFoundError)
    return _shown(500)(request, Damaged(Path(error.filename), "gone" if gone else f"not readable ({error.strerror})"))


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [f"{'.'.join(map(str, problem['loc'][1:]))}: {problem['msg']}" for problem in error.errors()]
    return _page(request, 400, "; ".join(problems))


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _page(request, error.status_code, "There is no such page." if error.status_code == 404 else error.detail)


def _ours(request: Request, error: Exception) -> Response:
    return _page(request, 500, "The dashboard failed at this page; its log says where.")


def _page(request: Request, status: int, message: str, title: str = "") -> Response:
    return page(request, "error.html", status=status, title=title or HTTPStatus(status).phrase, message=message)
