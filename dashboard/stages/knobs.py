"""The numbers among a gate's params that a person can move."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from polylm.dashboard.errors import BadRequest
from polylm.dashboard.recipe_fields import changed
from polylm.tasks.corpus.rule_sets import OTHERS
from polylm.tasks.stage import Params

PREFIX = "p."  # of a knob's name in an address
OFF = "off"


@dataclass(frozen=True)
class Knob:
    """One number of the params; None is a threshold that is off."""

    path: tuple[str, ...]
    value: float | None
    is_whole: bool  # an integer
    description: str = ""
    source: str = ""
    owner: str = ""  # the fit whose param it is; "" the gate's own

    @property
    def name(self) -> str:
        return PREFIX + ".".join([self.owner, *self.path] if self.owner else self.path)


def knobs_of(params: Params, labels: Sequence[str], label: str, owner: str = "") -> list[Knob]:
    """Every number of the params; of tables by label only the entry that counts for one label (none for "").

    Where that is the entry of all others, the number is the label's own all the same: moving it gives the label an entry.
    """
    values = params.model_dump()
    found = []
    for name, about in type(params).model_fields.items():
        extra = about.json_schema_extra if isinstance(about.json_schema_extra, dict) else {}
        for path, value in _numbers(values[name], (name,), frozenset(labels), label):
            told = about.description or "", str(extra.get("source", ""))
            found.append(Knob(path, value, isinstance(value, int), *told, owner))
    return found


def read_moves(knobs: Sequence[Knob], query: Mapping[str, str]) -> dict[Knob, float | None]:
    """The knobs that an address moves, with their new values; BadRequest names what is no knob or no number."""
    known = {knob.name: knob for knob in knobs}
    moves = {}
    for name, told in query.items():
        if not name.startswith(PREFIX):
            continue
        if name not in known:
            raise BadRequest(f"{name[:100]} is no threshold of this gate here.")
        value = _value(known[name], told)
        if value != known[name].value:
            moves[known[name]] = value
    return moves


def moved(params: Params, moves: Mapping[Knob, float | None]) -> Params:
    """The params with some knobs moved; BadRequest says which bound of a param a value breaks."""
    values = changed(params.model_dump(mode="json"), changes_of(moves))
    try:
        return type(params).model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadRequest(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def changes_of(moves: Mapping[Knob, float | None]) -> dict[str, float | None]:
    """Moves by the dotted path of the param, integers as such: what `recipe_fields` takes."""
    return {".".join(knob.path): _as_written(value) for knob, value in moves.items()}


def _as_written(value: float | None) -> float | None:
    return int(value) if value is not None and float(value).is_integer() else value


def _numbers(
    value: Any, path: tuple[str, ...], labels: frozenset[str], label: str
) -> Iterator[tuple[tuple[str, ...], float | None]]:
    """Paths and values of numbers; --set reaches into mappings but not into lists. None counts beside numbers."""
    if isinstance(value, Mapping):
        numeric = any(_is_number(other) for other in value.values())
        for name, inner in _entries(value, labels, label).items():
            if inner is None and numeric:
                yield (*path, str(name)), None
            else:
                yield from _numbers(inner, (*path, str(name)), labels, label)
    elif _is_number(value):
        yield path, value


def _entries(table: Mapping[str, Any], labels: frozenset[str], label: str) -> Mapping[str, Any]:
    """All entries of a mapping, but of a table by label that of one label: its own, filled up with that of all others."""
    if OTHERS not in table and not (table.keys() & labels):
        return table
    if not label or not (label in table or OTHERS in table):
        return {}
    others, own = table.get(OTHERS), table.get(label)
    if isinstance(others, Mapping):
        return {label: {**others, **(own or {})}}
    return {label: own if label in table else others}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(knob: Knob, told: str) -> float | None:
    if told.strip() in ("", OFF):
        return None  # where a param cannot be off, `moved` says so
    try:
        value = float(told)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (knob.is_whole and not value.is_integer()):
        expected = "a whole number" if knob.is_whole else "a number"
        raise BadRequest(f"{knob.name}: found {told[:40]!r}, expected {expected}.")
    return value
