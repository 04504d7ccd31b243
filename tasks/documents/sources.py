"""Sources: where documents come from, and the pieces of their files that ingest jobs read."""

import importlib.metadata
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from polylm.deployments.settings import cache_folder
from polylm.tasks.documents.places import LOCAL, Place, is_url, list_remote, stamp
from polylm.tasks.documents.readers import (
    FORMATS,
    KNOWN,
    FieldMap,
    Range,
    by_name,
    check,
    programming_language,
    split,
    split_place,
)
from polylm.tasks.store import Store

# What stands beside documents and holds none: of a repository, of a dataset that Hugging Face's library saved.
_ABOUT = re.compile(
    r"(readme|licen[cs]e|notice|copying|changelog|authors|contributing)(\.[a-z]+)?"
    r"|dataset_infos?\.json|dataset_dict\.json|state\.json|cache-.*\.arrow",
    re.IGNORECASE,
)
_NAMED = 5  # files that a notice names
CODE = "code"  # a tree of source code, which only the recipe can name
_CODE_FILES, _CODE_BYTES = 2_000, 64 << 20  # most of a piece


class Source(BaseModel):
    """A file, folder, glob or URL of documents. Its identity is the content of its files, never the path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(
        description="A file, a folder (all files under it) or a glob; or a URL of one: hf://datasets/..., s3://, https://."
    )
    format: str | None = Field(
        default=None, description="A format of `polylm.tasks.documents.readers`; by name if not given."
    )
    fields: dict[str, str] = Field(default_factory=dict, description="Which field of a record fills which column.")
    documents: Literal["file", "line", "blank-line"] = Field(
        default="file", description="What a document of plain text is."
    )
    extract: Literal["resiliparse", "trafilatura"] = Field(
        default="resiliparse", description="What takes the text out of the pages of WARC: the fast or the careful one."
    )

    role: Literal["corpus", "reference"] = Field(
        default="corpus",
        description="`reference`: clean text from which models and thresholds are fitted, never judged or selected itself.",
    )
    languages: tuple[str, ...] = Field(
        default=(),
        description="The two languages of parallel text: of fields src and tgt, or of two files whose names end in them.",
    )

    @field_validator("format")
    @classmethod
    def _is_known(cls, format: str | None) -> str | None:
        if format is not None and format not in (*FORMATS, CODE):
            raise ValueError(f"no format is called {format!r}; there are {', '.join([*FORMATS, CODE])}")
        return format

    @model_validator(mode="after")
    def _maps_known_columns(self) -> "Source":
        if self.languages and len(set(self.languages)) != 2:
            raise ValueError(f"languages: found {', '.join(self.languages)}; parallel text has two")
        if not self.languages:
            FieldMap.of(self.fields)
        elif unknown := sorted(set(self.fields) - {"src", "tgt"}):
            raise ValueError(f"fields: parallel text has src and tgt, not {', '.join(unknown)}")
        return self


@dataclass(frozen=True)
class Piece:
    """A range of one input file: what one ingest job reads."""

    source: str
    place: Place
    format: str
    range: Range
    reading: Source
    more: tuple[Place, ...] = ()  # the other side of parallel text, the other files of a tree of code

    @property
    def label(self) -> str:
        return f"{self.source}:{self.place.base}" + (f"@{self.range.start}" if self.range.start else "")

    @property
    def identity(self) -> dict[str, Any]:
        where = [self.range.start, self.range.stop]
        reading = self.reading.model_dump(mode="json", exclude={"path", "format"})
        files: Any = self.place.pin
        if self.format == CODE:  # a file's path is part of its document
            files = [[place.name, place.pin] for place in (self.place, *self.more)]
        elif self.more:
            files = [place.pin for place in (self.place, *self.more)]
        return {"file": files, "format": self.format, "range": where, **reading, **_libraries(self)}


class Sources:
    """The sources of a recipe, in its order: the order in which documents are numbered.

    `cache` is the folder for what is fetched from URLs, which all workers must see; `notice` is told what is skipped.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        *,
        cache: Path | None = None,
        notice: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.sources = dict(sources)
        self.cache = cache or cache_folder() / "sources"
        self.notice = notice

    def pieces(self, params: Any, store: Store) -> Sequence[Piece]:
        """All pieces, by source, path and range; ValueError names a source that is missing, empty or unreadable."""
        return [piece for name in self.sources for piece in self._pieces(name, params, store)]

    def _pieces(self, name: str, params: Any, store: Store) -> list[Piece]:
        source = self.sources[name]
        try:
            places = self._readable(name, source, self._places(name, source))
            pieces = _pieces(name, source, [_pinned(place, store) for place in places], params)
        except ValueError as error:
            raise ValueError(f"source {name}: {error}") from error
        if not pieces:
            raise ValueError(f"source {name}: {source.path} is empty; give --source {name}=PATH with text in it")
        return pieces

    def _places(self, name: str, source: Source) -> list[Place]:
        if is_url(source.path):
            return [place for place in list_remote(source.path, self.cache) if not _is_hidden(Path(place.name))]
        return list_local(name, source.path.removeprefix(LOCAL))

    def _readable(self, name: str, source: Source, found: list[Place]) -> list[Place]:
        """The files that hold documents; the others are skipped by name. A file that is given by its own path is read."""
        if not found:
            raise ValueError(f"{source.path} has no files; give --source {name}=PATH with a file, a folder or a glob")
        if len(found) == 1 and source.format != CODE and source.path.rstrip("/").endswith(found[0].base):
            return found
        skipped = [place for place in found if not _holds_documents(place, source)]
        if len(skipped) == len(found):
            raise ValueError(
                f"{source.path} has no file that can be read; found {_named(found)}; "
                f"known are {KNOWN}, or name the format in the source"
            )
        if skipped:
            self.notice(f"source {name}: skipped, because they hold no documents: {_named(skipped)}")
        return [place for place in found if place not in skipped]


