"""Makes a Dask cluster for `POLYLM_ENGINE=dask`, and keeps it until Ctrl-C.

    python -m polylm.deployments.dask local --workers 2
    python -m polylm.deployments.dask slurm --jobs 10 --cores 32 --memory 64GB --walltime 12:00:00 --queue cpu

The first line on standard output is the scheduler's address, for `POLYLM_SCHEDULER`. A thread of a worker is a process
of ours (`deployments.dask_worker`), so `cores` of a Slurm job are so many jobs at once. A cluster that others started
needs none of this: its address is enough, where its workers have polylm installed and see the store.
"""

import argparse
import contextlib
import inspect
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

# Dask is imported in the functions below: worker processes import this module again when it is the main one.
if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster
    from distributed import LocalCluster


def local(workers: int, host: str = "127.0.0.1", port: int = 0, scheduler_file: str | None = None) -> "LocalCluster":
    """A scheduler in this process and workers in processes of their own, one job each."""
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host=host,
        scheduler_port=port,
        dashboard_address=f"{host}:0",  # Dask's pages, else on every network of this machine
        worker_dashboard_address=f"{host}:0",
        memory_limit=0,  # a worker holds no data, and what its jobs take is bounded by the stages
        scheduler_kwargs={"scheduler_file": scheduler_file},
    )


def slurm(
    cores: int,
    memory: str,
    walltime: str,
    *,
    queue: str | None = None,
    account: str | None = None,
    interface: str | None = None,
    directives: Sequence[str] = (),
    prologue: Sequence[str] = (),
    logs: str = "dask-logs",
    scheduler_file: str | None = None,
) -> "SLURMCluster":
    """A scheduler in this process, and workers that come as Slurm jobs once it is scaled.

    `memory` (as "64GB") is what Slurm is asked for: count on 0.7 GB a core and what the whole-corpus stages take
    (docs/scaling.md). `interface` is the network card by which workers reach this machine (ib0).
    """
    ours = signal.getsignal(signal.SIGINT)
    from dask_jobqueue import SLURMCluster

    signal.signal(signal.SIGINT, ours)  # its import gives Ctrl-C a meaning of its own, in the whole process

    return SLURMCluster(
        cores=cores,
        processes=1,
        memory=memory,
        walltime=walltime,
        queue=queue,
        account=account,
        interface=interface,
        job_extra_directives=list(directives),
        job_script_prologue=["export PYTHONSAFEPATH=1", *prologue],
        python=sys.executable,
        log_directory=logs,
        scheduler_options={"dashboard": False, "scheduler_file": scheduler_file},
        worker_extra_args=["--no-dashboard", "--memory-limit", "0"],
    )


def main(arguments: list[str] | None = None) -> None:
    """Start what is asked for, say where it is, and stay."""
    asked = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):  # the latter too: a shell script's background jobs ignore it
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), asked.start(asked) as cluster:
        sys.stdout.write(f"{cluster.scheduler_address}\n")
        sys.stdout.flush()
        signal.pause()


def _start_local(asked: argparse.Namespace) -> "LocalCluster":
    return local(asked.workers, asked.host, asked.port, asked.scheduler_file)


def _start_slurm(asked: argparse.Namespace) -> "SLURMCluster":
    given = vars(asked)
    cluster = slurm(**{name: given[name] for name in inspect.signature(slurm).parameters})
    cluster.adapt(minimum_jobs=0, maximum_jobs=asked.jobs) if asked.adapt else cluster.scale(jobs=asked.jobs)
    return cluster


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="polylm.deployments.dask", description=(__doc__ or "").partition("\n")[0])
    kinds = parser.add_subparsers(required=True)
    here = kinds.add_parser("local", help="workers on this machine")
    here.set_defaults(start=_start_local)
    here.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    here.add_argument("--host", default="127.0.0.1", help="address to listen to; whoever reaches it can run code here")
    here.add_argument("--port", type=int, default=0, help="the scheduler's; 0 takes a free one")
    jobs = kinds.add_parser("slurm", help="workers as Slurm jobs")
    jobs.set_defaults(start=_start_slurm)
    jobs.add_argument("--jobs", type=int, required=True, help="Slurm jobs, each a worker")
    jobs.add_argument("--adapt", action="store_true", help="as many as there is work for, up to --jobs")
    jobs.add_argument("--cores", type=int, required=True, help="cores of a job")
    jobs.add_argument("--memory", required=True, help="memory of a job, as 64GB")
    jobs.add_argument("--walltime", required=True, help="longest life of a job, as 12:00:00")
    jobs.add_argument("--queue", help="Slurm's partition")
    jobs.add_argument("--account")
    jobs.add_argument("--interface", help="network card by which workers reach this machine")
    jobs.add_argument("--directive", dest="directives", action="append", default=[], help="another #SBATCH line")
    jobs.add_argument("--prologue", action="append", default=[], help="a shell line before a worker starts")
    jobs.add_argument("--logs", default="dask-logs", help="folder of the workers' logs")
    for kind in (here, jobs):
        kind.add_argument("--scheduler-file", help="write the address there too, for POLYLM_SCHEDULER")
    return parser


if __name__ == "__main__":
    main()
