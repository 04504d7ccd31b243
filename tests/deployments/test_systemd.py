"""Units of systemd: what they start is there, and stopping a worker tells its runs first."""

import shlex
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from samples import environment, is_alive, wait_until

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deployments" / "systemd").glob("*.service"))
each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
TELLS = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print("ready", flush=True)
time.sleep(100)
"""


def settings(unit):
    """The lines NAME=VALUE of a unit."""
    lines = [line for line in unit.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@each_unit
def test_a_unit_starts_a_command_of_the_projects_environment_with_options_that_it_has(unit):
    program, *words = shlex.split(settings(unit)["ExecStart"])
    assert program.startswith("%h/polylm/.venv/bin/")
    here = Path(sys.executable).with_name(Path(program).name)
    command = [word for word in words if word.isalpha()][: 1 if here.name == "polylm" else 2]
    told = subprocess.run([here, *command, "--help"], env=environment(), capture_output=True, text=True, check=True)
    assert all(word in told.stdout for word in words if word.startswith("--"))


@each_unit
def test_a_unit_is_started_again_and_its_first_lines_say_how_it_is_installed(unit):
    told = settings(unit)
    assert (told["KillMode"], told["WorkingDirectory"]) == ("mixed", "%h/polylm")
    assert told["Restart"] in ("always", "on-failure")
    assert f"cp deployments/systemd/{unit.name} " in unit.read_text()


def test_a_worker_that_is_stopped_tells_its_runs_and_waits_for_them():
    unit = ROOT / "deployments" / "systemd" / "polylm-worker@.service"
    shell, option, script = shlex.split(settings(unit)["ExecStop"].replace("$$", "$").replace("%%", "%"))
    run = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {TELLS!r}]); import time; time.sleep(100)"
    worker = subprocess.Popen([sys.executable, "-c", run], stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout.readline() == "ready\n"
        (child,) = psutil.Process(worker.pid).children()
        began = time.monotonic()
        subprocess.run([shell, option, script.replace("$MAINPID", str(worker.pid))], check=True)
        assert wait_until(lambda: not is_alive(child), 1)
        assert time.monotonic() - began < 30, "it waited for what was gone"
        assert worker.poll() is None, "the worker was to be told last"
    finally:
        worker.kill()
