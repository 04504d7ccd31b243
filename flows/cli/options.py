"""The command's name and the options that several of its commands have."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter, Token

# Everything heavier is imported inside the one command that needs it: `polylm --help` takes under half a second.
if TYPE_CHECKING:
    from polylm.deployments.settings import Settings

app = App(
    name="polylm",
    help="From raw multilingual text to an evaluated, instruction-tuned language model.",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # `main` says that the run goes on from there
)


def _whole(_type: Any, tokens: Sequence[Token]) -> int:
    """A whole number as it stands: cyclopts would take 1.5 for 1."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r}: expected a whole number") from None


Whole = Annotated[int, Parameter(converter=_whole)]
RecipeName = Annotated[str, Parameter(help="A recipe, as `polylm recipes` lists them.")]
Sources = Annotated[
    list[str] | None, Parameter(name="--source", negative="", help="Your own text, NAME=PATH; may be repeated.")
]
Changes = Annotated[
    list[str] | None,
    Parameter(name="--set", negative="", help="Change a field of the recipe, a.b=VALUE; may be repeated."),
]
StoreOption = Annotated[  # text, not a Path: that of "" would be this folder, which `Settings` refuses
    str | None, Parameter(name="--store", help="The folder of artifacts (POLYLM_STORE, else ./store).")
]
Workers = Annotated[
    int | None,
    Parameter(name="--workers", converter=_whole, help="Worker processes; one a core by default, 0 for none."),
]
OnAlarm = Annotated[
    Literal["fail", "warn", "ask"] | None,
    Parameter(name="--on-alarm", help="What an alarm does; by default what the recipe says, on a terminal it asks."),
]
Until = Annotated[str | None, Parameter(name="--until", help="The last stage to run.")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]


def settings_of(store: str | None, workers: int | None = None) -> "Settings":
    """Where and how fast, from options and the environment."""
    from pydantic import ValidationError

    from polylm.deployments.settings import Settings

    given = {"store": store, "workers": workers}
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        told = [f"{_named(one['loc'], one['input'], given)}: {_message(one)}" for one in error.errors()]
        raise ValueError("; ".join(told).encode("utf-8", "backslashreplace").decode()) from error


def _named(field: Sequence[int | str], value: Any, given: Mapping[str, Any]) -> str:
    """How a setting was given: by an option, or else by the environment."""
    name = "_".join(map(str, field))
    return f"POLYLM_{name.upper()}={value}" if given.get(name) is None else f"--{name} {value or json.dumps(value)}"


def _message(error: Mapping[str, Any]) -> str:
    return str(error["msg"]).removeprefix("Value error, ")
