"""A Prefect server of our own for one run: on 127.0.0.1, a free port, and gone when we are, whatever ends us.

`python -P -m polylm.flows.prefect_server PORT` serves until its standard input closes. The database is Prefect's usual
one (`PREFECT_HOME`), so a server that is started later shows the run.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

OFFLINE = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PREFECT_SERVER_DATABASE_TIMEOUT": "60"}
START_SECONDS = 120.0  # a cold database takes 20 s on busy cores
STOP_SECONDS = 6.0  # then it is killed; its database is made to survive that


@contextlib.contextmanager
def prefect_server(log: Path) -> Iterator[str]:
    """Start a server, make it the one that Prefect uses here, and yield its address; its output goes to `log`."""
    os.environ.update(OFFLINE)
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    process = _start(port, url, log)
    try:
        _wait_until_healthy(url, process, log)
        with _used_by_prefect(url):
            yield url
    finally:
        _stop(process)


def server_named() -> bool:
    """Whether Prefect's settings name a server.

    Reading those settings costs 1.5 s, so the places where an address can stand are looked at first.
    """
    variables = ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH")
    upper = {name.upper(): value for name, value in os.environ.items()}
    home = Path(upper.get("PREFECT_HOME") or Path.home() / ".prefect")
    places: list[tuple[str | Path, str]] = [
        (".env", "prefect_"),
        ("prefect.toml", ""),
        ("pyproject.toml", "tool.prefect"),
        (home / "profiles.toml", "prefect_api_url"),
    ]
    hinted = any(upper.get(name) for name in variables) or any(_mentions(Path(place), word) for place, word in places)
    if not hinted:
        return False
    from prefect.settings import get_current_settings  # 1.5 s

    return bool(get_current_settings().api.url)


def serve(port: int) -> None:
    """Be the server."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(final=True)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=2)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


def _start(port: int, url: str, log: Path) -> "subprocess.Popen[bytes]":
    own = {"PREFECT_API_URL": "", "PREFECT_SERVER_UI_API_URL": url, "PREFECT_SERVER_API_PORT": str(port)}
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "polylm.flows.prefect_server", str(port)],
            stdin=subprocess.PIPE,  # its lifeline: closed by whatever ends this process
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **own},
        )


def _stop(process: "subprocess.Popen[bytes]") -> None:
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return


@contextlib.contextmanager
def _used_by_prefect(url: str) -> Iterator[None]:
    before = os.environ.get("PREFECT_API_URL")
    os.environ["PREFECT_API_URL"] = url
    if "prefect.context" in sys.modules:  # it has read its settings: have it read them again
        sys.modules["prefect.context"].refresh_global_settings_context()
    try:
        yield
    finally:
        del os.environ["PREFECT_API_URL"]
        if before is not None:
            os.environ["PREFECT_API_URL"] = before


def _wait_until_healthy(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            if urllib.request.urlopen(f"{url}/health", timeout=2).status == 200:
                return
        time.sleep(0.2)
    raise ValueError(
        f"the Prefect server did not start within {START_SECONDS:.0f} s; its log is {log}. --no-prefect runs without one"
    )


def _mentions(path: Path, word: str) -> bool:
    return path.is_file() and word in path.read_text(errors="replace").lower()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    serve(int(sys.argv[1]))
