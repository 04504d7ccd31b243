"""Which field of a run's recipe a stage's params are, and how a change of them is written for `--set`.

words = set_words(run, here.manifest(entry), {"thresholds.th.dup_line_frac": 0.2})
words == ["text.thresholds.th.dup_line_frac=0.2"]
command_line(words) == "--set text.thresholds.th.dup_line_frac=0.2"

The dashboard does not know recipes' types (flows stand above it), but a run's record has its recipe, and a manifest the
params that its stage got: the field is the one whose value they are.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from polylm.dashboard.store_reading import Manifest
from polylm.tasks.maintenance.run_records import Run

Changes = Mapping[str, Any]  # a value by the dotted path of a field of the params


def field_of(run: Run, made: Manifest) -> str:
    """The recipe's field with the params of an artifact, as `text` of `filter_text`; "" where there is none, or no one."""
    found = [name for name, value in run.recipe.items() if made.params and value == made.params]
    return found[0] if len(found) == 1 else ""


def set_words(run: Run, made: Manifest, changes: Changes) -> list[str]:
    """What `--set` takes for every change; none where no field of the recipe has these params."""
    field = field_of(run, made)
    return [f"{field}.{path}={json.dumps(value, ensure_ascii=False)}" for path, value in changes.items() if field]


def command_line(words: Sequence[str]) -> str:
    """The options as a shell takes them; add them to the command that made the run."""
    return " ".join(option_lines(words))


def option_lines(words: Sequence[str]) -> list[str]:
    """The same, one by one."""
    return [f"--set {shlex.quote(word)}" for word in words]


def leaves(params: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in params that is no mapping, by its dotted path."""
    for name, value in params.items():
        here = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            yield from leaves(value, here)
        else:
            yield here, value


def changed(params: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """Params with some fields set, to be validated by the stage's own type; a table by language may get a new entry."""
    moved = json.loads(json.dumps(params))
    for path, value in changes.items():
        *above, last = path.split(".")
        assert (above or [last])[0] in moved, f"no field {path}"
        inner = moved
        for name in above:
            inner = inner.setdefault(name, {})
        inner[last] = value
    return moved  # type: ignore[no-any-return]
