"""One document, one record that could not be read, and how a source's fields become a document's columns."""

import codecs
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import orjson
import pyarrow as pa

from polylm.tasks.documents import fields as normal_fields

DOCUMENT = pa.schema(
    [
        pa.field("text", pa.string(), nullable=False),
        ("id", pa.string()),
        ("url", pa.string()),  # scheme and host in lower case
        ("date", pa.string()),  # ISO 8601
        ("licence", pa.string()),  # by its SPDX identifier where there is one
        ("kind", pa.string()),
        (
            "extra",
            pa.string(),
        ),  # a JSON object of all other fields that are not null, keys sorted; null if there are none
    ]
)

REFERENCE = "role:reference"  # the kind of every document of a source whose role it is, and of no other
BAD_RECORD = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),  # base name: the same file elsewhere gives the same table
        pa.field("offset", pa.int64(), nullable=False),  # where the record starts, in decompressed bytes or in rows
        pa.field("unit", pa.string(), nullable=False),  # of the offset: "byte" or "row"
        pa.field("reason", pa.string(), nullable=False),
        pa.field("found", pa.string(), nullable=False),  # its first FOUND_BYTES bytes; escaped where not printable
    ]
)

_MARKS = {  # the longer ones first: a mark of UTF-32 begins with one of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
FOUND_BYTES = 200
MAPPED = ("text", "id", "url", "date", "licence", "kind")

Row = tuple[str, str | None, str | None, str | None, str | None, str | None, str | None]


class BadRecord(Exception):
    """A record that cannot be a document; the message is the reason in its row of `BAD_RECORD`."""


@dataclass(frozen=True)
class FieldMap:
    """Which field of a source fills which column of `DOCUMENT`; a column that is not named has a field of its own name."""

    fields: Mapping[str, str]
    asked: tuple[str, ...] = ()  # the columns that the recipe maps itself

    @classmethod
    def of(cls, fields: Mapping[str, str] | None) -> "FieldMap":
        """Complete a partial mapping such as `{"text": "content"}`; a column that does not exist is a ValueError."""
        unknown = sorted(set(fields or ()) - set(MAPPED))
        if unknown:
            raise ValueError(f"fields: no column is called {', '.join(unknown)}; the columns are {', '.join(MAPPED)}")
        return cls({name: name for name in MAPPED} | dict(fields or {}), tuple(fields or ()))

    def check(self, file: object, found: Sequence[str]) -> None:
        """Raise ValueError where a table has no column that the recipe names, but for the text, which every reader looks for."""
        for column in self.asked:
            if column != "text" and self.fields[column] not in found:
                raise ValueError(
                    f"{file}: no column is called {self.fields[column]!r}, which the source's fields name for {column}; "
                    f"the fields found are {', '.join(found)}"
                )

    def distinct(self, file: object, found: Sequence[str]) -> list[str]:
        """The names of a table's columns, of which the second called `name` becomes `name.2`; all of them go to `extra`.

        ValueError where one that fills a column of `DOCUMENT` is there twice, because nobody knows which of them is meant.
        """
        names: list[str] = []
        taken = set(found)
        for name in found:
            if name not in names:
                names.append(name)
                continue
            if name in self.fields.values():
                raise ValueError(
                    f"{file}: more than one column is called {name!r}, which fills {self._filled_by(name)}; the fields found "
                    f"are {', '.join(found)}; rename one of them"
                )
            free = (f"{name}.{number}" for number in count(2))
            names.append(next(other for other in free if other not in taken))
            taken.add(names[-1])
        return names

    def _filled_by(self, name: str) -> str:
        return " and ".join(column for column, field in self.fields.items() if field == name)

    def row(self, record: dict[str, Any]) -> Row:
        """Turn a record into the columns of `DOCUMENT`; raises `BadRecord` where it has no text.

        A value that its column cannot hold (a date that is none, a list as URL) stays in `extra` under its own name.
        """
        text = _text(record, self.fields["text"])
        used = [self.fields["text"]]
        columns: list[str | None] = []
        for field, normal in self._others:  # in one loop: most of what a short line costs
            value = record.get(field)
            if value is not None:
                if normal is not None and (isinstance(value, str) or (type(value) is int and normal in _OF_NUMBERS)):
                    value = normal(value)
                if isinstance(value, str):
                    used.append(field)
                else:  # left for `extra`
                    value = None
            columns.append(value)
        id_, url, date, licence, kind = columns
        if len(record) == len(used) and len(set(used)) == len(used):
            return text, id_, url, date, licence, kind, None
        rest = {name: value for name, value in record.items() if value is not None and name not in used}
        return text, id_, url, date, licence, kind, _json(rest) if rest else None

    @cached_property
    def _others(self) -> tuple[tuple[str, Callable[[Any], str | None] | None], ...]:
        """The fields of the columns after the text, and what makes their values normal."""
        return tuple((self.fields[name], _NORMAL.get(name)) for name in MAPPED[1:])


def other_unicode(data: bytes) -> str | None:
    """What a byte order mark of another encoding than UTF-8 says, and the way out; None where there is none."""
    name = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    return name and f"{name} text (iconv -f {name} -t UTF-8 converts it)"


def decode(data: bytes) -> str:
    """Decode UTF-8; raises `BadRecord` that names the first wrong byte, or the encoding that a byte order mark tells."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if other := other_unicode(data):
            raise BadRecord(f"not UTF-8: {other}") from error
        raise BadRecord(f"not UTF-8: byte 0x{data[error.start]:02x} at {error.start}") from error


def decode_text(data: bytes) -> str:
    """Decode UTF-8 without NUL bytes, which no text has; raises `BadRecord` as `decode` does."""
    if other := other_unicode(data):
        raise BadRecord(f"not UTF-8: {other}")
    if (nul := data.find(b"\0")) >= 0:
        raise BadRecord(f"not text: a NUL byte at {nul}")
    return decode(data)


def too_long(limit: int) -> str:
    """The reason for a record of more than `limit` bytes, which is never held whole."""
    return f"longer than {limit} bytes"


def escape(data: bytes) -> str:
    """The first `FOUND_BYTES` bytes of a record, readable on one line."""
    text = data[:FOUND_BYTES].decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _text(record: dict[str, Any], field: str) -> str:
    """The text of a record."""
    value = record.get(field)
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return decode(value)
    if field not in record:
        raise BadRecord(f"no field {field!r}")
    raise BadRecord(f"{field!r} is {_kind(value)}, not a string")


def _kind(value: Any) -> str:
    """JSON's name of a value's type."""
    names = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), f"of type {type(value).__name__}")


def _json(fields: dict[str, Any]) -> str:
    """Write fields as JSON with sorted keys, integers of any size exactly."""
    try:
        return orjson.dumps(fields, default=_jsonable, option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONEncodeError as error:  # it writes 254 levels but reads 1,024, and integers of up to 64 bits
        if "64-bit" not in str(error):
            raise BadRecord("fields nested too deeply") from error
        return _json({name: _writable(value) for name, value in fields.items()})


def _writable(value: Any) -> Any:
    """A value with its long integers as they are written."""
    if isinstance(value, dict):
        return {name: _writable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_writable(inner) for inner in value]
    return orjson.Fragment(str(value)) if isinstance(value, int) and not isinstance(value, bool) else value


def _jsonable(value: Any) -> str:
    """What Parquet holds and JSON does not: bytes, decimals."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


_NORMAL: dict[str, Callable[[Any], str | None]] = {
    "id": str,
    "url": normal_fields.url,
    "date": normal_fields.date,
    "licence": normal_fields.licence,
}
_OF_NUMBERS = (str, normal_fields.date)
