"""The server that a run starts for itself: how its start may end."""

import signal
import subprocess
import sys

import pytest
from samples import environment

from polylm.flows.prefect_server import wait_until_healthy

# What comes up while Prefect is being imported must not be swallowed there.
TERMINATED = """
import os, signal, sys
class Tells:
    def find_spec(self, name, path=None, target=None):
        if name == "prefect.settings.context":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Tells())
from polylm.flows.cli import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_comes_while_prefect_is_imported_ends_the_run(tmp_path, number):
    """A terminal that is closed ends it as SIGTERM does."""
    script = TERMINATED.replace("SIGTERM", number.name)
    words = [sys.executable, "-P", "-c", script, "run", "sample", "--until", "ingest", "--prefect"]
    variables = environment(PREFECT_HOME=tmp_path / "prefect")
    done = subprocess.run([*words, "--store", tmp_path / "store"], env=variables, capture_output=True, text=True)
    assert done.returncode == 128 + number, done.stderr
    assert done.stderr.splitlines()[-1] == "polylm: terminated; the same command goes on from here"


def test_a_server_that_ended_is_not_said_to_be_slow(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    process.wait()
    with pytest.raises(ValueError, match=r"the Prefect server ended \(signal 9\) before it answered; its log is "):
        wait_until_healthy("http://127.0.0.1:9/health", process, tmp_path / "log", "Prefect server")


def test_a_server_that_could_not_start_is_told_with_its_last_error(tmp_path):
    log = tmp_path / "log"
    words = [sys.executable, "-c", "import sys; print('waits'); sys.path.nosuch"]
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT)
    process.wait()
    with pytest.raises(
        ValueError, match=r"before it answered: AttributeError: 'list' .*'nosuch'; its log is .*\. start"
    ):
        wait_until_healthy("http://127.0.0.1:9/health", process, log, "Prefect server", "start it again")
