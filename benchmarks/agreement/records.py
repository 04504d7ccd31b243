"""Goldens read back: each record with its text, and datatrove's words and sentences of it."""

import gzip
import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polylm.tasks.corpus.rule_sets import languages

FILTERS = (
    "gopher_repetition",
    "gopher_quality",
    "fineweb_quality",
    "c4_quality",
    "c4_quality_fineweb",
    "c4_paragraph",
)
REWRITING = ("c4_quality", "c4_quality_fineweb")  # these drop lines, too, and their records say which
PROFILES = ("default", "fineweb2")
BATCH = 500  # documents whose words are compared at once

Names = tuple[str, str]  # profile and filter


class GoldensError(ValueError):
    """The file is not of the form of goldens; the message names the line, what was found and what was expected."""


@dataclass(frozen=True)
class Document:
    """One line of the file with its text."""

    line: int
    name: str
    language: str
    text: str
    words: list[str]
    verdicts: dict[Names, str | None]  # null: kept
    sentences: dict[str, list[int]]  # by filter that rewrites: of each line that is left, as far as datatrove asked
    rewritten: dict[str, str | None]  # by filter that rewrites: sha256 of the text that is left, where recorded
    unstable: bool


def read_documents(goldens: Path, data: Path) -> Iterator[Document]:
    """Every document of a file of goldens, ordered by the file under `data` that its text is in.

    Memory: all records, and the asked texts of one file. Raises GoldensError.
    """
    by_file: dict[str | None, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for line, record in _lines(goldens):
        with _named(goldens, line):
            by_file[_field(record, "file", (str, type(None)))].append((line, record))
    for file, records in by_file.items():
        with _named(goldens, records[0][0]):
            texts = {} if file is None else _texts(data / file, {str(record.get("id")) for _, record in records})
        for line, record in records:
            with _named(goldens, line):
                yield _document(line, record, texts)


def batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents of one language that have verdicts of the same filters, some hundreds at a time."""
    waiting: dict[tuple[str, frozenset[Names]], list[Document]] = defaultdict(list)
    for document in documents:
        batch = waiting[document.language, frozenset(document.verdicts)]
        batch.append(document)
        if len(batch) == BATCH:
            yield batch.copy()
            batch.clear()
    yield from (batch for batch in waiting.values() if batch)


class _named:
    """Puts the file and the line before the message of a GoldensError."""

    def __init__(self, path: Path, line: int) -> None:
        self._where = f"{path}, line {line}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, GoldensError):
            raise GoldensError(f"{self._where}: {error}") from error


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file, plain or gzipped whatever its name says, with the numbers of their lines."""
    line = 0
    try:
        with path.open("rb") as plain:
            zipped = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            for line, text in enumerate(gzip.GzipFile(fileobj=plain) if zipped else plain, 1):
                if text.strip():
                    yield line, _object(path, line, text)
    except (OSError, EOFError, zlib.error) as error:
        raise GoldensError(f"{path} cannot be read behind line {line}: {error}") from error


def _object(path: Path, line: int, text: bytes) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except ValueError as error:
        raise GoldensError(f"{path}, line {line} is no JSON: {error}") from error
    if not isinstance(record, dict):
        raise GoldensError(f"{path}, line {line} holds a {type(record).__name__}; an object was expected")
    return record


def _texts(path: Path, wanted: Collection[str]) -> dict[str, str]:
    if not path.is_file():
        raise GoldensError(f"its text is in {path}, which is not there; give the folder with DATA=FOLDER")
    found = {}
    for line, row in _lines(path):
        if str(row.get("id")) in wanted:
            with _named(path, line):
                found[str(row["id"])] = _field(row, "text", (str,))
    return found


def _document(line: int, record: dict[str, Any], texts: dict[str, str]) -> Document:
    language, text = _field(record, "lang", (str,)), _text(record, texts)
    verdicts = _verdicts(record, language)
    asked = {name for _, name in verdicts if name in REWRITING}
    lines = {name: _field(record, name, (dict,)) for name in sorted(asked)}
    return Document(
        line,
        str(record.get("id", "without id")),
        language,
        text,
        _words(text, _field(record, "words", (dict,))),
        verdicts,
        {name: _integers(entry, "sentences_per_line") for name, entry in lines.items()},
        {name: entry.get("text_sha256") for name, entry in lines.items()},
        bool(record.get("unstable", False)),
    )


def _text(record: dict[str, Any], texts: dict[str, str]) -> str:
    if record["file"] is None:
        text: str = _field(record, "text", (str,))
    elif str(record.get("id")) in texts:
        text = texts[str(record["id"])]
    else:
        raise GoldensError(f"{record['file']} holds no document with the id {record.get('id')!r}")
    digest = record.get("text_sha256")
    if digest not in (None, sha256(text)):
        raise GoldensError(f"the text's sha256 is {sha256(text)}; the record was made of one with {digest}")
    return text


def _verdicts(record: dict[str, Any], language: str) -> dict[Names, str | None]:
    verdicts: dict[Names, str | None] = {}
    for profile, answers in _field(record, "verdicts", (dict,)).items():
        if profile not in PROFILES:
            raise GoldensError(f"no thresholds for a profile {profile!r}; those here are {', '.join(PROFILES)}")
        if profile == "fineweb2" and language not in languages()[1:]:
            known = ", ".join(languages()[1:])
            raise GoldensError(f"no thresholds of FineWeb2 for the language {language!r}; there are some for {known}")
        for name in _field(record["verdicts"], profile, (dict,)):
            if name not in FILTERS:
                raise GoldensError(f"no rules for a filter {name!r}; those here are {', '.join(FILTERS)}")
            verdicts[profile, name] = _field(answers, name, (str, type(None)))
    return verdicts


def _words(text: str, words: dict[str, Any]) -> list[str]:
    """Words as a list, or as (gap, length) pairs in code points of the text."""
    if "list" in words:
        found = _field(words, "list", (list,))
        if not all(isinstance(word, str) for word in found):
            raise GoldensError("`words` has a `list` with something else than strings in it")
    else:
        found = _sliced(text, _integers(words, "spans"))
    if words.get("n", len(found)) != len(found):
        raise GoldensError(f"{len(found)} words where `n` says {words['n']}")
    return list(found)


def _sliced(text: str, spans: list[int]) -> list[str]:
    if len(spans) % 2 or any(number < 0 for number in spans) or sum(spans) > len(text):
        raise GoldensError(f"`spans` are no pairs of gap and length within the {len(text)} characters of the text")
    words, at = [], 0
    for gap, length in zip(spans[::2], spans[1::2], strict=True):
        words.append(text[at + gap : at + gap + length])
        at += gap + length
    return words


def _integers(record: dict[str, Any], name: str) -> list[int]:
    numbers: list[int] = _field(record, name, (list,))
    if not all(isinstance(number, int) for number in numbers):
        raise GoldensError(f"`{name}` holds something else than whole numbers")
    return numbers


def _field(record: dict[str, Any], name: str, kinds: tuple[type, ...]) -> Any:
    expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
    if name not in record:
        raise GoldensError(
            f"no `{name}`, which should be {expected}; there are {', '.join(map(str, record)) or 'none'}"
        )
    if not isinstance(record[name], kinds):
        raise GoldensError(f"`{name}` is {type(record[name]).__name__}, not {expected}")
    return record[name]


def sha256(text: str) -> str:
    """Of the text in UTF-8, lone surrogates too."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
