"""Who may use a store while `gc` moves things: every run and plan holds a shared lock, `gc` an exclusive one.

Kernel locks (`flock`), so any death frees them, and two sessions of one process do not free each other's. They reach as
far as the file system carries them: all processes of a host, and on NFS (v4, or v3 with lockd) all hosts.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polylm.tasks.store import StoreError


class InUse(StoreError):
    """Someone else holds what is needed; nothing was changed."""


@contextmanager
def used(root: Path, notice: Callable[[str], None]) -> Iterator[None]:
    """Hold the store against `gc` for as long as a run or plan lasts; waits where `gc` is at work."""
    try:
        lock = os.open(root / "work" / "runs.lock", os.O_RDONLY | os.O_CREAT, 0o666)
    except OSError:  # a store that may only be read: who reads it need not hold it
        yield
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            notice("waiting for gc, which is moving what no run needs")
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


@contextmanager
def alone(path: Path, message: str) -> Iterator[None]:
    """Hold a lock file against everyone, without waiting; InUse with that message where it is held."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUse(message) from error
        yield
    finally:
        os.close(lock)


def held_work(root: Path) -> list[str]:
    """Keys of the long jobs that are at work: `Store.locked` holds their locks."""
    return [path.parent.name for path in sorted((root / "work").glob("*/lock")) if _is_held(path)]


def _is_held(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("r+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