def list_local(name: str, place: str) -> list[Place]:
    """The files of a local source in order of path; what is hidden, or in a hidden folder, is left out.

    They are not pinned yet. Raises ValueError where there is nothing by that name.
    """
    try:
        path = Path(place).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{place}: there is no such user; give --source {name}=PATH") from error
    if path.is_file():
        return [_local(path, path.parent)]
    if path.is_dir():
        return [_local(file, path) for file in sorted(_under(path))]
    if path.exists():
        raise ValueError(
            f"{place} is neither a file nor a folder; give --source {name}=PATH with one of them, or a glob"
        )
    root = Path(path.anchor or ".")
    found = root.glob(str(path).removeprefix(path.anchor))
    files = sorted(file for file in found if file.is_file() and not _is_hidden(file.relative_to(root)))
    if not files:
        raise ValueError(f"{place} does not exist; give --source {name}=PATH with a file, a folder or a glob")
    return [_local(file, root) for file in files]


def _under(root: Path) -> Iterator[Path]:
    """The files under a folder, through links too; a folder that links lead to again is read once.

    ValueError names a folder that cannot be listed: `glob` would pass over it, and over folders behind links.
    """
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        told = Path(folder).stat()
        if (told.st_dev, told.st_ino) in seen:
            folders.clear()
            continue
        seen.add((told.st_dev, told.st_ino))
        yield from (file for name in names if not name.startswith(".") and (file := Path(folder, name)).is_file())


def _refuse(error: OSError) -> None:
    raise ValueError(f"{error.filename} cannot be listed ({error.strerror}); what is in it would be missing") from error


def _local(path: Path, root: Path) -> Place:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{str(path)!r}: its name is not UTF-8; rename it") from error
    return Place(str(path), str(path.relative_to(root)), path.stat().st_size, "", stamp=stamp(path))


