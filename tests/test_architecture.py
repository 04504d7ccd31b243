"""The layout, as a test: who may import whom, which names are safe, and how much machinery there is."""

import ast
import importlib.util
import sys

import pytest
from samples import ROOT

MAY_IMPORT = {
    "flows": ("flows", "tasks", "dashboard", "deployments.settings"),
    "dashboard": ("dashboard", "tasks", "kernels", "deployments.settings", "model.config", "model.sampler"),
    "tasks": ("tasks", "deployments", "kernels", "model.config", "model.rows", "model.launch", "model.metrics"),
    "deployments": ("deployments",),
    "model": ("model", "kernels"),
    "kernels": ("kernels",),
}
PREFECT_LIVES_IN = {
    "flows/deployed.py",
    "flows/prefect_artifacts.py",
    "flows/prefect_server.py",
    "flows/prefect_runs.py",
}
MACHINERY = {path.name for path in (ROOT / "tasks").glob("[!_]*.py")}
MODULES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text())
    for package in MAY_IMPORT
    for path in sorted((ROOT / package).rglob("*.py"))
}
each_module = pytest.mark.parametrize("name", MODULES)


def imports(name):
    """Full dotted names of everything that a module imports, anywhere in it, down to the imported object."""
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@each_module
def test_imports_point_downward(name):
    allowed = tuple(f"polylm.{prefix}." for prefix in MAY_IMPORT[name.split("/")[0]])
    ours = [target for target in imports(name) if target.split(".")[0] == "polylm"]
    assert [target for target in ours if not f"{target}.".startswith(allowed)] == []


@each_module
def test_our_packages_are_imported_by_their_full_name(name):
    bare = {*MAY_IMPORT, "tests"}
    assert [target for target in imports(name) if target.split(".")[0] in bare] == []


def test_prefect_stays_in_its_places():
    users = {name for name in MODULES if any(target.split(".")[0] == "prefect" for target in imports(name))}
    assert users == PREFECT_LIVES_IN


def test_no_flow_file_shadows_a_package():
    """Prefect puts flows/ first on sys.path, so flows/datasets.py would hide `datasets`."""
    stems = {path.stem for path in (ROOT / "flows").glob("[!_]*.py")}
    assert stems
    assert not stems & sys.stdlib_module_names
    assert [stem for stem in stems if importlib.util.find_spec(stem)] == []


def test_our_packages_are_not_importable_by_their_bare_names():
    """transformers looks for a package called `kernels`: ours, or the tests' folder of that name, must not be it."""
    assert [name for name in ("kernels", "tasks", "flows") if importlib.util.find_spec(name)] == []


def test_dask_is_imported_in_its_place_only():
    users = {
        name for name in MODULES if any(target.split(".")[0] in ("dask", "distributed") for target in imports(name))
    }
    assert {name.split("/")[0] for name in users} == {"deployments"}


def test_the_machinery_is_small():
    assert len(MACHINERY) <= 10
    lines = sum(len((ROOT / "tasks" / name).read_text().splitlines()) for name in MACHINERY)
    assert lines <= 2_300, f"{lines} lines in tasks/*.py; about 2,000 are allowed"


def test_every_module_says_what_it_is():
    silent = [name for name, tree in MODULES.items() if tree.body and not ast.get_docstring(tree)]
    assert silent == []
