"""Starts ranks as subprocesses, watches and reaps them. Knows neither Prefect nor tasks. Standard library only."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from polylm.model.rank import HEARTBEAT, PREEMPTED

_POLL_SECONDS = 0.1
_TAIL_LINES = 25
_DISK_FULL = (os.strerror(errno.ENOSPC), "unexpected pos ")  # the latter is what torch.save says of it


class RankError(RuntimeError):
    """A rank failed; the message names it and ends with the last lines of its log."""


class Preempted(OSError):
    """The ranks were told to stop and did, with a checkpoint: run again to go on."""


@dataclass
class _Rank:
    number: int
    process: subprocess.Popen[bytes]
    log: Path
    heartbeat: Path

    def silent_seconds(self) -> float:
        return time.time() - self.heartbeat.stat().st_mtime


def launch(
    job: Path,
    *,
    ranks: int,
    logs: Path,
    module: str = "polylm.model.train",
    devices: int = 0,
    threads: int = 1,
    heartbeat_seconds: float = 1800.0,
    grace_seconds: float = 10.0,
) -> None:
    """Run `module` on `job` in `ranks` processes of this machine and return when all ended well.

    Logs go to `logs`/rank-N.log, started anew. `devices` is the number of GPUs; 0 hides them. Each rank is in a
    session of its own and holds the end of a pipe: if this process dies, even by SIGKILL, they die too. If this
    call is left by an exception (Ctrl-C, SystemExit), they get SIGTERM, `grace_seconds`, then SIGKILL.

    Raises `RankError` when a rank fails or is silent for `heartbeat_seconds` (the others are reaped), `Preempted`
    when a rank stopped as told, with its work saved.
    """
    logs.mkdir(parents=True, exist_ok=True)
    lifeline, held = os.pipe()
    port = _free_port()
    started: list[_Rank] = []
    try:
        for number in range(ranks):
            environment = rank_environment(number, ranks, port, devices=devices, threads=threads)
            started.append(_start(number, [module, str(job)], logs, environment, lifeline))
        _wait(started, heartbeat_seconds)
    finally:
        _reap(started, grace_seconds)
        os.close(lifeline)
        os.close(held)


def run_module(module: str, job: Path, *, logs: Path, devices: int = 0, threads: int = 1) -> None:
    """Run `module` (`polylm.model.score`, `polylm.model.generate`) on `job` in one process; errors as in `launch`."""
    launch(job, ranks=1, logs=logs, module=module, devices=devices, threads=threads)


def rank_environment(number: int, ranks: int, port: int, *, devices: int, threads: int) -> dict[str, str]:
    """Give the environment of a rank: this one's, and what torch.distributed and DeepSpeed look for."""
    environment = {
        **os.environ,
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        # All ranks are on this machine: Gloo need not resolve its name, nor listen to the network.
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "TORCH_EXTENSIONS_DIR": str(_cache() / "torch_extensions"),
        # A virtual environment that is not activated does not have its ninja on PATH.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    if not devices:
        environment |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return environment


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polylm"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(number: int, entry: list[str], logs: Path, environment: dict[str, str], lifeline: int) -> _Rank:
    heartbeat = logs / f"rank-{number}.heartbeat"
    heartbeat.touch()
    os.utime(heartbeat)
    log = logs / f"rank-{number}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "polylm.model.rank", *entry],
            stdin=lifeline,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**environment, HEARTBEAT: str(heartbeat)},
            start_new_session=True,
        )
    return _Rank(number, process, log, heartbeat)


def _wait(ranks: list[_Rank], heartbeat_seconds: float) -> None:
    running = list(ranks)
    while running:
        time.sleep(_POLL_SECONDS)
        ended = [rank for rank in running if rank.process.poll() is not None]
        running = [rank for rank in running if rank not in ended]
        if failed := [rank for rank in ended if rank.process.returncode]:
            raise _error(_guilty(failed))
        for rank in running:
            if rank.silent_seconds() > heartbeat_seconds:
                raise RankError(f"rank {rank.number} was silent for {heartbeat_seconds:.0f} s{_tail(rank.log)}")


def _guilty(failed: list[_Rank]) -> _Rank:
    """The rank to blame: one that was killed, then one that failed; the others often fail because of it."""
    return min(
        failed, key=lambda rank: (rank.process.returncode == PREEMPTED, rank.process.returncode > 0, rank.number)
    )


def _error(rank: _Rank) -> Exception:
    code = rank.process.returncode
    if code == PREEMPTED:
        return Preempted(f"rank {rank.number} was told to stop and saved its work; run again to go on")
    tail = _tail(rank.log)
    if any(words in tail for words in _DISK_FULL):
        return OSError(errno.ENOSPC, f"rank {rank.number}: {os.strerror(errno.ENOSPC)}")
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
    return RankError(f"rank {rank.number} {how}; the end of {rank.log}:{tail}")


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
    return "".join(f"\n  {line}" for line in lines) or " (empty)"


def _reap(ranks: list[_Rank], grace_seconds: float) -> None:
    """End what still runs: SIGTERM, a while to save, SIGKILL to the whole group."""
    _signal(ranks, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    try:
        while time.monotonic() < deadline and any(rank.process.poll() is None for rank in ranks):
            time.sleep(_POLL_SECONDS)
    finally:
        _signal(ranks, signal.SIGKILL)
        for rank in ranks:
            rank.process.wait()


def _signal(ranks: list[_Rank], number: signal.Signals) -> None:
    for rank in ranks:
        if rank.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(rank.process.pid, number)