def _pinned(place: Place, store: Store) -> Place:
    return place if place.pin else replace(place, pin=store.input_digest(Path(place.where)))


def _pieces(name: str, source: Source, places: list[Place], params: Any) -> list[Piece]:
    """The pieces of a source's files, in order."""
    if source.format == CODE:
        return [
            Piece(name, group[0], CODE, Range(0, len(group)), source, tuple(group[1:])) for group in _groups(places)
        ]
    sides = [place for place in places if _side(place, source)]
    alone = [piece for place in places if place not in sides for piece in _pieces_of(name, source, place, params)]
    return sorted(alone + _pairs(name, source, sides), key=lambda piece: (piece.place.name, piece.range.start))


def _groups(places: Sequence[Place]) -> list[list[Place]]:
    """Files of code, many to a piece: a job for each would cost more than reading it."""
    groups: list[list[Place]] = []
    size = 0
    for place in places:
        if not groups or len(groups[-1]) >= _CODE_FILES or size + place.size > _CODE_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(place)
        size += place.size
    return groups


def _side(place: Place, source: Source) -> str | None:
    """The language in which the name of a file of parallel text ends, as Moses has it: NAME.en, NAME.en.gz."""
    language = re.sub(r"\.(gz|zst|bz2|xz)$", "", place.base).rpartition(".")[2]
    return language if language in source.languages else None


def _pairs(name: str, source: Source, sides: Sequence[Place]) -> list[Piece]:
    """Pieces of two files, the one and the other side; ValueError where one is missing."""
    by_stem: dict[str, dict[str, Place]] = {}
    for place in sides:
        language = str(_side(place, source))
        by_stem.setdefault(place.name.rpartition(f".{language}")[0], {})[language] = place
    found = []
    for stem, both in by_stem.items():
        if missing := [language for language in source.languages if language not in both]:
            raise ValueError(f"{next(iter(both.values())).where}: parallel text, but there is no {stem}.{missing[0]}")
        one, other = (both[language] for language in source.languages)
        found.append(Piece(name, one, "moses", Range(0, one.size), source, (other,)))
    return found


def _pieces_of(name: str, source: Source, place: Place, params: Any) -> list[Piece]:
    format = source.format or by_name(place.base)
    if format is None:
        raise ValueError(f"{place.where}: the name does not say which format it has; known are {KNOWN}")
    if place.cache is None and (place.size or source.format is None):
        check(Path(place.where), format)
    if source.languages:  # pages of pairs cross any border
        ranges = [Range(0, place.size)]
    elif place.cache is None:
        ranges = split(Path(place.where), format, params.split_bytes, documents=source.documents)
    else:  # its content is checked by the worker that reads it
        ranges = split_place(place, format, params.split_bytes, documents=source.documents)
    return [Piece(name, place, format, range_, source) for range_ in ranges]


def _holds_documents(place: Place, source: Source) -> bool:
    """By its name, and because it is not empty; one of another name is asked for by its format."""
    if source.format == CODE:
        return place.size > 0 and programming_language(place.name) is not None
    if not place.size or _ABOUT.fullmatch(place.base):
        return False
    if _side(place, source):
        return True
    return source.format is not None or by_name(place.base) is not None


def _named(places: Sequence[Place]) -> str:
    """The names of the first files, and how many more there are."""
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    return ", ".join(place.name for place in places[:_NAMED]) + more


def _libraries(piece: Piece) -> dict[str, Any]:
    """The versions of libraries whose output is a piece's documents, but for those that the stage names for all."""
    kind = piece.format.partition(".")[0]
    names = ["mwparserfromhell"] if kind == "wikipedia" else []
    if kind == "warc" and piece.reading.extract == "trafilatura":
        names = ["trafilatura", "lxml"]
    return {"libraries": {name: importlib.metadata.version(name) for name in names}} if names else {}


def _is_hidden(path: Path) -> bool:
    return any(piece.startswith(".") for piece in path.parts)
