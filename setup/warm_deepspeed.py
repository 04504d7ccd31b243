"""Compile DeepSpeed's shared-memory collective once, in one process, before any rank needs it.

    .venv/bin/python -P setup/warm_deepspeed.py

Ranks would compile it at their first start (40 s to 2 min) while their time-outs run, and one that is killed meanwhile
leaves a lock behind on which every later run waits without a word.
"""

import fcntl
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import IO

from polylm.model.launch import rank_environment

LONGEST_BUILD = 900  # seconds; two minutes were seen on two loaded cores

# DeepSpeed builds and loads the collective where it sets up a process group on a CPU.
PROGRAM = """
import deepspeed, deepspeed.comm, torch
deepspeed.init_distributed("gloo", auto_mpi_discovery=False)
one = torch.ones(1)
deepspeed.comm.all_reduce(one)
assert one.item() == 1.0, one
deepspeed.comm.destroy_process_group()
"""


def main() -> None:
    """Build unless that was done for these versions in this environment."""
    # Port 0: the one process of the group is also its store, which takes any free port.
    environment = rank_environment(0, 1, 0, devices=0, threads=1)
    folder = Path(environment["TORCH_EXTENSIONS_DIR"])
    stamp, key = folder / ".built-for", f"{sys.prefix} torch {version('torch')} deepspeed {version('deepspeed')}\n"
    if _text(stamp) == key:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".building").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # released by any death, unlike the lock file of torch
        if _text(stamp) != key:
            build(folder, environment, turn)
            stamp.write_text(key)


def build(folder: Path, environment: dict[str, str], turn: IO[str]) -> None:
    """Compile in a process of its own, which holds `turn` too, so that it outlives a kill of this one."""
    for left in folder.glob("*/lock"):
        left.unlink()  # torch would wait for it for ever; whoever built here before is gone
    sys.stderr.write("set-up: compiling DeepSpeed's collective, about a minute\n")
    log = folder / "build.log"
    command = [sys.executable, "-P", "-c", PROGRAM]
    with log.open("w") as output:
        try:
            subprocess.run(
                command,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LONGEST_BUILD,
                pass_fds=[turn.fileno()],
                check=True,
            )
        except subprocess.SubprocessError as error:
            how = f"took over {LONGEST_BUILD} s" if isinstance(error, subprocess.TimeoutExpired) else "failed"
            sys.exit(f"set-up: compiling DeepSpeed's collective {how}; its output is in {log}")


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    main()
