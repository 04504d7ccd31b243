"""A Prefect server of our own for one run: on 127.0.0.1, a free port, and gone when we are, whatever ends us.

`python -P -m polylm.flows.prefect_server PORT` serves until its standard input closes. The database is Prefect's usual
one (`PREFECT_HOME`), so a server that is started later shows the run.
"""

import asyncio
import contextlib
import fcntl
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polylm.flows import lifeline
from polylm.tasks.maintenance.signals import ignored

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

AWAY_SECONDS = 20.0  # without an answer, after which a server counts as gone and no call waits for it
LOOK_SECONDS = 2.0
_away = threading.Event()
OFFLINE = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PREFECT_SERVER_DATABASE_TIMEOUT": "60"}
START_SECONDS = 120.0  # a cold database takes 20 s on busy cores
_ERROR = re.compile(r"^[\w.]*(?:Error|Exception)\b: .+$", re.MULTILINE)
_CAUSE_LETTERS = 300
STOP_SECONDS = 6.0  # then it is killed; its database is made to survive that


@contextlib.contextmanager
def prefect_server(
    log: Path,
    *,
    port: int = 0,
    database: str = "",
    meanwhile: Callable[[], object] = lambda: None,
    way_out: str = "--no-prefect runs without one",
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Start a server, make it the one that Prefect uses here, and yield its address and process once it answers.

    Its output goes to `log`. Port 0 is any free one; the database is Prefect's own file where none is named. The server
    takes seconds to start: `meanwhile` is what can be done in that time, with its address known.
    """
    os.environ.update(OFFLINE)
    port = port or _free_port()
    url = f"http://127.0.0.1:{port}/api"
    process = _start(port, url, log, database)
    try:
        with _used_by_prefect(url):
            meanwhile()
            wait_until_healthy(f"{url}/health", process, log, "Prefect server", way_out)
            yield url, process
    finally:
        with ignored():
            _stop(process)


def server_named() -> bool:
    """Whether Prefect's settings name a server.

    Reading those settings costs 1.5 s, so the places where an address can stand are looked at first.
    """
    variables = ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH")
    upper = {name.upper(): value for name, value in os.environ.items()}
    home = prefect_home()
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


def check_named_server() -> None:
    """ValueError where the server that Prefect's settings name is not there: Prefect would say so in a hundred lines."""
    from prefect.settings import get_current_settings  # 1.5 s

    url = get_current_settings().api.url
    try:
        urllib.request.urlopen(f"{url}/health", timeout=AWAY_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # it answers; a server that wants a login says so here
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ValueError(
            f"the Prefect server {url} does not answer ({error}): start it or mend PREFECT_API_URL; --no-prefect runs without one"
        ) from error


def prefect_home() -> Path:
    """The folder of Prefect's profiles and of its database, where none is named."""
    told = {name.upper(): value for name, value in os.environ.items()}.get("PREFECT_HOME")
    return Path(told).expanduser() if told else Path.home() / ".prefect"


@contextlib.contextmanager
def watched(url: str, notice: Callable[[str], None]) -> Iterator[None]:
    """While a flow runs: where its server goes away, say so, and let no call wait for it.

    Every call of Prefect's is tried six times in a minute, and the end of a flow makes a dozen: without this a run whose work is
    done would end many minutes later. Tasks need no answer, so their work goes on.
    """
    ended = threading.Event()

    def watch() -> None:
        seen, away = time.monotonic(), False
        while not ended.wait(LOOK_SECONDS):
            if _answers(f"{url}/health"):
                seen = time.monotonic()
            if away != (time.monotonic() - seen > AWAY_SECONDS):
                away = not away
                (_away.set if away else _away.clear)()
                let_calls_retry(not away)
                notice(f"the Prefect server at {url} {'does not answer: the work goes on' if away else 'is back'}")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def without_heartbeats() -> Iterator[None]:
    """For a server that goes when the run does: nobody is there to miss them, and each flow waits for their thread to end.

    That is half a second for each of a run's seven flows.
    """
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings  # 1.5 s

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def is_away() -> bool:
    """Whether the server of the run that is being watched, or was the last one, has stopped answering."""
    return _away.is_set()


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(urllib.request.urlopen(url, timeout=2).status == 200)
    return False


def let_calls_retry(may: bool) -> None:
    """Whether a call that the server does not answer is tried again, as Prefect does, or fails at once.

    Called from the handler of a signal too, which may come while Prefect is being imported: nothing is imported here.
    """
    if "prefect.client.orchestration" not in sys.modules:  # no call is out
        return
    client = sys.modules["prefect.settings"].get_current_settings().client
    # Frozen, and read anew before each try; a new settings object would not reach the contexts that flows have entered.
    client.__dict__["max_retries"] = type(client).model_fields["max_retries"].default if may else 0


def serve(port: int) -> None:
    """Be the server."""
    lifeline.end_with_parent()
    import uvicorn
    from prefect.server.api.server import create_app

    from polylm.flows.prefect_guard import LocalOnly

    _begin_as_writer()
    _make_database()
    app = LocalOnly(create_app(final=True), port)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=2)


def _make_database() -> None:
    """Bring the database up to date, one server at a time: two that do so at once over a new one both fail."""
    home = prefect_home()
    home.mkdir(parents=True, exist_ok=True)
    with (home / "polylm-database.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # whatever ends us frees it
        asyncio.run(_prepare())


async def _prepare() -> None:
    from prefect.server.database import provide_database_interface
    from prefect.server.models.block_registration import run_block_auto_registration
    from sqlalchemy import select

    database = provide_database_interface()
    await database.create_db()
    async with await database.session() as session:
        is_new = await session.scalar(select(database.BlockType.id).limit(1)) is None
    if is_new:  # later starts only look whether they are there
        async with await database.session() as session:
            await run_block_auto_registration(session=session)


def _begin_as_writer() -> None:
    """Have each transaction on SQLite begin as a writer's, as only some of Prefect's do.

    One that reads before it writes is refused at once where another has written in between; the server answers 503 and
    the client comes back after 2 s, which cost a run that builds nothing half its 20 s. Waiting for a turn takes
    milliseconds. Without effect on PostgreSQL.
    """
    from prefect.server.database.configurations import AioSqliteConfiguration as Sqlite

    begin = Sqlite.begin_transaction

    def as_writer(self: Sqlite, session: "AsyncSession", with_for_update: bool = False) -> Any:
        return begin(self, session, with_for_update=True)

    Sqlite.begin_transaction = as_writer  # type: ignore[method-assign]


def _start(port: int, url: str, log: Path, database: str) -> "subprocess.Popen[bytes]":
    own = {"PREFECT_API_URL": "", "PREFECT_SERVER_UI_API_URL": url, "PREFECT_SERVER_API_PORT": str(port)}
    own["PREFECT_API_DATABASE_MIGRATE_ON_START"] = "false"  # `_make_database` does
    if database:
        own["PREFECT_API_DATABASE_CONNECTION_URL"] = database
    return lifeline.spawn(["polylm.flows.prefect_server", str(port)], log, own)


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


def wait_until_healthy(
    url: str, process: "subprocess.Popen[bytes] | None", log: Path, name: str, way_out: str = ""
) -> None:
    """Wait until an address answers; ValueError where its process ends before that, or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        if _answers(url):
            return
        time.sleep(0.2)
    code = process.poll() if process is not None else None
    what = (
        f"did not start within {START_SECONDS:.0f} s"
        if code is None
        else f"ended ({how_it_ended(code)}) before it answered"
    )
    raise ValueError(f"the {name} {what}{cause_in(log)}; its log is {log}. {way_out}".rstrip())


def cause_in(log: Path) -> str:
    """`: ` and the last error that a Python program wrote to its log; "" where there is none."""
    text = log.read_text(errors="replace") if log.is_file() else ""
    errors = _ERROR.findall(text)
    return f": {errors[-1].strip()[:_CAUSE_LETTERS]}" if errors else ""


def how_it_ended(code: int) -> str:
    """A process's end in words."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _mentions(path: Path, word: str) -> bool:
    return path.is_file() and word in path.read_text(errors="replace").lower()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    serve(int(sys.argv[1]))
