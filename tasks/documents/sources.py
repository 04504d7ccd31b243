"""Sources: where documents come from, and the pieces of their files that ingest jobs read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from polylm.tasks.documents.readers import Range, detect, split
from polylm.tasks.store import Store


class Source(BaseModel):
    """A file, folder or glob of documents. Its identity is the content of its files, never the path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(description="A file, a folder (all files under it) or a glob.")
    format: str | None = Field(
        default=None, description="A format of `polylm.tasks.documents.readers`; by name if not given."
    )
    fields: dict[str, str] = Field(default_factory=dict, description="Which field of a record fills which column.")
    documents: Literal["file", "line", "blank-line"] = Field(
        default="file", description="What a document of plain text is."
    )


@dataclass(frozen=True)
class Piece:
    """A range of one input file: what one ingest job reads."""

    source: str
    path: Path
    format: str
    range: Range
    reading: Source
    sha256: str

    @property
    def label(self) -> str:
        return f"{self.source}:{self.path.name}" + (f"@{self.range.start}" if self.range.start else "")

    @property
    def identity(self) -> dict[str, Any]:
        where = [self.range.start, self.range.stop]
        reading = {"fields": self.reading.fields, "documents": self.reading.documents}
        return {"file": self.sha256, "format": self.format, "range": where, **reading}


class Sources:
    """The sources of a recipe, in its order: the order in which documents are numbered."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.sources = dict(sources)

    def pieces(self, params: Any, store: Store) -> Sequence[Piece]:
        """All pieces, by source, path and range; ValueError names a source that is missing or empty."""
        return [piece for name, source in self.sources.items() for piece in _pieces(name, source, params, store)]


def list_files(name: str, place: str) -> list[Path]:
    """The files of a source in order of path; what is hidden, or in a hidden folder, is left out."""
    path = Path(place).expanduser()
    if path.is_file():
        return [path]
    root, pattern = (path, "**/*") if path.is_dir() else (Path(path.anchor or "."), str(path).removeprefix(path.anchor))
    found = sorted(file for file in root.glob(pattern) if file.is_file() and not _is_hidden(file.relative_to(root)))
    if not found:
        problem = "has no files" if path.is_dir() else "does not exist"
        raise ValueError(f"source {name}: {place} {problem}; give --source {name}=PATH with a file, a folder or a glob")
    return found


def _pieces(name: str, source: Source, params: Any, store: Store) -> list[Piece]:
    pieces = []
    for path in list_files(name, source.path):
        try:
            format_ = source.format or detect(path)
            ranges = split(path, format_, params.split_bytes, documents=source.documents)
        except ValueError as error:
            raise ValueError(f"source {name}: {error}") from error
        pieces += [Piece(name, path, format_, range_, source, store.input_digest(path)) for range_ in ranges]
    if not pieces:
        raise ValueError(f"source {name}: {source.path} is empty; give --source {name}=PATH with text in it")
    return pieces


def _is_hidden(path: Path) -> bool:
    return any(piece.startswith(".") for piece in path.parts)
