"""Starting, watching and reaping ranks, with ranks that are a few lines and start at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from polylm.model.launch import launch, run_module
from polylm.model.watch import Preempted, RankError

WAIT = "import time, os, pathlib, sys\npathlib.Path(sys.argv[1]).with_name(f'pid-{os.environ[\"RANK\"]}').write_text(str(os.getpid()))\ntime.sleep(60)\n"


@pytest.fixture
def rank_code(tmp_path, monkeypatch):
    """Make the module `rank_code` of some lines, importable by ranks, and give the job's path."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(lines):
        (tmp_path / "rank_code.py").write_text(lines)
        job = tmp_path / "job.json"
        job.write_text("{}")
        return job

    return write


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie whose parent has gone is only waiting for init.
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() if Path("/proc").exists() else True


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def pids(folder, ranks):
    paths = [folder / f"pid-{rank}" for rank in range(ranks)]
    wait_until(lambda: all(path.exists() and path.read_text() for path in paths))
    return [int(path.read_text()) for path in paths]


def test_ranks_know_their_place_and_job(rank_code, tmp_path):
    job = rank_code(
        "import os, sys\n"
        "print(*[os.environ[k] for k in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'OMP_NUM_THREADS')])\n"
        "print(sys.argv, os.environ['PATH'].split(':')[0], sys.flags.safe_path)\n"
    )
    launch(job, ranks=2, logs=tmp_path / "logs", module="rank_code", threads=1)
    lines = (tmp_path / "logs/rank-1.log").read_text().splitlines()
    assert lines == ["1 1 2 127.0.0.1 1", f"['{tmp_path}/rank_code.py', '{job}'] {Path(sys.executable).parent} True"]


def test_a_failing_rank_is_named_with_its_log_and_the_others_are_reaped(rank_code, tmp_path):
    job = rank_code(
        WAIT.replace("time.sleep", "if os.environ['RANK'] == '1': raise ValueError('no such shard')\ntime.sleep")
    )
    with pytest.raises(RankError, match=r"rank 1 exited with 1; the end of [\s\S]*ValueError: no such shard"):
        launch(job, ranks=2, logs=tmp_path / "logs", module="rank_code")
    assert not any(alive(pid) for pid in pids(tmp_path, 2))


def test_a_killed_rank_is_named_with_its_signal(rank_code, tmp_path):
    job = rank_code("import os, signal\nprint('before')\nos.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(RankError, match=r"rank 0 was killed by SIGKILL[\s\S]*before"):
        run_module("rank_code", job, logs=tmp_path / "logs")


def test_a_rank_that_stopped_as_told_raises_preempted(rank_code, tmp_path):
    job = rank_code("import sys\nsys.exit(75)\n")
    with pytest.raises(Preempted, match="rank 0 was told to stop and saved its work"):
        run_module("rank_code", job, logs=tmp_path / "logs")
    assert issubclass(Preempted, OSError)


def test_a_silent_rank_is_killed(rank_code, tmp_path):
    job = rank_code(WAIT)
    with pytest.raises(RankError, match="rank 0 was silent for 1 s"):
        launch(job, ranks=1, logs=tmp_path / "logs", module="rank_code", heartbeat_seconds=1)
    assert not alive(*pids(tmp_path, 1))


def test_heartbeats_keep_a_rank_alive(rank_code, tmp_path):
    job = rank_code("import time\nfrom polylm.model.rank import beat\nfor _ in range(15): time.sleep(0.1); beat()\n")
    launch(job, ranks=1, logs=tmp_path / "logs", module="rank_code", heartbeat_seconds=1)


def test_leaving_by_an_exception_ends_the_ranks_by_sigterm(rank_code, tmp_path):
    job = rank_code(
        "import signal, sys, pathlib\n"
        "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path(sys.argv[1]).with_name('saved').touch(), sys.exit(75)))\n"
        + WAIT
    )
    seen = []

    def interrupt():
        seen.extend(pids(tmp_path, 2))
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        launch(job, ranks=2, logs=tmp_path / "logs", module="rank_code")
    assert (tmp_path / "saved").exists()
    assert not any(alive(pid) for pid in seen)


def test_no_rank_outlives_a_launcher_that_was_killed(rank_code, tmp_path):
    job = rank_code(WAIT)
    code = (
        "import sys; from pathlib import Path; from polylm.model.launch import launch\n"
        f"launch(Path({str(job)!r}), ranks=2, logs=Path({str(tmp_path / 'logs')!r}), module='rank_code')\n"
    )
    launcher = subprocess.Popen([sys.executable, "-P", "-c", code])
    seen = pids(tmp_path, 2)
    assert all(alive(pid) for pid in seen)
    launcher.kill()
    launcher.wait()
    wait_until(lambda: not any(alive(pid) for pid in seen), seconds=5)
