"""Sources: where documents come from, and the pieces of their files that ingest jobs read."""

import importlib.metadata
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from polylm.tasks.documents.places import LOCAL, Place, is_url, list_remote
from polylm.tasks.documents.readers import FORMATS, KNOWN, Range, by_name, check, split, split_place
from polylm.tasks.settings import cache_folder
from polylm.tasks.store import Store

# What stands beside documents and holds none: of a repository, of a dataset that Hugging Face's library saved.
_ABOUT = re.compile(
    r"(readme|licen[cs]e|notice|copying|changelog|authors|contributing)(\.[a-z]+)?"
    r"|dataset_infos?\.json|dataset_dict\.json|state\.json|cache-.*\.arrow",
    re.IGNORECASE,
)
_NAMED = 5  # files that a notice names


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

    @field_validator("format")
    @classmethod
    def _is_known(cls, format: str | None) -> str | None:
        if format is not None and format not in FORMATS:
            raise ValueError(f"no format is called {format!r}; there are {', '.join(FORMATS)}")
        return format


@dataclass(frozen=True)
class Piece:
    """A range of one input file: what one ingest job reads."""

    source: str
    place: Place
    format: str
    range: Range
    reading: Source

    @property
    def label(self) -> str:
        return f"{self.source}:{self.place.base}" + (f"@{self.range.start}" if self.range.start else "")

    @property
    def identity(self) -> dict[str, Any]:
        where = [self.range.start, self.range.stop]
        reading = self.reading.model_dump(mode="json", exclude={"path", "format"})
        return {"file": self.place.pin, "format": self.format, "range": where, **reading, **_libraries(self)}


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
            pieces = [piece for place in places for piece in _pieces_of(name, source, _pinned(place, store), params)]
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
        if len(found) == 1 and source.path.rstrip("/").endswith(found[0].base):
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
    path = Path(place).expanduser()
    if path.is_file():
        return [_local(path, path.parent)]
    root, pattern = (path, "**/*") if path.is_dir() else (Path(path.anchor or "."), str(path).removeprefix(path.anchor))
    found = sorted(file for file in root.glob(pattern) if file.is_file() and not _is_hidden(file.relative_to(root)))
    if not found and not path.is_dir():
        raise ValueError(f"{place} does not exist; give --source {name}=PATH with a file, a folder or a glob")
    return [_local(file, root) for file in found]


def _local(path: Path, root: Path) -> Place:
    return Place(str(path), str(path.relative_to(root)), path.stat().st_size, "")


def _pinned(place: Place, store: Store) -> Place:
    return place if place.pin else replace(place, pin=store.input_digest(Path(place.where)))


def _pieces_of(name: str, source: Source, place: Place, params: Any) -> list[Piece]:
    format = source.format or by_name(place.base)
    if format is None:
        raise ValueError(f"{place.where}: the name does not say which format it has; known are {KNOWN}")
    if place.cache is None:
        if source.format is None:
            check(Path(place.where), format)
        ranges = split(Path(place.where), format, params.split_bytes, documents=source.documents)
    else:  # its content is checked by the worker that reads it
        ranges = split_place(place, format, params.split_bytes, documents=source.documents)
    return [Piece(name, place, format, range_, source) for range_ in ranges]


def _holds_documents(place: Place, source: Source) -> bool:
    """By its name, and because it is not empty; one of another name is asked for by its format."""
    if not place.size or _ABOUT.fullmatch(place.base):
        return False
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
