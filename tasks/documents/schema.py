"""One document, one record that could not be read, and how a source's fields become a document's columns."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import pyarrow as pa

DOCUMENT = pa.schema(
    [
        pa.field("text", pa.string(), nullable=False),
        ("id", pa.string()),
        ("url", pa.string()),
        ("date", pa.string()),  # ISO 8601, as the source writes it
        ("licence", pa.string()),
        ("kind", pa.string()),
        (
            "extra",
            pa.string(),
        ),  # a JSON object of all other fields that are not null, keys sorted; null if there are none
    ]
)

BAD_RECORD = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),  # base name: the same file elsewhere gives the same table
        pa.field("offset", pa.int64(), nullable=False),  # where the record starts, in decompressed bytes or in rows
        pa.field("unit", pa.string(), nullable=False),  # of the offset: "byte" or "row"
        pa.field("reason", pa.string(), nullable=False),
        pa.field("found", pa.string(), nullable=False),  # its first FOUND_BYTES bytes; escaped where not printable
    ]
)

FOUND_BYTES = 200
MAPPED = ("text", "id", "url", "date", "licence", "kind")
_REDUCED_DATE = re.compile(r"\d{4}(-\d{2})?")  # "2024" and "2024-05" are ISO 8601 too, but not for datetime

Row = tuple[str, str | None, str | None, str | None, str | None, str | None, str | None]


class BadRecord(Exception):
    """A record that cannot be a document; the message is the reason in its row of `BAD_RECORD`."""


@dataclass(frozen=True)
class FieldMap:
    """Which field of a source fills which column of `DOCUMENT`; a column that is not named has a field of its own name."""

    fields: Mapping[str, str]

    @classmethod
    def of(cls, fields: Mapping[str, str] | None) -> "FieldMap":
        """Complete a partial mapping such as `{"text": "content"}`; a column that does not exist is a ValueError."""
        unknown = sorted(set(fields or ()) - set(MAPPED))
        if unknown:
            raise ValueError(f"fields: no column is called {', '.join(unknown)}; the columns are {', '.join(MAPPED)}")
        return cls({name: name for name in MAPPED} | dict(fields or {}))

    def row(self, record: dict[str, Any]) -> Row:
        """Turn a record into the columns of `DOCUMENT`; raises `BadRecord` where it has no text.

        A value that its column cannot hold (a date that is none, a list as URL) stays in `extra` under its own name.
        """
        fields = self.fields
        text = _text(record, fields["text"])
        used = {fields["text"]}
        id_ = _take(record, fields["id"], used, numbers=True)
        url = _take(record, fields["url"], used)
        date = _take(record, fields["date"], used, dates=True)
        licence = _take(record, fields["licence"], used)
        kind = _take(record, fields["kind"], used)
        rest = {name: value for name, value in record.items() if value is not None and name not in used}
        return text, id_, url, date, licence, kind, _json(rest) if rest else None


def is_date(text: str) -> bool:
    """Is it a date, a time stamp, a month or a year of ISO 8601?"""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return _REDUCED_DATE.fullmatch(text) is not None
    return True


def decode(data: bytes) -> str:
    """Decode UTF-8; raises `BadRecord` that names the first wrong byte."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadRecord(f"not UTF-8: byte 0x{data[error.start]:02x} at {error.start}") from error


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


def _take(
    record: dict[str, Any], field: str, used: set[str], *, numbers: bool = False, dates: bool = False
) -> str | None:
    """The value of an optional column; null, and left for `extra`, where the column cannot hold it."""
    value = record.get(field)
    if numbers and type(value) is int:
        value = str(value)
    if not isinstance(value, str) or (dates and not is_date(value)):
        return None
    used.add(field)
    return value


def _kind(value: Any) -> str:
    """JSON's name of a value's type."""
    names = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), f"of type {type(value).__name__}")


def _json(fields: dict[str, Any]) -> str:
    """Write fields as JSON with sorted keys."""
    try:
        return orjson.dumps(fields, default=_jsonable, option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONEncodeError as error:  # it writes 254 levels but reads 1,024
        raise BadRecord("fields nested too deeply") from error


def _jsonable(value: Any) -> str:
    """What Parquet holds and JSON does not: bytes, decimals."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
