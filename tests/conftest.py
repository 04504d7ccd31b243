"""Makes `tests/helpers` importable, here and in worker processes, and builds what many tests read once a run."""

import fcntl
import json
import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

# Only this folder: tests/ holds folders called kernels, model and tasks, which must not be importable by those names.
HELPERS = str(Path(__file__).resolve().parent / "helpers")
sys.path.insert(0, HELPERS)  # spawned workers inherit it
settings.register_profile("untimed", deadline=None)  # a busy machine is no failure of an example
settings.load_profile("untimed")
# Where this runs in the background of a shell Ctrl-C is ignored, and every process that a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and where nohup runs it, SIGHUP

from samples import MODEL, call, command, third_options, third_records, write_jsonl  # noqa: E402


@pytest.fixture
def toy_folder(tmp_path, monkeypatch):
    """Where toy stages leave marks."""
    folder = tmp_path / "marks"
    folder.mkdir()
    monkeypatch.setenv("TOY_FOLDER", str(folder))
    return folder


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """One folder for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def third(shared_folder):
    """A third of the sample's documents as a JSONL file."""
    if not MODEL.exists():
        pytest.skip(f"{MODEL} is not there: `make install` fetches it")
    with once(shared_folder / "third") as (folder, is_first):
        if is_first:
            write_jsonl(folder / "third.jsonl", third_records())
    return folder / "third.jsonl"


@pytest.fixture(scope="session")
def third_store(third, shared_folder):
    """The store of an undisturbed run of the data stages on that third, with two workers. Copy it before changing it."""
    with once(shared_folder / "third-store") as (folder, is_first):
        if is_first:
            words = command("run", "sample", *third_options(third), "--store", folder / "store", "--workers", 2)
            (folder / "said.json").write_text(call([*words, "--no-prefect", "--json"]))
    return folder / "store"


@pytest.fixture
def third_copy(third_store, tmp_path):
    """A copy of that store: hard links, because what is in it is never changed in place."""
    for name in ("parts", "folders", "artifacts", "runs", "checked", "seen"):
        shutil.copytree(third_store / name, tmp_path / "copy" / name, copy_function=os.link)
    return tmp_path / "copy"


class once:
    """Do something in one of several processes; the others wait until it is done."""

    def __init__(self, folder):
        self._folder = folder

    def __enter__(self):
        self._folder.mkdir(exist_ok=True)
        self._lock = (self._folder / "lock").open("w")
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        self._done = self._folder / "done"
        return self._folder, not self._done.exists()

    def __exit__(self, kind, *error):
        if kind is None:
            self._done.write_text(json.dumps(True))
        self._lock.close()


def pytest_terminal_summary(terminalreporter):
    """The table of the hostile tests: what was tried, and how many of them reached anything."""
    reports = [r for several in terminalreporter.stats.values() for r in several if isinstance(r, pytest.TestReport)]
    tried = {one.nodeid: n for one in reports for name, n in one.user_properties if name == "attacks"}
    if not tried:
        return
    families = Counter()
    for test, count in tried.items():
        families[test.partition("::")[2].partition("[")[0]] += count
    failed = {one.nodeid for one in reports if one.failed and "test_hostile" in one.nodeid}
    terminalreporter.section("attacks on the dashboard")
    for family, count in families.items():
        terminalreporter.write_line(f"{count:>8,}  {family}")
    terminalreporter.write_line(f"{families.total():>8,}  in all; tests in which one succeeded: {len(failed)}")
