"""Run a module as a process that ends with the one that started it: `python -P -m polylm.flows.lifeline MODULE ARGS`.

Its standard input is the lifeline: whatever ends the parent closes it, and the process kills its group. Workers of Prefect
start flow runs in groups of their own, so those watch the pid in `POLYLM_PARENT` instead.
"""

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from polylm.tasks.maintenance.processes import is_alive

PARENT = "POLYLM_PARENT"
LOOK_SECONDS = 1.0
STOP_SECONDS = 15.0  # a run needs some to end its workers and write its record


def start(words: Sequence[str], log: Path, **more: str) -> "subprocess.Popen[bytes]":
    """Start `python -m WORDS` on a lifeline of this process; its output goes to `log`."""
    return spawn(["polylm.flows.lifeline", *words], log, {PARENT: str(os.getpid()), **more})


def spawn(words: Sequence[str], log: Path, more: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start `python -m WORDS` in a session of its own with a pipe of ours as its standard input.

    Its output goes to `log`; that of the one before stays as `log`.before, for who looks for why that ended.
    """
    if log.exists():
        log.replace(f"{log}.before")
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", *words],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **more},
        )


def end_with_parent() -> None:
    """Kill this process's group as soon as standard input closes; returns at once."""

    def watch() -> None:
        while os.read(0, 1 << 16):  # not sys.stdin, whose lock an ending interpreter wants
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def end_with_named_parent() -> None:
    """In a flow run's process: ask it to end, then kill it, once the process named in `POLYLM_PARENT` is gone."""
    if not (pid := os.environ.get(PARENT)):
        return

    began = time.time()

    def watch() -> None:
        while is_alive(int(pid), began):
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def stop(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """End processes and all that they started: SIGTERM, and SIGKILL to what is left after a while."""
    tree = [psutil.Process(process.pid) for process in processes if psutil.pid_exists(process.pid)]
    for process in list(tree):
        tree += process.children(recursive=True)
    for process in tree:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(tree, STOP_SECONDS)
    for process in alive:
        _signal(process, signal.SIGKILL)


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


if __name__ == "__main__":
    end_with_parent()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
