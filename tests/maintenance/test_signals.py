"""A process is told to end once: that is not lost, wherever it is, and what it does then knows why."""

import signal
import subprocess
import sys

import pytest
from samples import environment

from polylm.tasks.maintenance.signals import told_to_end

BEGINS = """
import os, signal, sys, time
from polylm.tasks.maintenance import signals
from polylm.flows.prefect_runs import boxed
def terminate(*_):
    raise SystemExit(128 + signal.SIGTERM)
signal.signal(signal.SIGTERM, terminate)
signals.AGAIN_SECONDS = 0.1
def tell(number=signal.SIGTERM):
    os.kill(os.getpid(), number)
"""

LOST_IN_A_FINALIZER = """
class Loses:
    def __del__(self):
        tell()
with signals.insisting():
    Loses()
    print("went on", flush=True)
    time.sleep(30)
"""

CLEARED_BY_AN_EXTENSION = """
def loses():
    try:
        tell()
    except SystemExit:
        pass
with signals.insisting():
    loses()
    print("went on", flush=True)
    time.sleep(30)
"""

IN_PLACE_OF_AN_ERROR = """
def work():
    try:
        tell()
    finally:
        raise ValueError("a token of another context")
with signals.insisting():
    boxed(work)
"""


def end_of(script):
    words = [sys.executable, "-P", "-c", BEGINS + script]
    return subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("script", [LOST_IN_A_FINALIZER, CLEARED_BY_AN_EXTENSION])
def test_a_signal_that_was_lost_is_sent_again(script):
    done = end_of(script)
    assert done.stdout == "went on\n"
    assert done.returncode == 128 + signal.SIGTERM, done.stderr


def test_an_error_that_takes_the_place_of_a_signal_does_not_hide_it():
    done = end_of(IN_PLACE_OF_AN_ERROR)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr


def test_ctrl_c_is_sent_again_as_ctrl_c():
    done = end_of(
        CLEARED_BY_AN_EXTENSION.replace("tell()", "tell(signal.SIGINT)").replace("SystemExit", "KeyboardInterrupt")
    )
    assert done.stdout == "went on\n"
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"


def test_other_signals_do_not_end_a_process():
    script = "with signals.insisting():\n    signal.signal(signal.SIGUSR1, lambda *_: None)\n    tell(signal.SIGUSR1)\n"
    done = end_of(script + "    time.sleep(1)\n    print(signals.told_to_end())")
    assert (done.stdout, done.returncode) == ("None\n", 0)


def test_an_event_loop_keeps_the_descriptor_that_it_has_set():
    script = "mine = os.pipe()\nos.set_blocking(mine[1], False)\nsignal.set_wakeup_fd(mine[1])\nsignals.listen()\n"
    done = end_of(script + "print(signal.set_wakeup_fd(-1) == mine[1])")
    assert done.stdout == "True\n", done.stderr


def test_nobody_has_told_this_process_to_end():
    assert told_to_end() is None


def test_an_orderly_end_is_not_broken_by_impatience():
    done = end_of(
        "with signals.ignored():\n    tell()\n    tell(signal.SIGINT)\n    print('went on', flush=True)\ntell()\n"
    )
    assert (done.stdout, done.returncode) == ("went on\n", 128 + signal.SIGTERM)
