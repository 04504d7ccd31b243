"""Being told to end, by SIGTERM, Ctrl-C or a terminal that is closed, wherever the process happens to be.

A handler raises between any two instructions, and some places lose what it raises: Python prints and forgets it in
`__del__` and in callbacks of weak references, C extensions clear it, and in the exit of a context another error may take
its place. Of 283 signals at random moments of a run in Prefect ten were lost so: the run went on, or was told as failed.
So they are heard below the handlers too, where Python writes each signal's number to a descriptor.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
AGAIN_SECONDS = 5.0  # within which a run that was told to end has killed its workers and left
LOOK_SECONDS = 0.5
_ends: list[socket.socket] = []  # where signals are read, and where Python writes them; for the life of the process


def listen() -> None:
    """Note from now on which signals come; without effect in other threads than the main one, and where an event loop does so."""
    if threading.current_thread() is not threading.main_thread():
        return
    if not _ends:
        _ends[:] = socket.socketpair()
        for end in _ends:
            end.setblocking(False)
    own = _ends[1].fileno()
    before = signal.set_wakeup_fd(own, warn_on_full_buffer=False)
    if before not in (-1, own):
        signal.set_wakeup_fd(before)


def told_to_end() -> signal.Signals | None:
    """The signal that told this process to end since it listens, or since `insisting` began; None where none did."""
    heard = _heard(socket.MSG_PEEK)  # left there, because several threads ask
    return next((signal.Signals(number) for number in heard if number in ENDS), None)


def _heard(flags: int = 0) -> bytes:
    try:
        return _ends[0].recv(1 << 16, flags) if _ends else b""
    except BlockingIOError:
        return b""


@contextlib.contextmanager
def insisting() -> Iterator[None]:
    """While this block has not been left, send a signal that told it to end again every few seconds."""
    listen()
    _heard()  # what was told before has ended what was before
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


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """Let nobody's impatience break an orderly end; in the main thread, which alone can say so."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
