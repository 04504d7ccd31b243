"""The ranks of one machine: their environment, their lifeline, their end. Standard library only."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from polylm.model import watch
from polylm.model.rank import HEARTBEAT


@dataclass(frozen=True)
class Machine:
    """Which ranks of a job a machine runs, and where they meet the others."""

    module: str
    job: str
    logs: str
    first: int  # its first rank; they are consecutive
    ranks: int
    world: int  # ranks of all machines
    master: str  # the machine that has rank 0
    port: int
    interface: str  # network interface to the others; "" leaves the choice to Gloo and NCCL
    devices: int  # GPUs of this machine; 0 hides them
    threads: int
    heartbeat_seconds: float
    grace_seconds: float


def run_ranks(machine: Machine, tick: watch.Tick = lambda: None) -> None:
    """Run a machine's ranks to their end; see `launch` for what is raised.

    Each rank is in a session of its own and holds the end of a pipe: if this process dies, even by SIGKILL, so do they.
    """
    lifeline, held = os.pipe()
    started: list[watch.Child] = []
    try:
        for local in range(machine.ranks):
            started.append(_start(machine, local, lifeline))
        watch.wait(started, machine.heartbeat_seconds, tick)
    finally:
        watch.reap(started, machine.grace_seconds)
        os.close(lifeline)
        os.close(held)


def rank_environment(machine: Machine, local: int) -> dict[str, str]:
    """Give the environment of a rank: this one's, and what torch.distributed and DeepSpeed look for."""
    environment = {
        **os.environ,
        "RANK": str(machine.first + local),
        "LOCAL_RANK": str(local),
        "WORLD_SIZE": str(machine.world),
        "LOCAL_WORLD_SIZE": str(machine.ranks),
        "MASTER_ADDR": machine.master,
        "MASTER_PORT": str(machine.port),
        "OMP_NUM_THREADS": str(machine.threads),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "TORCH_EXTENSIONS_DIR": str(torch_extensions()),
        # A virtual environment that is not activated does not have its ninja on PATH.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    if machine.interface:
        environment |= {"GLOO_SOCKET_IFNAME": machine.interface, "NCCL_SOCKET_IFNAME": machine.interface}
    if not machine.devices:
        environment |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return environment


def torch_extensions() -> Path:
    """Where DeepSpeed's compiled parts are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polylm" / "torch_extensions"


def _start(machine: Machine, local: int, lifeline: int) -> watch.Child:
    rank = machine.first + local
    log, heartbeat = (Path(machine.logs, f"rank-{rank}.{kind}") for kind in ("log", "heartbeat"))
    heartbeat.touch()
    words = [sys.executable, "-P", "-m", "polylm.model.rank", machine.module, machine.job]
    environment = {**rank_environment(machine, local), HEARTBEAT: str(heartbeat)}
    process = watch.start(words, log, stdin=lifeline, environment=environment)
    return watch.Child(f"rank {rank}", process, log, heartbeat)
