"""The project as others get it: installed editable, as a wheel, and beside Hugging Face's package `kernels`."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINKS = sorted(path for path in (ROOT / "polylm").iterdir() if path.is_symlink())
LEFTOVERS = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def call(*command, cwd, **environment):
    """Run a command without PYTHONPATH, unless it is given, and return what it wrote."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PIP_USER")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**kept, "PYTHONSAFEPATH": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture
def tree(tmp_path):
    """A copy of what is installed: pyproject.toml, the README that it names, polylm/ and the folders that it links to."""
    copy = tmp_path / "tree"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    for folder in (ROOT / "polylm", *(link.resolve() for link in LINKS)):
        shutil.copytree(folder, copy / folder.name, symlinks=True, ignore=LEFTOVERS)
    return copy


@pytest.fixture
def fresh(tmp_path):
    """The bin folder of an empty environment that sees the packages of this one, but not its editable installs."""
    environment = tmp_path / "fresh"
    call(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    packages = environment / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    # A line of a .pth puts a folder on sys.path without reading the .pth files in it.
    (packages / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin"


OFFLINE = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")


def install_editable(tree, fresh):
    pip = (sys.executable, "-m", "pip", "--python", fresh / "python", "install", *OFFLINE, "--ignore-installed")
    call(*pip, "--editable", tree, cwd=tree.parent)


def test_an_edit_is_seen_by_the_installed_command(tree, fresh):
    install_editable(tree, fresh)
    assert "polylm" in call(fresh / "polylm", "--help", cwd=tree.parent)
    init = tree / "flows" / "__init__.py"
    init.write_text(init.read_text() + '\nimport sys\n\nsys.stderr.write("edited\\n")\n')
    assert "edited" in call(fresh / "polylm", "--help", cwd=tree.parent)


def test_a_new_package_is_seen_without_installing_again(tree, fresh):
    install_editable(tree, fresh)
    new = tree / "tasks" / "brand_new"
    new.mkdir()
    (new / "__init__.py").write_text('ORIGIN = "brand new"\n')
    program = "import polylm.tasks.brand_new as new; print(new.ORIGIN, new.__file__)"
    shown = call(fresh / "python", "-c", program, cwd=tree.parent)
    assert shown.startswith(f"brand new {tree}")


def test_an_editable_install_does_not_put_the_tree_on_the_path(tree, fresh):
    install_editable(tree, fresh)
    program = "from importlib.util import find_spec; print([find_spec(n) for n in ('kernels', 'tasks', 'flows')])"
    assert call(fresh / "python", "-c", program, cwd=tree).strip() == "[None, None, None]"


def test_a_wheel_made_from_the_source_archive_is_complete(tree, tmp_path):
    sdist = "from setuptools import build_meta; print(build_meta.build_sdist('../out'))"
    (tmp_path / "out").mkdir()
    call(sys.executable, "-c", sdist, cwd=tree)
    archive = next((tmp_path / "out").glob("*.tar.gz"))
    call(sys.executable, "-m", "pip", "wheel", *OFFLINE, "--wheel-dir", tmp_path / "out", archive, cwd=tmp_path)
    with zipfile.ZipFile(next((tmp_path / "out").glob("*.whl"))) as wheel:
        inside = set(wheel.namelist())
        wheel.extractall(tmp_path / "unpacked")
    assert wheel_files(ROOT) - inside == set()
    assert {"polylm/flows/sample/documents.jsonl.gz", "polylm/flows/sample/NOTICE.md"} <= inside
    (tmp_path / "empty").mkdir()
    names = ["polylm", *(f"polylm.{link.name}" for link in LINKS)]
    program = f"import importlib; print({{importlib.import_module(n).__file__ for n in {names}}})"
    shown = call(sys.executable, "-c", program, cwd=tmp_path / "empty", PYTHONPATH=str(tmp_path / "unpacked"))
    assert shown.count(str(tmp_path / "unpacked")) == len(names)


def wheel_files(root):
    """Every file under the linked folders, by its name in a wheel."""
    files = set()
    for link in LINKS:
        folder = (root / "polylm" / link.name).resolve()
        shown = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        files |= {f"polylm/{link.name}/{path.relative_to(folder)}" for path in shown if not path.name.startswith(".")}
    return files


# What transformers 5 takes from Hugging Face's `kernels` while it defines its models.
STAND_IN = """
from unittest.mock import MagicMock
def use_kernel_forward_from_hub(layer):
    return lambda model_class: model_class
def use_kernelized_func(function):
    return lambda model_class: model_class
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return MagicMock(name=name)
"""


@pytest.fixture
def hub_kernels(tmp_path):
    """A folder with a distribution `kernels` of a version that transformers accepts."""
    from transformers.utils.import_utils import KERNELS_MIN_VERSION

    site = tmp_path / "site"
    info = site / f"kernels-{KERNELS_MIN_VERSION}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kernels\nVersion: {KERNELS_MIN_VERSION}\n")
    (site / "kernels").mkdir()
    (site / "kernels" / "__init__.py").write_text(f'__version__ = "{KERNELS_MIN_VERSION}"\n{STAND_IN}')
    return site


def test_transformers_finds_its_own_kernels_from_the_root(hub_kernels):
    # Importing a model's class is what reads `kernels`; the lazy AutoModel alone would not.
    program = "from transformers import GPT2LMHeadModel; import kernels; print(kernels.__file__)"
    shown = call(sys.executable, "-c", program, cwd=ROOT, PYTHONPATH=str(hub_kernels))
    assert str(hub_kernels) in shown
