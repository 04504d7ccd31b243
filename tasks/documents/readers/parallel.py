"""Parallel text: pairs of lines become pages, one in each language, aligned as `tasks.tokens.pairs` reads them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from polylm.tasks.documents.readers.batches import Batch, Collector, Damaged, Options, Range
from polylm.tasks.documents.readers.delimited import records
from polylm.tasks.documents.readers.formats import check
from polylm.tasks.documents.readers.streams import Line, compression, is_blank, lines_from
from polylm.tasks.documents.schema import FOUND_BYTES, BadRecord, FieldMap, decode, too_long

PAGE_PAIRS = 32  # of one line, no model can tell the language; of a page whose lines do not match, all pairs are lost
_SIDES = ("src", "tgt")
_HEAD = 100  # records in which the fields are looked for


@dataclass(frozen=True)
class _Pair:
    """One pair as it was read, or why it is none."""

    offset: int
    found: bytes
    sides: tuple[str, str] = ("", "")
    problem: str | None = None


def read_parallel(
    paths: Sequence[Path], format: str, languages: tuple[str, str], fields: Mapping[str, str], options: Options
) -> Iterator[Batch]:
    """Read pairs of lines: from JSONL or a table with a field for each side, or from two files of as many lines.

    Every `PAGE_PAIRS` pairs make two documents of kind "parallel", whose `extra` has the same `align` and the language
    that each is declared to be in. A pair of which nothing is left on one side is a bad record, because both pages must
    keep the same number of lines. Fields are `src` and `tgt` by default, or called as the languages are. Memory: a page.
    """
    out = Collector(paths[0], options)
    held: list[_Pair] = []
    try:
        for pair in _pairs(paths, format, languages, fields, options):
            if pair.problem is not None:
                out.reject(pair.offset, pair.problem, pair.found)
            else:
                held.append(pair)
            if len(held) == PAGE_PAIRS:
                _add_pages(held, languages, out)
                held = []
            if out.is_full:
                yield out.flush()
    except Damaged as damage:
        out.reject(damage.offset, damage.reason, damage.found)
    _add_pages(held, languages, out)
    if not out.is_empty:
        yield out.flush()


def _add_pages(pairs: Sequence[_Pair], languages: tuple[str, str], out: Collector) -> None:
    """Two documents of the pairs that stay pairs when `clean` has seen them."""
    kept = []
    for pair, stays in zip(pairs, _stay(pairs), strict=True):
        if stays:
            kept.append(pair)
        else:
            out.reject(pair.offset, "a pair with nothing but an address, or nothing at all, on one side", pair.found)
    if not kept:
        return
    texts = ["\n".join(pair.sides[side] for pair in kept) for side in (0, 1)]
    align = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    for language, text in zip(languages, texts, strict=True):
        extra = orjson.dumps({"align": align, "lang_declared": language, "source": "-".join(languages)}).decode()
        out.add((text, f"{align}/{language}", None, None, None, "parallel", extra), len(text))


def _stay(pairs: Sequence[_Pair]) -> list[bool]:
    """Whether both sides of every pair hold a line after cleaning."""
    from polylm.kernels import clean_text  # brings numba, which other readers do without

    longest = max((len(side) for pair in pairs for side in pair.sides), default=0) + 1
    cleaned = [
        clean_text.clean(
            pa.array([pair.sides[side] for pair in pairs], pa.string()), max_word_chars=longest, drop_url_lines=True
        )
        for side in (0, 1)
    ]
    return [bool(a.is_valid and b.is_valid) for a, b in zip(cleaned[0].texts, cleaned[1].texts, strict=True)]


def _pairs(
    paths: Sequence[Path], format: str, languages: tuple[str, str], fields: Mapping[str, str], options: Options
) -> Iterator[_Pair]:
    if len(paths) == 2:
        return _moses(paths, options.max_record_bytes)
    if format.startswith("jsonl"):
        return _of_jsonl(paths[0], format, languages, fields, options)
    if format.startswith(("csv", "tsv")):
        return _of_table(paths[0], format, languages, fields, options)
    raise ValueError(f"{paths[0]}: parallel text is read from JSONL, CSV, TSV or two files, not from {format}")


def _of_jsonl(
    path: Path, format: str, languages: tuple[str, str], fields: Mapping[str, str], options: Options
) -> Iterator[_Pair]:
    names: tuple[str, str] | None = None
    seen: dict[str, None] = {}
    for number, (offset, data, length) in enumerate(lines_from(path, format, Range(0, 0), options.max_record_bytes)):
        if is_blank(data, length):
            continue
        record = _object(data, length, options.max_record_bytes)
        if isinstance(record, BadRecord):
            yield _Pair(offset, data[:FOUND_BYTES], problem=str(record))
            continue
        if names is None:
            seen |= dict.fromkeys(record)
            names = _names(record, languages, fields)
            if names is None and number >= _HEAD:
                raise _wrong_fields(path, seen, languages)
        yield _pair(offset, data, record, names)
    if names is None and seen:
        raise _wrong_fields(path, seen, languages)


def _object(data: bytes, length: int, limit: int) -> dict[str, Any] | BadRecord:
    """A line of JSON; the sides of a nested `translation` stand beside the other fields."""
    if length > limit:
        return BadRecord(too_long(limit))
    try:
        decode(data)
        record = orjson.loads(data)
    except BadRecord as bad:
        return bad
    except orjson.JSONDecodeError as error:
        return BadRecord(f"not JSON at character {error.pos}")
    if not isinstance(record, dict):
        return BadRecord("not a JSON object")
    nested = record.get("translation")
    return {**record, **nested} if isinstance(nested, dict) else record


def _of_table(
    path: Path, format: str, languages: tuple[str, str], fields: Mapping[str, str], options: Options
) -> Iterator[_Pair]:
    """Pairs of a table; without a field in `fields` and without a header that names them, its first two columns."""
    wanted = dict(fields)
    if not wanted:
        wanted = _of_header(path, format, languages, options)
    names = (wanted.get("src", "src"), wanted.get("tgt", "tgt"))
    asked = replace(options, fields=FieldMap({"text": names[0], "tgt": names[1]}))
    for number, (offset, data, record) in enumerate(records(path, format, asked, quoting=False)):
        if isinstance(record, BadRecord):
            yield _Pair(offset, data[:FOUND_BYTES], problem=str(record))
            continue
        if number == 0 and names[1] not in record:
            raise _wrong_fields(path, record, languages)
        yield _pair(offset, data, record, names)


def _of_header(path: Path, format: str, languages: tuple[str, str], options: Options) -> dict[str, str]:
    """Which columns hold the sides, as the first row says, or the first two."""
    asked = replace(options, fields=FieldMap({"text": "#1"}))
    first = next(
        (record for _, _, record in records(path, format, asked, quoting=False) if isinstance(record, dict)), {}
    )
    header = {str(value).strip() for value in first.values()}
    for names in (_SIDES, languages):
        if header.issuperset(names):
            return dict(zip(_SIDES, names, strict=True))
    return {"src": "#1", "tgt": "#2"}


def _names(record: Mapping[str, Any], languages: tuple[str, str], fields: Mapping[str, str]) -> tuple[str, str] | None:
    """The fields of both sides."""
    candidates = [tuple(fields.get(side, side) for side in _SIDES)] + ([] if fields else [languages])
    return next(((str(a), str(b)) for a, b in candidates if a in record and b in record), None)


def _wrong_fields(path: Path, found: Mapping[str, Any], languages: tuple[str, str]) -> ValueError:
    return ValueError(
        f"{path}: no record has both sides of a pair; the fields found are {', '.join(map(str, found))}; expected src and "
        f"tgt, or {' and '.join(languages)}; name the right ones in the source's fields, such as src: en"
    )


def _pair(offset: int, data: bytes, record: Mapping[str, Any], names: tuple[str, str] | None) -> _Pair:
    sides = [record.get(name) for name in names or ()]
    if len(sides) != 2 or not all(isinstance(side, str) and side.strip() for side in sides):
        return _Pair(offset, data[:FOUND_BYTES], problem="a pair without text on both sides")
    return _Pair(offset, data[:FOUND_BYTES], (_one_line(str(sides[0])), _one_line(str(sides[1]))))


def _moses(paths: Sequence[Path], limit: int) -> Iterator[_Pair]:
    """Line k of one file belongs to line k of the other."""
    formats = [f"text{_suffix(path)}" for path in paths]
    for path, format in zip(paths, formats, strict=True):
        check(path, format)
    first, second = (lines_from(path, format, Range(0, 0), limit) for path, format in zip(paths, formats, strict=True))
    number = 0
    for one in first:
        number += 1
        other = next(second, None)
        if other is None:
            yield _Pair(one[0], one[1][:FOUND_BYTES], problem=_uneven(paths[1], 1 + sum(1 for _ in first)))
            return
        yield _of_lines(one, other, limit)
    if (other := next(second, None)) is not None:
        yield _Pair(number, other[1][:FOUND_BYTES], problem=_uneven(paths[0], 1 + sum(1 for _ in second)))


def _uneven(path: Path, lines: int) -> str:
    return f"{path.name} ends {lines} lines before the other file: the files are not aligned to their end"


def _of_lines(one: Line, other: Line, limit: int) -> _Pair:
    texts = []
    for _, data, length in (one, other):
        try:
            if length > limit:
                raise BadRecord(too_long(limit))
            texts.append(_one_line(decode(data)))
        except BadRecord as bad:
            return _Pair(one[0], one[1][:FOUND_BYTES], problem=str(bad))
    if not all(texts):
        return _Pair(one[0], one[1][:FOUND_BYTES], problem="a pair without text on both sides")
    return _Pair(one[0], one[1][:FOUND_BYTES], (texts[0], texts[1]))


def _suffix(path: Path) -> str:
    return path.suffix if compression(f"text{path.suffix}") in ("gz", "zst", "bz2", "xz") else ""


def _one_line(text: str) -> str:
    return " ".join(text.removeprefix("\ufeff").split())
