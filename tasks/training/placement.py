"""From the settings of a machine, or of several, to where the ranks of a training run."""

import re
from pathlib import Path

from polylm.deployments.settings import Placement
from polylm.model.config import Placement as Layout
from polylm.model.launch import Hosts

_NAME = re.compile(r"(?![-.])[\w.@-]+")  # none that ssh could take for an option


def lay_out(placement: Placement, batch: int) -> Layout:
    """The settings' placement, with the largest micro-batch that divides what a copy gets of a batch."""
    own, rest = divmod(batch, placement.data_parallel)
    if rest:
        raise ValueError(
            f"batch: {batch} rows do not divide over POLYLM_DATA_PARALLEL={placement.data_parallel} copies"
        )
    micro = max(size for size in range(1, placement.micro_batch + 1) if own % size == 0)
    return Layout(
        tensor_parallel=placement.tensor_parallel,
        data_parallel=placement.data_parallel,
        zero_stage=placement.zero_stage,
        micro_batch=micro,
        threads=placement.threads,
    )


def find_hosts(placement: Placement, ranks: int) -> Hosts | None:
    """The machines that train together; None is this one alone.

    Raises `ValueError` where the ranks are not even on them, or more than a machine's GPUs.
    """
    names = host_names(placement.hosts)
    here, rest = divmod(ranks, max(1, len(names)))
    if rest:
        raise ValueError(
            f"{ranks} ranks (POLYLM_TENSOR_PARALLEL x POLYLM_DATA_PARALLEL) are not even on {len(names)} hosts: {', '.join(names)}"
        )
    if placement.devices and here > placement.devices:
        raise ValueError(
            f"{here} ranks a host (POLYLM_TENSOR_PARALLEL x POLYLM_DATA_PARALLEL) need {here} GPUs; POLYLM_DEVICES={placement.devices}"
        )
    if not names:
        return None
    return Hosts(names, placement.launcher, placement.port, placement.interface)


def host_names(hosts: str) -> tuple[str, ...]:
    """Read names with commas between them, or a hostfile: a name a line, `slots=8` and comments behind it left alone."""
    if "/" in hosts:
        path = Path(hosts).expanduser()
        if not path.is_file():
            raise ValueError(f"POLYLM_HOSTS: there is no hostfile {hosts}; expected one, or host names with commas")
        found = [line.split("#")[0].split() for line in path.read_text(encoding="utf-8").splitlines()]
        names = [words[0] for words in found if words]
    else:
        names = [name.strip() for name in hosts.split(",") if name.strip()]
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"POLYLM_HOSTS: {name!r} is no host name; expected names with commas, or the path of a hostfile"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"POLYLM_HOSTS names a host twice: {', '.join(names)}")
    return tuple(names)
