"""The client's side of a Dask cluster, as `tasks.pool` wants its engines. Import it only where Dask is the engine."""

import os
import socket
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from distributed import Client, KilledWorker

from polylm.deployments.dask_worker import WorkerDied, carry_out, end_idle, order

CONNECT_SECONDS = 30.0  # to find the scheduler, and to find it again
LOOK_SECONDS = 5.0  # between looks at how large the cluster is: it may grow and shrink


class DaskEngine:
    """Sends jobs to a cluster that somebody else started, and takes them back when it is closed.

    Dask gives the jobs of a lost worker to others; one that loses four workers is given up (KilledWorker). What is
    sent and received is pickled, and whoever reaches the scheduler can run code: keep it in a private network, or
    configure TLS (`distributed.comm.tls`), which is used here as configured.
    """

    lost: tuple[type[Exception], ...] = (KilledWorker, WorkerDied)

    def __init__(
        self, scheduler: str, notice: Callable[[str], None], *, connect_seconds: float = CONNECT_SECONDS
    ) -> None:
        self._client = _connect(scheduler, connect_seconds)
        self._executor = self._client.get_executor(pure=False)  # pure: equal calls would be one
        self._notice = notice
        self._token: Path | None = None
        self._slots, self._looked = 0, float("-inf")

    def slots(self) -> int:
        """How many jobs the cluster runs at once."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            before, self._slots = self._slots, sum(self._nthreads().values())
            if not self._slots and (before or self._looked < 0):
                self._notice(f"the cluster at {self._client.scheduler.address} has no workers: jobs wait for them")
            self._looked = time.monotonic()
        return self._slots

    def submit(self, title: str, store: Path, function: Callable[..., Any], *args: Any) -> "Future[Any]":
        """`function` on `args`, in a process of some worker that sees the store."""
        self._token = self._token or _mark(store)
        what = order(title, function, args, self._token)
        sent: Future[Any] = self._executor.submit(
            carry_out, what, key=f"{title.replace(' ', '-')}-{uuid.uuid4().hex[:8]}"
        )
        return sent

    def recycle(self) -> None:
        """Nothing: a Dask worker's nanny watches its memory, and its idle processes end by themselves."""

    def close(self, *, kill: bool) -> None:
        """Leave the cluster as it was: jobs in flight end within a second, where `kill` does not wait for them."""
        try:
            self._executor.shutdown(wait=not kill)
            if self._client.status == "running":
                self._client.run(end_idle, on_error="ignore", wait=not kill)
        except OSError as error:  # the scheduler is gone: its workers end with it
            self._notice(f"the Dask cluster was not told that the run has ended: {error}")
        finally:
            self._client.close()
            if self._token:
                self._token.unlink(missing_ok=True)

    def _nthreads(self) -> dict[str, int]:
        try:
            found: dict[str, int] = self._client.nthreads()
        except OSError as error:
            raise ConnectionError(f"the Dask scheduler is gone: {error}") from error
        return found


def _connect(scheduler: str, seconds: float) -> Client:
    """A client of the scheduler at an address, or of the one that a scheduler file names."""
    if not scheduler:
        raise ValueError("POLYLM_ENGINE=dask needs POLYLM_SCHEDULER: tcp://HOST:PORT, or the path of a scheduler file")
    if "://" not in scheduler and not Path(scheduler).is_file():
        raise ValueError(f"POLYLM_SCHEDULER={scheduler} is neither an address (tcp://HOST:PORT) nor a scheduler file")
    named = {"address": scheduler} if "://" in scheduler else {"scheduler_file": scheduler}
    try:
        return Client(**named, timeout=seconds, set_as_default=False, name="polylm")
    except OSError as error:
        raise ConnectionError(f"no Dask scheduler answers at {scheduler} (POLYLM_SCHEDULER): {error}") from error


def _mark(store: Path) -> Path:
    """A new file in the store; its name is that of unfinished files, which are swept once their process is gone."""
    token = store / "tmp" / f"{os.getpid()}@{socket.gethostname()}@{uuid.uuid4().hex[:8]}@shared"
    token.touch()
    return token
