"""Fields of the forms in Prefect: what is typed there is trimmed, and a bad value is refused at its field, in words.

Prefect checks a form against its JSON schema, when it is sent, and shows the checker's own messages: of a pattern the pattern
itself. So a pattern stands in a condition here, and what is expected in its consequence: "'NAME=PATH, ...' was expected".
What a schema cannot express, the recipe's own check says at once, as the message of the run's state.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from polylm.flows.recipes import Recipe

# Pydantic refuses lone surrogates by itself. The schema must too: Prefect's database keeps such a run, and then answers
# nobody who asks for runs to work on. Python's `re` reads the schema; pydantic's own engine could not.
_TEXT = r"[^\x00-\x1f\ud800-\udfff]+\s*$"
_FIELDS = "|".join(Recipe.model_fields)


def expected(pattern: str, words: str) -> dict[str, Any]:
    """The schema of a text that matches a pattern; what does not is told that `words` were expected."""
    return {"if": {"not": {"pattern": pattern}}, "then": {"const": words}}


def bounds_told(schema: dict[str, Any]) -> None:
    """Move the bounds of a number that may be left out to where the checker names them, not only that no choice fits."""
    number = next(choice for choice in schema["anyOf"] if choice["type"] != "null")
    schema |= {bound: number.pop(bound) for bound in ("minimum", "maximum")}


def some_source(recipes: Sequence[str], *, by_default: bool) -> dict[str, Any]:
    """The schema of a form in which these recipes need a source, as a field or as changes; `by_default` one of them is meant."""
    named = {"properties": {"recipe": {"enum": [*recipes]}}, "required": [] if by_default else ["recipe"]}
    changed = {"properties": {"changes": {"contains": {"pattern": r"^\s*sources\."}}}, "required": ["changes"]}
    none = {"if": {"maxItems": 0}, "then": {"const": "at least one source, NAME=PATH"}}
    return {
        "if": {"allOf": [named, {"not": changed}]},
        "then": {"properties": {"sources": none}, "required": ["sources"]},
    }


def _trimmed(text: str) -> str:
    """Without white space around it and around its first `=`, such as the newline of what was pasted."""
    return "=".join(word.strip() for word in text.strip().split("=", 1))


def _text(pattern: str, words: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **expected(pattern, words)})


NamedSource = Annotated[
    str,
    AfterValidator(_trimmed),
    _text(rf"^\s*[A-Za-z0-9_-]+\s*={_TEXT}", "NAME=PATH, such as mine=folder/of/files, on one line"),
]
Change = Annotated[
    str,
    AfterValidator(_trimmed),
    _text(
        rf"^\s*({_FIELDS})(\.[A-Za-z0-9_-]+)*\s*={_TEXT}",
        "FIELD=VALUE, such as alarms.max_source_loss=0.9, on one line, with a FIELD that `polylm recipe NAME` lists",
    ),
]
Language = Annotated[
    str, AfterValidator(str.strip), _text(r"^\s*[a-z]{2,3}\s*$", "a code of two or three letters, such as en")
]
Folder = Annotated[
    str,
    AfterValidator(str.strip),
    Field(json_schema_extra=expected(rf"^\s*$|^{_TEXT}", "the path of a folder, on one line")),
]
