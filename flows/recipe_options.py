"""A recipe as a command asks for it: a named one with sources added (`--source`) and fields set (`--set`)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from polylm.deployments.settings import Settings
from polylm.flows.recipes import Recipe, named
from polylm.tasks.corpus.text import thresholds_of
from polylm.tasks.documents.sources import Source
from polylm.tasks.keys import file_digest
from polylm.tasks.run import File
from polylm.tasks.stage import Params

NAME_LETTERS = 64  # of a source


def resolve(
    name: str, sources: Sequence[str] = (), changes: Sequence[str] = (), settings: Settings | None = None
) -> Recipe:
    """A recipe by name with `NAME=PATH` sources added and `a.b=VALUE` fields set; ValueError says what is wrong."""
    values = named(name).model_dump(mode="json")
    for place, text in enumerate(sources):
        key, path = _split(text, "--source", "NAME=PATH")
        if not key.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"--source {text}: a source's name is made of letters, digits, - and _")
        if len(key) > NAME_LETTERS:
            raise ValueError(
                f"--source {text}: a source's name has at most {NAME_LETTERS} letters: it is in names of files"
            )
        if key in [text.partition("=")[0] for text in sources[:place]]:
            raise ValueError(f"--source {text}: there is a source {key} already; give each a name of its own")
        values["sources"][key] = Source(path=path).model_dump(mode="json")
    # Rule sets first, because they bring thresholds, over which what else is set stands.
    for text in sorted(changes, key=lambda text: not text.startswith("text.rules=")):
        key, value = _split(text, "--set", "a.b=VALUE")
        _set(values, key.split("."), value, text, settings or Settings())
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise ValueError("\n".join(_problem(problem) for problem in error.errors())) from error
    if not recipe.sources:
        raise ValueError(
            f"the recipe {name} has no sources: give --source NAME=PATH (a file, a folder, a glob or a URL)"
        )
    return recipe


def origins(name: str, sources: Sequence[str] = (), changes: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Every value of a resolved recipe with where it comes from: the default and its source, the recipe, an option."""
    default, by_name = Recipe(), named(name)
    resolved = resolve(name, sources, changes) if sources or changes or by_name.sources else by_name
    return list(_leaves(resolved, by_name, default, ""))


def _leaves(resolved: Any, by_name: Any, default: Any, path: str) -> Any:
    for field, about in type(resolved).model_fields.items():
        value, in_recipe, by_default = (
            getattr(resolved, field),
            getattr(by_name, field, None),
            getattr(default, field, None),
        )
        here = f"{path}.{field}" if path else field
        if isinstance(value, Params):
            yield from _leaves(value, in_recipe, by_default, here)
            continue
        if here == "sources":  # what may be said of a source, where there is none yet too
            for name, source in (value or {"NAME": Source(path="PATH")}).items():
                yield from _leaves(source, (in_recipe or {}).get(name), Source(path=source.path), f"{here}.{name}")
            continue
        extra = about.json_schema_extra if isinstance(about.json_schema_extra, dict) else {}
        origin = "option" if value != in_recipe else "recipe" if value != by_default else "default"
        yield {
            "field": here,
            "value": json.loads(resolved.model_dump_json(include={field}))[field],
            "origin": origin,
            "source": extra.get("source", ""),
            "unit": extra.get("unit", ""),
            "description": about.description or "",
            "choices": [choice for choice in get_args(about.annotation) if get_origin(about.annotation) is Literal],
        }


