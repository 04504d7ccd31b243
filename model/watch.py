"""Child processes, watched: a log and a heartbeat each; who fails is named, the others are reaped. Standard library only."""

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from polylm.model.rank import PREEMPTED

_POLL_SECONDS = 0.1
_TICK_SECONDS = 1.0
Tick = Callable[[], None]
_DISK_FULL = (os.strerror(errno.ENOSPC), "unexpected pos ")  # the latter is what torch.save says of it


class RankError(RuntimeError):
    """A rank failed; the message names it and ends with the last lines of its log."""


class Preempted(OSError):
    """The ranks were told to stop and did, with a checkpoint: run again to go on."""


@dataclass
class Child:
    """A process that leads a session of its own."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    heartbeat: Path | None = None
    tail_lines: int = 25
    """How much of its log an error ends with."""

    _last_beat: int = field(default=-1, init=False)
    _since: float = field(default=0.0, init=False)

    def silent_seconds(self) -> float:
        """How long its heartbeat has not changed, by this machine's clock alone: that of a file server may differ."""
        if self.heartbeat is None:
            return 0.0
        beat = self.heartbeat.stat().st_mtime_ns
        if beat != self._last_beat:
            self._last_beat, self._since = beat, time.monotonic()
        return time.monotonic() - self._since

    def tail(self) -> str:
        """The end of its log, indented, from a new line on."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-self.tail_lines :]
        return "".join(f"\n  {line}" for line in lines) or " (empty)"


def start(words: Sequence[str], log: Path, *, stdin: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start `words` in a session of its own; its output begins `log` anew."""
    with log.open("wb") as out:
        return subprocess.Popen(
            words, stdin=stdin, stdout=out, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )


def wait(children: Sequence[Child], heartbeat_seconds: float, tick: Tick = lambda: None) -> None:
    """Return when all have ended well; raise as `launch` does when one has failed, stopped or fallen silent.

    `tick` is called about every second, and once at the good end.
    """
    running, due = list(children), 0.0
    while running:
        time.sleep(_POLL_SECONDS)
        if time.monotonic() >= due:
            tick()
            due = time.monotonic() + _TICK_SECONDS
        ended = [child for child in running if child.process.poll() is not None]
        running = [child for child in running if child not in ended]
        if failed := [child for child in ended if child.process.returncode]:
            raise _error(_guilty(failed))
        for child in running:
            if child.silent_seconds() > heartbeat_seconds:
                raise RankError(f"{child.name} was silent for {heartbeat_seconds:.0f} s{child.tail()}")
    tick()


def reap(children: Sequence[Child], grace_seconds: float, tell: Callable[[], None] | None = None) -> None:
    """End what still runs: SIGTERM (or `tell`, where a signal does not get there), a while to save, SIGKILL to the group."""
    if tell is None:
        _signal(children, signal.SIGTERM)
    else:
        tell()
    deadline = time.monotonic() + grace_seconds
    try:
        while time.monotonic() < deadline and any(child.process.poll() is None for child in children):
            time.sleep(_POLL_SECONDS)
    finally:
        _signal(children, signal.SIGKILL)
        for child in children:
            child.process.wait()


def _guilty(failed: list[Child]) -> Child:
    """The one to blame: one that was killed, then one that failed; the others often fail because of it."""
    codes = [child.process.returncode for child in failed]
    return min(zip(codes, failed, strict=True), key=lambda pair: (pair[0] == PREEMPTED, pair[0] > 0))[1]


def _error(child: Child) -> Exception:
    code = child.process.returncode
    if code == PREEMPTED:
        return Preempted(f"{child.name} was told to stop and saved its work; run again to go on")
    tail = child.tail()
    if any(words in tail for words in _DISK_FULL):
        return OSError(errno.ENOSPC, f"{child.name}: {os.strerror(errno.ENOSPC)}")
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
    return RankError(f"{child.name} {how}; the end of {child.log}:{tail}")


def _signal(children: Sequence[Child], number: signal.Signals) -> None:
    for child in children:
        if child.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(child.process.pid, number)
