"""Serve a GGUF model on this machine for as long as a `with` block lasts, by llama.cpp (the `xllamacpp` wheel).

    with LocalServer(Path("model.gguf")) as server:
        ModelServer(server.base_url, server.model)

The server is a child process, so that a fault in native code cannot take the caller down. It holds a lifeline: it ends itself
when its standard input ends, which happens whatever kills the parent.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, Self


class LocalServer:
    """A context manager round one llama.cpp server on 127.0.0.1, on a port that the system picks.

    One slot, so that answers do not depend on what else is asked at the time; the seed is the request's.

    Args:
        path: the model, a GGUF file with a chat template.
        context: tokens of prompt and answer together.
        threads: computing threads. More than one only on idle cores: llama.cpp's threads wait for each other spinning, and two of
            them on two cores shared with a load of 8 gave no answer in 100 s, where one thread took 7 to 22 s.
        log: file for the server's own messages; they are dropped if None.
        start_seconds: longest wait for the model to load.
    """

    def __init__(
        self,
        path: Path,
        *,
        context: int = 4_096,
        threads: int = 1,
        log: Path | None = None,
        start_seconds: float = 120.0,
    ) -> None:
        if not path.is_file():
            raise ValueError(f"{path}: no such model file; expected a GGUF model")
        self.model = path.name
        self.base_url = ""
        self._path, self._context, self._threads = path, context, threads
        self._log, self._start_seconds = log, start_seconds
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._child = self._spawn()
        try:
            address = _read_address(self._child, self._start_seconds, self._why())
            _wait_until_healthy(address, self._child, self._start_seconds, self._why())
        except BaseException:
            self._stop()
            raise
        self.base_url = f"{address}/v1"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        """The child's process id, which is its group's too."""
        assert self._child is not None, "the server is not running"
        return self._child.pid

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", __spec__.name, str(self._path)]
        command += ["--context", str(self._context), "--threads", str(self._threads)]
        messages: IO[bytes] | int = self._log.open("wb") if self._log else subprocess.DEVNULL
        try:
            # Its own session: a Ctrl-C at the terminal is the parent's to handle, and the group can be killed whole.
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages, start_new_session=True
            )
        finally:
            if not isinstance(messages, int):
                messages.close()

    def _why(self) -> str:
        return f"the local model server ({self._path.name}) did not start" + (f"; see {self._log}" if self._log else "")

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.close()
        try:
            child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        child.stdout.close()


def _read_address(child: subprocess.Popen[bytes], seconds: float, why: str) -> str:
    """The first line that the child prints; an OSError if it ends or stays silent."""
    lines: list[bytes] = []
    assert child.stdout is not None
    reader = threading.Thread(target=lambda stream: lines.append(stream.readline()), args=(child.stdout,), daemon=True)
    reader.start()
    reader.join(seconds)
    if not lines:
        raise OSError(f"{why}: not ready after {seconds:g} s")
    if not lines[0]:
        raise OSError(f"{why}: it ended with code {child.wait()}")
    return str(json.loads(lines[0])["address"])


def _wait_until_healthy(address: str, child: subprocess.Popen[bytes], seconds: float, why: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    while True:
        try:
            with opener.open(f"{address}/health", timeout=5) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if time.monotonic() > deadline:
                raise OSError(f"{why}: not healthy after {seconds:g} s") from error
        if child.poll() is not None:
            raise OSError(f"{why}: it ended with code {child.returncode}")
        time.sleep(0.05)


def main(arguments: list[str] | None = None) -> None:
    """Serve until standard input ends; print the address as one line of JSON once it listens."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--context", type=int, default=4_096)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    import xllamacpp  # 100 MB of native code, which only this process should load

    params = xllamacpp.CommonParams()
    params.model.path = str(options.model)
    params.model_alias = [options.model.name]
    params.n_ctx = options.context
    params.n_parallel = 1
    params.n_gpu_layers = 0  # the same answers wherever it runs
    for processor in (params.cpuparams, params.cpuparams_batch):
        processor.n_threads = options.threads
        processor.poll = 0
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.ui = False
    server = xllamacpp.Server(params)
    sys.stdout.write(json.dumps({"address": server.listening_address}) + "\n")
    sys.stdout.flush()
    threading.Event().wait()


def _end_with_parent() -> None:
    """Block until the other end of standard input is closed, then end at once, native threads and all."""
    while os.read(sys.stdin.fileno(), 4_096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
