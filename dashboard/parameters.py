"""Which parameters of an address a page knows: one that it does not is refused, as a link that is misspelt shows everything."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

from fastapi import Request

from polylm.dashboard.errors import BadRequest

SHOWN = 5  # unknown names in the message
Names = Callable[[Request], Collection[str]]


def takes(names: Names) -> Callable[[Any], Any]:
    """Say of a page which names it reads besides its declared ones; `p.` at the end of a name is of all that begin so."""

    def mark(endpoint: Any) -> Any:
        endpoint.takes = names
        return endpoint

    return mark


def refuse_unknown(request: Request) -> None:
    """Stands before every page; BadRequest names what it knows. A parameter without a value is one too."""
    route = request.scope["route"]
    known = [field.alias for field in route.dependant.query_params]
    known += getattr(route.endpoint, "takes", lambda _: ())(request)
    unknown = [name for name in dict.fromkeys(request.query_params) if not _is_known(name, known)]
    if unknown:
        raise BadRequest(f"{_listed(unknown)}: this page knows no such parameter; {_told(known)}")


def _is_known(name: str, known: Iterable[str]) -> bool:
    return any(name == one or (one.endswith(".") and name.startswith(one)) for one in known)


def _listed(unknown: list[str]) -> str:
    more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
    return ", ".join(repr(name[:60]) for name in unknown[:SHOWN]) + more


def _told(known: Iterable[str]) -> str:
    names = [f"{one}NAME" if one.endswith(".") else one for one in dict.fromkeys(known)]
    return f"it knows {', '.join(names)}." if names else "it knows none."
