"""Code that changed without a new version does not get mixed with what older code made (in a copy of the tree)."""

import shutil
import subprocess
import sys

import pytest
from samples import ODD_TEXTS, ROOT, environment, records_of, write_jsonl

from polylm.tasks.documents.clean import clean

PACKAGES = ("kernels", "model", "tasks", "flows")
KERNEL, STAGE = "kernels/clean_text.py", "tasks/documents/clean.py"
NOW = clean.version


@pytest.fixture
def tree(tmp_path):
    """A copy of the packages that shadows the installed one."""
    copy = tmp_path / "tree"
    (copy / "polylm").mkdir(parents=True)
    shutil.copy(ROOT / "polylm" / "__init__.py", copy / "polylm")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "sample"))
        (copy / "polylm" / package).symlink_to(f"../{package}")
    return copy


@pytest.fixture
def sources(tmp_path):
    """Two sources, of which the second is added later; both with texts that cleaning changes."""
    texts = [*ODD_TEXTS, *(f"Line one of {i}.\nhttp://an.address/{i}\nLine three." for i in range(20))]
    folder = tmp_path / "in"
    folder.mkdir()
    first = write_jsonl(folder / "first.jsonl", [{"text": text} for text in texts])
    return first, write_jsonl(folder / "second.jsonl", [{"text": f"{text} again"} for text in texts])


def edit(tree, old, new, path=KERNEL):
    file = tree / path
    assert old in file.read_text(), f"{path} no longer holds {old!r}: choose another edit"
    file.write_text(file.read_text().replace(old, new))


def polylm_run(tree, store, *sources):
    options = [word for path in sources for word in ("--source", f"{path.stem}={path}")]
    parts = ["--set", "ingest.part_rows=8", "--until", "clean", "--store", store, "--workers", "0", "--no-prefect"]
    return subprocess.run(
        [sys.executable, "-m", "polylm.flows.cli", "run", "corpus", *options, *parts],
        # A new place would be compiled anew, for half a minute; texts are few here.
        env=environment(NUMBA_DISABLE_JIT=1) | {"PYTHONPATH": str(tree)},
        cwd=tree.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_kernel_changed_without_a_new_version_stops_the_run_that_would_mix_and_says_which_to_raise(
    tree, sources, tmp_path
):
    first, second = sources
    store = tmp_path / "store"
    assert polylm_run(tree, store, first).returncode == 0
    made = len(records_of(store, "clean"))
    assert made >= 4

    # What the output cannot show is noted and passes: here a comment, then code that is never reached.
    edit(tree, "import numpy as np\n", "import numpy as np  # arrays\n")
    assert polylm_run(tree, store, first, second).returncode == 0
    assert not list((store / "checked").iterdir())
    edit(tree, "import numpy as np  # arrays\n", "import numpy as np\n\nNEVER_USED = 1\n")
    done = polylm_run(tree, store, first, second)
    assert done.returncode == 0, done.stderr
    assert [path.name.split("-")[:2] for path in (store / "checked").iterdir()] == [["clean", str(NOW)]]
    assert len(records_of(store, "clean")) == 2 * made

    # A change of the output stops before anything is written.
    edit(tree, "url_lines += 1", "url_lines += 2")
    third = write_jsonl(first.with_name("third.jsonl"), [{"text": "new"}])
    done = polylm_run(tree, store, first, second, third)
    assert done.returncode == 2
    assert "clean: its code changed since" in done.stderr
    assert f"(columns url_lines): raise its version to {NOW + 1}, or undo the change" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(records_of(store, "clean")) == 2 * made

    # With the version raised, everything is made again.
    edit(tree, f"version={NOW},", f"version={NOW + 1},", STAGE)
    done = polylm_run(tree, store, first, second, third)
    assert done.returncode == 0, done.stderr
    assert {record.version for record in records_of(store, "clean")} == {NOW, NOW + 1}


def test_code_that_fails_on_an_old_part_stops_the_run_too(tree, sources, tmp_path):
    first, second = sources
    assert polylm_run(tree, tmp_path / "store", first).returncode == 0
    edit(tree, "cleaned.url_lines).astype", "cleaned.no_such_thing).astype", STAGE)
    done = polylm_run(tree, tmp_path / "store", first, second)
    assert done.returncode == 2
    assert "no_such_thing" in done.stderr
    assert f"raise its version to {NOW + 1}" in done.stderr
