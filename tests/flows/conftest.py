"""One Prefect server, one worker a pool and one dashboard serve all tests of `polylm up`, which are the last to run."""

import signal
import sys

import pytest
from samples import third_options, write_jsonl
from upped import few_records, upped

from polylm.flows import cli


def pytest_collection_modifyitems(items):
    """Tests that ask the servers go last, so that no other test has them beside it."""
    items.sort(key=lambda item: "up" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def up(tmp_path_factory):
    with upped(tmp_path_factory.mktemp("up")) as running:
        yield running


@pytest.fixture(scope="session")
def few(third, tmp_path_factory):
    """Those of the third's documents that are in a few languages."""
    return write_jsonl(tmp_path_factory.mktemp("few") / "few.jsonl", few_records())


@pytest.fixture(scope="session")
def changes(few):
    """The data stages over those, as changes in the form."""
    return [word for word in third_options(few) if word != "--set"]


@pytest.fixture
def polylm(capsys, monkeypatch, tmp_path):
    """The command, called in this process: its exit code, what it printed, and what it said beside it."""
    monkeypatch.chdir(tmp_path)

    def run_here(*words):
        monkeypatch.setattr(sys, "argv", ["polylm", *map(str, words)])
        before = signal.getsignal(signal.SIGTERM)
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        finally:
            signal.signal(signal.SIGTERM, before)
        return code, *capsys.readouterr()

    return run_here
