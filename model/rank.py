"""What a rank does before anything heavy: it makes sure that it cannot outlive its launcher. Standard library only.

`python -P -m polylm.model.rank polylm.model.train job.json` runs the module after that.
"""

import ctypes
import faulthandler
import os
import runpy
import signal
import sys
import threading
from pathlib import Path

HEARTBEAT = "POLYLM_HEARTBEAT"
"""Variable that names the file which this rank touches while it gets on."""

_PR_SET_PDEATHSIG = 1

PREEMPTED = 75
"""Exit code of a rank that was told to stop, and stopped with its work saved (EX_TEMPFAIL)."""


def hold_lifeline() -> None:
    """Kill this process group when standard input ends, which it does when the launcher is gone, however it died."""
    if sys.platform == "linux":
        # A stopped process does not run its threads. The signal comes when the thread that started this one ends, which waits for it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_die_at_end_of_input, name="lifeline", daemon=True).start()


def beat() -> None:
    """Say that this rank is alive and getting on."""
    if path := os.environ.get(HEARTBEAT):
        Path(path).touch()


def _die_at_end_of_input() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


def main() -> None:
    """Hold the lifeline, then run the module named first with the arguments that follow."""
    hold_lifeline()
    faulthandler.register(signal.SIGUSR1)
    beat()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
