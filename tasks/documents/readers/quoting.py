"""Which lines of a table make one record: those between the quote that opens a field and the one that closes it."""

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from polylm.tasks.documents.readers.batches import Damaged
from polylm.tasks.documents.readers.streams import Line, is_blank

_INSIDE = re.compile(rb'(?:[^"]+|"")*+')  # of a quoted field, up to a quote that is not doubled


def grouped(
    found: Iterator[Line], limit: int, delimiter: bytes, is_one: Callable[[Sequence[Line]], bool]
) -> Iterator[Sequence[Line]]:
    """The lines of each record; blank ones between records are none.

    A quoted field begins with its quote and ends with one before a delimiter or the end of a line; quotes within are doubled
    (RFC 4180). A line with a quote that is not closed so, or not within `limit` bytes, or where `is_one` does not take the
    lines for one record, is one alone. Memory: `limit`.
    """
    lines = _Lines(found)
    while (first := lines.take()) is not None:
        if not is_blank(first[1], first[2]):
            yield _beginning_with(first, lines, limit, delimiter, is_one)
    if lines.damage:
        raise lines.damage


def _beginning_with(
    first: Line, lines: "_Lines", limit: int, delimiter: bytes, is_one: Callable[[Sequence[Line]], bool]
) -> Sequence[Line]:
    group, size = [first], first[2]
    inside = ends_inside(first[1], delimiter) if size <= limit else None
    while inside and (line := lines.take()) is not None:
        group.append(line)
        size += line[2] + 1
        inside = ends_inside(line[1], delimiter, inside=True) if size <= limit else None
    if inside is False and (len(group) == 1 or is_one(group)):
        return group
    lines.put_back(group[1:])  # no more than once: of them only the last can hold a quote that opens a field
    return group[:1]


def ends_inside(line: bytes, delimiter: bytes, *, inside: bool = False) -> bool | None:
    """Does a line end inside of a quoted field? None where the one that it begins inside of does not end as it should."""
    at = 0
    while inside or line.find(b'"', at) >= 0:
        if inside or line.startswith(b'"', at):
            found = _INSIDE.match(line, at + (not inside))
            at = found.end() if found else at
            if at == len(line):
                return True
            if inside and line[at + 1 : at + 2] != delimiter and line[at + 1 :] not in (b"", b"\r"):
                return None
            inside = False
        at = line.find(delimiter, at) + 1
        if not at:
            break
    return False


class _Lines:
    """Lines of which some were only looked at; what damages the file comes after all that were read before."""

    def __init__(self, found: Iterator[Line]) -> None:
        self.damage: Damaged | None = None
        self._found = found
        self._back: deque[Line] = deque()

    def take(self) -> Line | None:
        """The next line; None at the end and at the damage."""
        if self._back:
            return self._back.popleft()
        try:
            return None if self.damage else next(self._found, None)
        except Damaged as damage:
            self.damage = damage
            return None

    def put_back(self, lines: Sequence[Line]) -> None:
        """Undo the last calls of `take`."""
        self._back.extendleft(reversed(lines))
