"""Which stages a flow runs, in their order, read from its source: no recipe is needed, and every branch counts."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from polylm.tasks.run import run
from polylm.tasks.stage import Stage


def stages_in_order(flow: Callable[..., Any]) -> list[str]:
    """The names of all stages that a flow function may run, through the functions of `flows/` that it calls."""
    return list(dict.fromkeys(_stages(inspect.unwrap(flow))))


def _stages(function: Callable[..., Any]) -> Iterator[str]:
    known = inspect.getmodule(function).__dict__
    for call in _calls(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        called = known.get(call.func.id) if isinstance(call.func, ast.Name) else None
        if called is run:
            stage = known[call.args[0].id] if isinstance(call.args[0], ast.Name) else None
            assert isinstance(stage, Stage), f"{function.__name__} runs what has no name: {ast.unparse(call)}"
            yield stage.name
        elif inspect.isfunction(called) and called.__module__.startswith("polylm.flows."):
            yield from _stages(inspect.unwrap(called))


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """As they are made: what stands among a call's arguments is called before it."""
    for child in ast.iter_child_nodes(node):
        yield from _calls(child)
    if isinstance(node, ast.Call):
        yield node
