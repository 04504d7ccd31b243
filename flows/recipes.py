"""Complete, named settings of a run. A new run is a new function here.

Field defaults are our own best-known profile; every function returns a whole recipe. What says where or how fast is not
here but in `tasks.settings`.
"""

import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from polylm.tasks.corpus.language import FloorParams, LanguageParams, WantedParams
from polylm.tasks.documents.clean import CleanParams
from polylm.tasks.documents.ingest import IngestParams
from polylm.tasks.documents.sources import Source
from polylm.tasks.run import File
from polylm.tasks.settings import Settings
from polylm.tasks.stage import Field, Params

SAMPLE = Path(__file__).resolve().parent / "sample"
LID_176 = File(name="lid.176.ftz", sha256="8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83")


class Recipe(Params):
    """One run, stage by stage."""

    flow: Literal["corpus", "everything"] = Field(
        "everything", description="How far the run goes: data stages, or all."
    )
    sources: dict[str, Source] = Field(default={}, description="Where documents come from; add at the end.")
    ingest: IngestParams = Field(IngestParams(), description="How files become parts.")
    clean: CleanParams = Field(CleanParams(), description="What is cut from texts.")
    language_model: File = Field(LID_176, description="The fastText model that labels languages.")
    language: LanguageParams = Field(LanguageParams(), description="How languages are identified.")
    wanted: WantedParams = Field(WantedParams(), description="Which languages stay.")
    floors: FloorParams = Field(FloorParams(), description="How sure a label must be.")


def sample() -> Recipe:
    """The embedded sample through every stage: minutes on two cores."""
    return Recipe(
        sources={"sample": Source(path=str(SAMPLE / "documents.jsonl.gz"))},
        ingest=IngestParams(part_rows=32),
    )


def corpus() -> Recipe:
    """The data stages alone, for your own text (--source NAME=PATH)."""
    return Recipe(flow="corpus")


def all_recipes() -> dict[str, Callable[[], Recipe]]:
    """Every recipe by name, found by looking: the functions of this module that return one."""
    members = inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    return {
        name: member
        for name, member in members
        if inspect.signature(member).return_annotation is Recipe and not inspect.signature(member).parameters
    }


def resolve(
    name: str, sources: Sequence[str] = (), changes: Sequence[str] = (), settings: Settings | None = None
) -> Recipe:
    """A recipe by name with `NAME=PATH` sources added and `a.b=VALUE` fields set; ValueError says what is wrong."""
    known = all_recipes()
    if name not in known:
        raise ValueError(f"no recipe {name!r}: there are {', '.join(sorted(known))}")
    values = known[name]().model_dump(mode="json")
    for text in sources:
        key, path = _split(text, "--source", "NAME=PATH")
        if not key.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"--source {text}: a source's name is made of letters, digits, - and _")
        values["sources"][key] = {"path": path}
    for text in changes:
        key, value = _split(text, "--set", "a.b=VALUE")
        _set(values, key.split("."), value, text, settings or Settings())
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise ValueError("\n".join(_problem(problem) for problem in error.errors())) from error
    if not recipe.sources:
        raise ValueError(f"the recipe {name} has no sources: give --source NAME=PATH (a file, a folder or a glob)")
    return recipe


def origins(name: str, sources: Sequence[str] = (), changes: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Every value of a resolved recipe with where it comes from: the default and its source, the recipe, an option."""
    default, named = Recipe(), all_recipes()[name]()
    resolved = resolve(name, sources, changes) if sources or changes or named.sources else named
    return list(_leaves(resolved, named, default, ""))


def _leaves(resolved: Any, named: Any, default: Any, path: str) -> Any:
    for field, about in type(resolved).model_fields.items():
        value, in_recipe, by_default = (
            getattr(resolved, field),
            getattr(named, field, None),
            getattr(default, field, None),
        )
        here = f"{path}.{field}" if path else field
        if isinstance(value, Params):
            yield from _leaves(value, in_recipe, by_default, here)
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
    key = path[-1]
    if key not in values:
        raise ValueError(f"--set {whole}: no field {'.'.join(path)!r}; there are {', '.join(values)}")
    if isinstance(values[key], Mapping) and values[key].keys() == File.model_fields.keys():
        values[key] = _adopted(Path(text), settings)
        return
    try:
        values[key] = json.loads(text)
    except json.JSONDecodeError:
        values[key] = text


def _adopted(path: Path, settings: Settings) -> dict[str, str]:
    """Link a file into the folder of models, so that the recipe can name it by content."""
    from polylm.tasks.keys import file_digest

    if not path.is_file():
        raise ValueError(f"{path} is no file; a model is set by the path of its file")
    sha256 = file_digest(path)
    target = settings.models / path.name
    if target.exists() and file_digest(target) != sha256:
        target = settings.models / f"{sha256[:12]}-{path.name}"
    if not target.exists():
        settings.models.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path.resolve())
    return {"name": target.name, "sha256": sha256}


def _problem(problem: Any) -> str:
    where = ".".join(str(piece) for piece in problem["loc"])
    return f"{where}: {problem['msg']}, found {json.dumps(problem.get('input'), ensure_ascii=False, default=str)[:80]}"
