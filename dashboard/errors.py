"""What goes wrong with a request, as a page that says what was asked for and what there is; never a traceback."""

from collections.abc import Callable
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from polylm.dashboard.view import page
from polylm.tasks.store import StoreError


class Missing(ValueError):
    """A run, stage, artifact or document that the store does not have: 404. The message is shown."""


class BadRequest(ValueError):
    """A parameter of an address that cannot be: 400. The message is shown."""


class TooSlow(ValueError):
    """A query was stopped after its time: 503. The message is shown."""


def handle_errors(app: FastAPI) -> None:
    """Show every error as a page."""
    app.add_exception_handler(Missing, _shown(404))
    app.add_exception_handler(BadRequest, _shown(400))
    app.add_exception_handler(TooSlow, _shown(503))
    app.add_exception_handler(StoreError, _shown(500))
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _ours)  # the server logs it, with its traceback


def _shown(status: int) -> Callable[[Request, Exception], Response]:
    def handle(request: Request, error: Exception) -> Response:
        root = str(request.app.state.queries.store.root)  # where the store is on this machine is nobody's business
        return _page(request, status, str(error).replace(root, "STORE"))

    return handle


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [f"{'.'.join(map(str, problem['loc'][1:]))}: {problem['msg']}" for problem in error.errors()]
    return _page(request, 400, "; ".join(problems))


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _page(request, error.status_code, "There is no such page." if error.status_code == 404 else error.detail)


def _ours(request: Request, error: Exception) -> Response:
    return _page(request, 500, "The dashboard failed at this page; its log says where.")


def _page(request: Request, status: int, message: str) -> Response:
    return page(request, "error.html", status=status, title=HTTPStatus(status).phrase, message=message)