def _split(text: str, option: str, form: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise ValueError(f"{option} {text}: expected {option} {form}")
    return key, value


def _set(values: dict[str, Any], path: list[str], text: str, whole: str, settings: Settings) -> None:
    for depth, key in enumerate(path[:-1]):
        if not isinstance(values.get(key), dict):
            raise ValueError(f"--set {whole}: no field {'.'.join(path[: depth + 1])!r}; there are {', '.join(values)}")
        values = values[key]
        if depth + 2 < len(path) and _is_table(path[: depth + 1]):
            values.setdefault(path[depth + 1], {})
    key = path[-1]
    if key not in values and not _is_table(path[:-1]):
        raise ValueError(f"--set {whole}: no field {'.'.join(path)!r}; there are {', '.join(values)}")
    if text != "null" and _takes_a_file(path, values.get(key)):
        values[key] = _adopted(key, Path(text), settings)
        return
    try:
        values[key] = json.loads(text)
    except json.JSONDecodeError:
        values[key] = text.split(",") if isinstance(values.get(key), list) else text
    except (RecursionError, ValueError) as error:  # of depth, and of digits
        raise ValueError(f"--set {whole[:60]}...: {len(text):,} characters of JSON that cannot be read") from error
    _check_storable(values[key], whole)
    if path[-1] == "lists":
        values[key] = (
            [_with_adopted_file(one, settings) for one in values[key]] if isinstance(values[key], list) else values[key]
        )
    if path == ["text", "rules"]:
        values["thresholds"] = thresholds_of(values[key])


def _check_storable(value: Any, whole: str) -> None:
    """Refuse what no column can hold: integers of more than 64 bits, and text that is not Unicode's."""
    if isinstance(value, dict | list):
        for one in [*value, *value.values()] if isinstance(value, dict) else value:
            _check_storable(one, whole)
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"--set {whole}: {value} is out of bounds; expected a number of 64 bits")
    elif isinstance(value, str) and not value.isascii() and value != value.encode(errors="replace").decode():
        raise ValueError(f"--set {whole}: found a lone surrogate; expected Unicode text")


def _is_table(path: Sequence[str]) -> bool:
    """Whether a field holds values by language, to which new ones may be added; of the names of sources --source makes new ones."""
    kind: Any = Recipe
    for name in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[name].annotation if name in kind.model_fields else None
        else:
            kind = get_args(kind)[1] if get_origin(kind) is dict else None
    return get_origin(kind) is dict and get_args(kind)[1] is not Source


def _takes_a_file(path: Sequence[str], value: Any) -> bool:
    """Whether a field holds an adopted file, or may hold one."""
    if isinstance(value, Mapping):
        return value.keys() == File.model_fields.keys()
    return len(path) == 1 and File in get_args(Recipe.model_fields[path[0]].annotation)


def _with_adopted_file(entry: Any, settings: Settings) -> Any:
    """An entry of a list of files, its file named by path or, as a recipe names it, by name and digest."""
    if isinstance(entry, dict) and isinstance(entry.get("file"), str):
        return {**entry, "file": _adopted("file", Path(entry["file"]), settings)}
    return entry


# How the files of a field begin: hours may lie between a run's start and the stage that opens one.
_BEGINS = {
    "language_model": (b"\xba\x16\x4f\x2f", "a model of fastText (.bin or .ftz)"),
    "score_model": (b"PK\x03\x04", "a zip"),
    "instruct_model": (b"GGUF", "a GGUF file"),
}


def _adopted(field: str, path: Path, settings: Settings) -> dict[str, str]:
    """Link a file into the folder of models, so that the recipe can name it by content."""
    if not path.is_file():
        raise ValueError(f"{path} is no file; a model is set by the path of its file")
    magic, expected = _BEGINS.get(field, (b"", ""))
    with path.open("rb") as file:
        if (found := file.read(len(magic))) != magic:
            raise ValueError(f"{path} begins with {found!r}; {field} is {expected}, which begins with {magic!r}")
    sha256 = file_digest(path)
    target = settings.models / path.name
    if target.exists() and file_digest(target) != sha256:
        target = settings.models / f"{sha256[:12]}-{path.name}"
    if not target.exists():
        settings.models.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # a link to a file that is gone
        target.symlink_to(path.resolve())
    return {"name": target.name, "sha256": sha256}


def _problem(problem: Any) -> str:
    where = ".".join(str(piece) for piece in problem["loc"])
    if problem["type"] == "value_error":  # one of ours, which says what was found
        return f"{where}: {problem['ctx']['error']}"
    return f"{where}: {problem['msg']}, found {json.dumps(problem.get('input'), ensure_ascii=False, default=str)[:80]}"
