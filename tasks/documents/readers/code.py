"""Source code: every file of a tree is a document, named by its path and its programming language."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import orjson

from polylm.tasks.documents.readers.batches import Batch, Collector, Options
from polylm.tasks.documents.schema import BadRecord, decode_text, too_long

LANGUAGES = {
    ".bash": "Shell", ".c": "C", ".cc": "C++", ".clj": "Clojure", ".cpp": "C++", ".cs": "C#", ".css": "CSS", ".cu": "CUDA",
    ".cxx": "C++", ".dart": "Dart", ".erl": "Erlang", ".ex": "Elixir", ".exs": "Elixir", ".f90": "Fortran", ".fs": "F#",
    ".go": "Go", ".groovy": "Groovy", ".h": "C", ".hh": "C++", ".hpp": "C++", ".hs": "Haskell", ".html": "HTML",
    ".java": "Java", ".jl": "Julia", ".js": "JavaScript", ".jsx": "JavaScript", ".kt": "Kotlin", ".lean": "Lean",
    ".lisp": "Common Lisp", ".lua": "Lua", ".m": "Objective-C", ".md": "Markdown", ".ml": "OCaml", ".mjs": "JavaScript",
    ".nim": "Nim", ".php": "PHP", ".pl": "Perl", ".pm": "Perl", ".proto": "Protocol Buffer", ".ps1": "PowerShell",
    ".py": "Python", ".pyi": "Python", ".r": "R", ".rb": "Ruby", ".rs": "Rust", ".rst": "reStructuredText",
    ".scala": "Scala", ".sh": "Shell", ".sol": "Solidity", ".sql": "SQL", ".sv": "SystemVerilog", ".swift": "Swift",
    ".tcl": "Tcl", ".tex": "TeX", ".toml": "TOML", ".ts": "TypeScript", ".tsx": "TypeScript", ".v": "Verilog",
    ".vhd": "VHDL", ".vue": "Vue", ".yaml": "YAML", ".yml": "YAML", ".zig": "Zig",
}  # fmt: skip
_BY_NAME = {"Dockerfile": "Dockerfile", "Makefile": "Makefile", "CMakeLists.txt": "CMake"}
_NOT_WRITTEN_HERE = {"node_modules", "__pycache__", "site-packages", "third_party", "vendor", "dist", "build", "target"}


def programming_language(name: str) -> str | None:
    """The language of a file by its name; None for what is no code, was generated, or comes from elsewhere."""
    path = PurePosixPath(name)
    if _NOT_WRITTEN_HERE.intersection(path.parts[:-1]) or ".min." in path.name:
        return None
    return _BY_NAME.get(path.name) or LANGUAGES.get(path.suffix.lower())


def read_code(paths: Sequence[Path], names: Sequence[str], options: Options) -> Iterator[Batch]:
    """Read files, each a document of kind "code" as it is, or a bad record. Memory: a batch of files."""
    for path, name in zip(paths, names, strict=True):
        out = Collector(Path(name), options)
        try:
            text = _text(path, options.max_record_bytes)
            extra = orjson.dumps({"path": name, "programming_language": programming_language(name)}).decode()
            if text.strip():
                out.add((text, name, None, None, None, "code", extra), len(text))
        except BadRecord as bad:
            with path.open("rb") as file:
                out.reject(0, str(bad), file.read(1_000))
        if not out.is_empty:
            yield out.flush()


def _text(path: Path, limit: int) -> str:
    if path.stat().st_size > limit:
        raise BadRecord(too_long(limit))
    return decode_text(path.read_bytes()).removeprefix("\ufeff")
