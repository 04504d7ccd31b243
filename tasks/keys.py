"""Identity: digests of content, keys of jobs, numbers of documents, fingerprints of code.

The key of a job is a hash of stage, version, params and the *content* of the columns that it reads, so equal content
stops a re-run early. Never in a key: paths, hosts, worker counts, devices, dates, source text.
"""

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MACHINERY = frozenset(
    f"polylm.tasks.{name}"
    for name in ("stage", "rules", "keys", "store", "build", "jobs", "pool", "run", "session", "why")
)
WITHOUT_EFFECT = MACHINERY | {"polylm.deployments.settings"}  # on what a stage makes: fingerprints leave them out
PARTS_A_SOURCE = 1 << 24
ROWS_A_PART = 1 << 24


def digest(value: Any) -> str:
    """sha256 of a JSON-like value, independent of the order of dict keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def content(values: pa.Array | pa.ChunkedArray) -> str:
    """sha256 of a column's values: independent of chunks, offsets, dictionaries, row groups and compression."""
    hasher = hashlib.sha256()
    _feed(hasher, contiguous(values))
    return hasher.hexdigest()


def contents(table: pa.Table) -> dict[str, str]:
    """The digest of each column by name."""
    return {name: content(table[name]) for name in table.schema.names}


def contiguous(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array; where it has one chunk that one, which putting it together would copy."""
    if not isinstance(values, pa.ChunkedArray):
        return values
    if values.num_chunks == 1:
        return values.chunk(0)
    return pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def number(source: int, part: int) -> int:
    """The number of a part's first document: source << 48 | part << 24 (15, 24 and 24 bits with the row)."""
    assert 0 <= source < 1 << 15, f"source {source}"
    assert 0 <= part < PARTS_A_SOURCE, f"part {part}"
    return source << 48 | part << 24


def address(doc: int, sources: list[str]) -> str:
    """A document's number as people read it, `name.part.row`."""
    return f"{sources[doc >> 48]}.{doc >> 24 & PARTS_A_SOURCE - 1}.{doc & ROWS_A_PART - 1}"


def parse_address(text: str, sources: list[str]) -> tuple[str, int, int]:
    """(source, part, row) of an address; ValueError says which sources there are."""
    name, _, rest = text.rpartition(".")
    name, _, part = name.rpartition(".")
    if name not in sources or not (_is_number(part) and _is_number(rest)):
        raise ValueError(
            f"no document {text!r}: an address is SOURCE.PART.ROW, with SOURCE one of {', '.join(sources)}"
        )
    return name, int(part), int(rest)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


@cache
def code_fingerprint(module: str) -> str:
    """Hash of the syntax trees of a module and of all polylm modules that it imports, but those without effect.

    Comments, docstrings and layout do not count. The price of trees over text: none; over versions by hand: a change
    that cannot change the output (a rename) also changes the fingerprint, and costs one re-computed part.
    """
    trees = {name: _code(name)[0] for name in sorted(_imported(module)) if name not in WITHOUT_EFFECT}
    return digest(trees)[:16]


def _feed(hasher: Any, array: pa.Array) -> None:
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _feed(hasher, array.cast(kind.value_type))
    hasher.update(f"{_type_name(kind)}:{len(array)}:{array.null_count};".encode())
    if array.null_count:
        hasher.update(np.packbits(np.asarray(array.is_null())).tobytes())
    if pa.types.is_null(kind):
        return None
    if pa.types.is_struct(kind):
        for name, values in zip((field.name for field in kind), array.flatten(), strict=True):
            hasher.update(name.encode())
            _feed(hasher, values)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        _feed_numbers(hasher, pc.list_value_length(array).fill_null(0), np.int64)
        _feed(hasher, array.flatten())
    elif _has_bytes(kind):
        empty = b"" if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else ""
        full = array.fill_null(empty) if array.null_count else array
        _feed_numbers(hasher, pc.binary_length(full), np.int64)
        _feed_bytes(hasher, full)
    elif pa.types.is_fixed_size_binary(kind):
        hasher.update(b"".join(value or b"" for value in array.to_pylist()))
    else:
        full = array.fill_null(0 if not pa.types.is_boolean(kind) else False) if array.null_count else array
        _feed_numbers(hasher, full)
    return None


def _feed_numbers(hasher: Any, array: pa.Array, dtype: Any = None) -> None:
    hasher.update(np.ascontiguousarray(array.to_numpy(zero_copy_only=False), dtype=dtype).view(np.uint8))


def _feed_bytes(hasher: Any, array: pa.Array) -> None:
    wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64 if wide else np.int32)[array.offset : array.offset + len(array) + 1]
    if len(array) and data is not None:
        hasher.update(memoryview(data)[int(ends[0]) : int(ends[-1])])


def _has_bytes(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_large_string(kind):
        return "string"
    return "list" if pa.types.is_list(kind) or pa.types.is_large_list(kind) else str(kind)


def _imported(module: str, seen: set[str] | None = None) -> set[str]:
    seen = set() if seen is None else seen
    if module in seen or module in WITHOUT_EFFECT or importlib.util.find_spec(module) is None:
        return seen
    seen.add(module)
    for name in _code(module)[1]:
        _imported(name, seen)
    return seen


def _polylm_imports(tree: ast.AST) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("polylm."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("polylm"):
            for alias in node.names:
                nested = f"{node.module}.{alias.name}"
                yield nested if _is_module(nested) else str(node.module)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@cache
def _code(module: str) -> tuple[str, tuple[str, ...]]:
    """The syntax tree of a module without docstrings, and the modules of ours that it imports.

    Kept, because stages share most of what they import: 2 s for all of them without it.
    """
    tree = ast.parse(_source(module))
    imports = tuple(_polylm_imports(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree), imports


def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    return Path(spec.origin).read_text() if spec and spec.origin else ""


def job_key(stage: str, version: int, identity: Mapping[str, Any]) -> str:
    """The key of one job: sha256 of what the stage is and of everything that it reads."""
    return digest([stage, version, identity])
