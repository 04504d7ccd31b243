"""Starts the ranks of a job, on this machine or on several. Knows neither Prefect nor tasks. Standard library only.

On several, an agent on each (`model/agent.py`, through ssh or srun) starts that machine's ranks as this process would.
The agent's standard input is the lifeline over the network: it ends when this process dies, and ssh and srun hand that on.
"""

import json
import os
import shlex
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from polylm.model import watch
from polylm.model.ranks import Machine, run_ranks

_AGENT_SECONDS = 5.0  # that an agent gets to end, beyond what its ranks get
_SSH = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
_SRUN = ("srun", "--nodes=1", "--ntasks=1", "--overlap", "--unbuffered")
_CARRIED = ("DS_", "GLOO_", "LD_LIBRARY_PATH", "NCCL_", "PYTHON", "TORCH_", "TRITON_", "XDG_CACHE_HOME")


@dataclass(frozen=True)
class Hosts:
    """Machines that train together. All see the store, this Python environment and this folder at the same paths."""

    names: tuple[str, ...]
    launcher: Literal["ssh", "srun"] = "ssh"
    port: int = 29_500  # of the first host, where ranks meet
    interface: str = ""


def launch(
    job: Path,
    *,
    ranks: int,
    logs: Path,
    module: str = "polylm.model.train",
    devices: int = 0,
    threads: int = 1,
    hosts: Hosts | None = None,
    heartbeat_seconds: float = 1800.0,
    grace_seconds: float = 10.0,
    tick: watch.Tick = lambda: None,
) -> None:
    """Run `module` on `job` in `ranks` processes, on this machine or evenly on `hosts`; return when all ended well.

    Logs go to `logs`/rank-N.log (and host-N.log), started anew. `devices` is the number of GPUs of a machine; 0 hides
    them. If this process dies, even by SIGKILL, the ranks die too. If this call is left by an exception (Ctrl-C,
    SystemExit), they get SIGTERM, `grace_seconds`, then SIGKILL. While they work, `tick` is called about every second.

    Raises `RankError` when a rank or an agent fails or a rank is silent for `heartbeat_seconds` (the others are
    reaped), `Preempted` when a rank stopped as told, with its work saved.
    """
    logs.mkdir(parents=True, exist_ok=True)
    machine = Machine(
        module=module,
        job=str(job),
        logs=str(logs),
        first=0,
        ranks=ranks,
        world=ranks,
        master="127.0.0.1",
        port=0,
        interface="lo0" if sys.platform == "darwin" else "lo",  # Gloo need not resolve this machine's name
        devices=devices,
        threads=threads,
        heartbeat_seconds=heartbeat_seconds,
        grace_seconds=grace_seconds,
    )
    if hosts is None:
        run_ranks(replace(machine, port=_free_port()), tick)
    else:
        _run_agents(machine, hosts, tick)


def run_module(module: str, job: Path, *, logs: Path, devices: int = 0, threads: int = 1) -> None:
    """Run `module` (`polylm.model.score`, `polylm.model.generate`) on `job` in one process; errors as in `launch`."""
    launch(job, ranks=1, logs=logs, module=module, devices=devices, threads=threads)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _run_agents(machine: Machine, hosts: Hosts, tick: watch.Tick) -> None:
    started: list[watch.Child] = []
    held: list[int] = []
    try:
        for number, order in enumerate(_orders(machine, hosts)):
            lifeline, end = os.pipe()
            held.append(end)
            try:
                started.append(_start_agent(number, hosts, order, Path(machine.logs), lifeline))
            finally:
                os.close(lifeline)
        watch.wait(started, machine.heartbeat_seconds, tick)
    finally:
        watch.reap(started, machine.grace_seconds + _AGENT_SECONDS, lambda: _tell(held))
        for end in held:
            os.close(end)


def _orders(machine: Machine, hosts: Hosts) -> list[dict[str, object]]:
    """What each host's agent is to do."""
    here, left_over = divmod(machine.world, len(hosts.names))
    assert not left_over, "ranks are even on hosts"
    common = {
        "folder": str(Path.cwd()),
        # What ssh does not hand on. Nothing that a host sets for itself, as CUDA_VISIBLE_DEVICES, and no secrets.
        "environment": {name: value for name, value in os.environ.items() if name.startswith(_CARRIED)},
    }
    meeting = replace(
        machine, ranks=here, master=hosts.names[0].rpartition("@")[2], port=hosts.port, interface=hosts.interface
    )
    return [{**common, "machine": asdict(replace(meeting, first=number * here))} for number in range(len(hosts.names))]


def _start_agent(number: int, hosts: Hosts, order: dict[str, object], logs: Path, lifeline: int) -> watch.Child:
    path = (logs / f"host-{number}.json").absolute()
    path.write_text(json.dumps(order), encoding="utf-8")
    name = hosts.names[number]
    agent = [sys.executable, "-P", "-m", "polylm.model.agent", str(path)]
    words = [*_SSH, name, shlex.join(agent)] if hosts.launcher == "ssh" else [*_SRUN, f"--nodelist={name}", *agent]
    log = logs / f"host-{number}.log"
    process = watch.start(words, log, stdin=lifeline, environment=dict(os.environ))
    return watch.Child(f"host {name}", process, log, tail_lines=40)  # a rank's end is in it


def _tell(ends: list[int]) -> None:
    """Ask agents to stop: a signal would end ssh here, and no rank there could save its work."""
    for end in ends:
        with suppress(BrokenPipeError):  # an agent that has ended
            os.write(end, b"stop\n")
