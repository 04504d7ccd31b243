"""Being told to end, by SIGTERM or Ctrl-C, wherever the process happens to be.

A handler raises between any two instructions, and some places lose what it raises: Python prints and forgets it in
`__del__` and in callbacks of weak references, C extensions clear it, and in the exit of a context another error may take
its place. Of 283 signals at random moments of a run in Prefect ten were lost so: the run went on, or was told as failed.
So they are heard below the handlers too, where Python writes each signal's number to a descriptor.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

ENDS = (signal.SIGTERM, signal.SIGINT)
AGAIN_SECONDS = 5.0  # within which a run that was told to end has killed its workers and left
LOOK_SECONDS = 0.5
_pipe: list[int] = []  # to read, to write; for the life of the process
_heard: list[int] = []


def listen() -> None:
    """Note from now on which signals come; without effect in other threads than the main one, and where an event loop does so."""
    if threading.current_thread() is not threading.main_thread():
        return
    if not _pipe:
        _pipe[:] = os.pipe()
        for end in _pipe:
            os.set_blocking(end, False)
    before = signal.set_wakeup_fd(_pipe[1], warn_on_full_buffer=False)
    if before not in (-1, _pipe[1]):
        signal.set_wakeup_fd(before)


def told_to_end() -> signal.Signals | None:
    """The signal that told this process to end since it listens, or since `insisting` began; None where none did."""
    if _pipe:
        with contextlib.suppress(BlockingIOError):
            _heard.extend(os.read(_pipe[0], 1 << 16))
    return next((signal.Signals(number) for number in _heard if number in ENDS), None)


@contextlib.contextmanager
def insisting() -> Iterator[None]:
    """While this block has not been left, send a signal that told it to end again every few seconds."""
    listen()
    told_to_end()
    _heard.clear()
    left = threading.Event()

    def insist() -> None:
        while not left.wait(LOOK_SECONDS):
            if (number := told_to_end()) and not left.wait(AGAIN_SECONDS):
                os.kill(os.getpid(), number)

    threading.Thread(target=insist, daemon=True).start()
    try:
        yield
    finally:
        left.set()


def end_if_told() -> None:
    """Hand a signal that told this process to end to its handler again, here, where what that raises is not lost."""
    if number := told_to_end():
        signal.raise_signal(number)
