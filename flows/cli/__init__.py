"""The `polylm` command. Data goes to stdout, everything else to stderr; `--json` on whatever reads.

Exit codes: 0 well; 1 a run failed; 2 a mistake of the user's; 4 an alarm stopped the run; 5 `verify` found damage; 130 and
143 (129 by a closed terminal) interrupted: the same command goes on.
"""

import contextlib
import errno
import io
import os
import shutil
import signal
import sys
from typing import Any

from polylm.flows.cli import keeping, looking, running
from polylm.flows.cli.options import app
from polylm.tasks.maintenance import signals

# Of a terminal: options fit, and in one column cyclopts looks for a place to break a line without end.
LEAST_COLUMNS = 40

__all__ = ["app", "keeping", "looking", "main", "running"]  # the commands are there once their modules are imported


def main() -> None:
    """Run the command; turn a user's mistake into one line and exit 2."""
    _mend_streams()
    if shutil.get_terminal_size().columns < LEAST_COLUMNS:
        os.environ["COLUMNS"] = str(LEAST_COLUMNS)
    try:
        _main()
    finally:
        server = sys.modules.get("polylm.flows.prefect_server")
        if server is not None and server.is_away():
            _end_at_once()


def _main() -> None:
    signals.listen()
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, _terminate)
    try:
        app(sys.argv[1:])
    except BaseException as error:
        _end_if_told(error)
        if isinstance(error, Exception):  # else cyclopts has said what it expects
            _end_with(error)
        raise


def _terminate(number: int, _frame: Any) -> None:
    if server := sys.modules.get("polylm.flows.prefect_server"):
        server.let_calls_retry(False)
    raise SystemExit(128 + number)


def _end_if_told(error: BaseException) -> None:
    told = signals.told_to_end() or (signal.SIGINT if isinstance(error, KeyboardInterrupt) else None)
    if told:
        word = "interrupted" if told == signal.SIGINT else "terminated"
        _end(f"{word}; the same command goes on from here", 128 + told)


def _end_with(error: Exception) -> None:
    """Say what went wrong and end with its exit code; return where it is a fault of ours, which needs its trace."""
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0)
    if isinstance(error, OSError):  # a full disk, a folder that may not be written: no trace helps
        _end(f"{error}{_after(str(error))}", 1)
    if way_out := getattr(error, "way_out", None):  # of alarms, each of which was told when it was raised
        _end(way_out, 4)
    if isinstance(error, ValueError) or getattr(error, "is_mistake", False):
        _end(str(error), 2)
    if failures := getattr(error, "failures", None):
        if traces := [failure.trace for failure in failures if not failure.lasting]:
            print("\n".join(traces), file=sys.stderr)
        _end(f"{error}{_after(str(error))}", 1)


def _after(error: str) -> str:
    """What to do after an error of the machine's."""
    full = any(os.strerror(number) in error for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    room = "; make room there, or choose another store with --store" if full else ""
    return f"{room}; the same command goes on from here" if sys.argv[1:2] == ["run"] else room


def _mend_streams() -> None:
    """Open what a daemon's or cron's shell closed: the next file that is opened would stand for it. And say what cannot be shown."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _end_at_once() -> None:
    """End without Prefect's own end, which tries for seven seconds to deliver each event to a server that is gone."""
    error = sys.exc_info()[1]
    if error is not None and not isinstance(error, SystemExit):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(error.code or 0) if error is not None else 0)


def _end(message: str, code: int) -> None:
    with contextlib.suppress(OSError):  # the terminal is gone
        print(f"polylm: {message}", file=sys.stderr, flush=True)
    raise SystemExit(code)
