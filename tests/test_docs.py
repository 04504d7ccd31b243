"""What the documents say is done here as they say it: the filter of the guide, and the README's commands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "docs" / "adding-a-filter.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the tree in which the guide was followed, to the letter."""
    if (ROOT / "tasks/corpus/emoji.py").exists():
        pytest.skip("the guide was followed in this tree already")
    copy = tmp_path_factory.mktemp("guide") / "tree"
    kept = (
        "polylm",
        "flows",
        "tasks",
        "model",
        "kernels",
        "deployments",
        "tests/conftest.py",
        "tests/helpers",
        "pyproject.toml",
    )
    for name in kept:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy / name)
    stage, recipe_import, recipe, flow_import, measure, gate, test = re.findall(
        r"```python\n(.*?)```", GUIDE, re.DOTALL
    )
    (copy / "tasks/corpus/emoji.py").write_text(stage, encoding="utf-8")
    (copy / "tests/corpus").mkdir(parents=True, exist_ok=True)
    (copy / "tests/corpus/test_emoji.py").write_text(test, encoding="utf-8")
    _insert(copy / "flows/recipes.py", "    split: SplitParams", recipe)
    _insert(copy / "flows/recipes.py", "from polylm.tasks.corpus.language", recipe_import)
    _insert(copy / "flows/corpus.py", "    signatures = run(", measure)
    _insert(copy / "flows/corpus.py", "        run(filter_quality", gate)
    _insert(copy / "flows/corpus.py", "from polylm.tasks.corpus.language", flow_import)
    return copy


def test_the_guides_own_test_passes(tree):
    done = _python(
        tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "tests/corpus/test_emoji.py"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_new_stages_are_found_and_planned_with_nothing_else_changed(tree):
    listed = _python(tree, "-m", "polylm.flows.cli", "stages")
    assert re.search(r"filter_emoji\s+gate\s+Reject pages that are mostly emoji\.", listed.stdout), listed.stderr
    planned = _python(
        tree, "-m", "polylm.flows.cli", "plan", "sample", "--store", str(tree / "store"), "--until", "select"
    )
    assert planned.returncode == 0, planned.stderr
    assert {"measure_emoji", "filter_emoji"} <= {line.split()[0] for line in planned.stdout.splitlines()}


@pytest.mark.parametrize("command", re.findall(r"^polylm (?:recipes|stages|recipe \S+)(?= |$)", README, re.MULTILINE))
def test_a_reading_command_of_the_readme_runs(command, tmp_path):
    done = _python(ROOT, "-m", "polylm.flows.cli", *command.split()[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_command_of_the_readme_exists():
    named = set(re.findall(r"^(?:POLYLM_\S+ )*polylm (\w+)", README, re.MULTILINE))
    help_text = _python(ROOT, "-m", "polylm.flows.cli", "--help").stdout
    assert named
    assert {command for command in named if not re.search(rf"│ {command} ", help_text)} == set()


def test_every_file_that_the_readme_sends_one_to_exists():
    places = re.findall(r"`((?:tasks|flows|model|kernels|docs|setup)/[\w./-]+)`", README)
    assert len(places) > 10
    assert [place for place in places if not (ROOT / place).exists()] == []


def _insert(path: Path, before: str, text: str) -> None:
    content = path.read_text(encoding="utf-8")
    assert content.count(before) >= 1, f"{path.name} has no line with {before!r}"
    path.write_text(content.replace(before, text + before, 1), encoding="utf-8")


def _python(tree: Path, *arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Python with `polylm` from `tree`, in `tree` or elsewhere, as a user would start it."""
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    if tree != ROOT:
        # The import name alone, so that no other folder of the tree can be imported by its bare name.
        place = tree.parent / "import"
        place.mkdir(exist_ok=True)
        if not (place / "polylm").exists():
            (place / "polylm").symlink_to(tree / "polylm")
        environment["PYTHONPATH"] = str(place)
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd or tree, env=environment, capture_output=True, text=True
    )
