"""A training over several hosts: two addresses of this machine, and a stand-in for ssh that starts commands as sshd would.

What the stand-in leaves out: another machine's clock, network and files.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from polylm.model.config import Placement, write_job
from polylm.model.launch import Hosts, _free_port, launch
from polylm.model.watch import Preempted, RankError

# sshd gives a command to the user's shell, in a session of its own, another folder and a nearly empty environment, and ends its standard
# input when the client has gone.
SSH = """#!/bin/bash
while [[ $1 == -* ]]; do [ "$1" = -o ] && shift; shift; done
echo "$1" >> "$ASKED"
[ "$1" = gone ] && { echo "ssh: connect to host gone port 22: No route to host"; exit 255; }
cd /
setsid --wait env -i HOME="$HOME" PATH=/usr/bin:/bin bash -c "$2" 3<&0 < <(exec cat <&0)
"""
WAIT = (
    "import os, pathlib, signal, sys, time\n"
    "place = pathlib.Path(sys.argv[1])\n"
    "signal.signal(signal.SIGTERM, lambda *_: (place.with_name('saved-' + os.environ['RANK']).touch(), sys.exit(75)))\n"
    "place.with_name('pid-' + os.environ['RANK']).write_text(str(os.getpid()))\n"
)
SLEEP = WAIT + "time.sleep(60)\n"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Make the module `rank_code` of some lines; give the keywords with which two hosts run two ranks of it each."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(lines, names=("127.0.0.1", "127.0.0.2")):
        (tmp_path / "rank_code.py").write_text(lines)
        (tmp_path / "job.json").write_text("{}")
        hosts = Hosts(names, port=_free_port(), interface="lo")
        return {
            "job": tmp_path / "job.json",
            "ranks": 2 * len(names),
            "logs": tmp_path / "logs",
            "module": "rank_code",
            "hosts": hosts,
        }

    return write


@pytest.fixture(autouse=True)
def ssh(tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ssh").write_text(SSH)
    (tools / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))


def alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def parent(pid):
    return int(Path(f"/proc/{pid}/status").read_text().split("PPid:")[1].split()[0])


def wait_until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def pids(folder):
    paths = [folder / f"pid-{rank}" for rank in range(4)]
    wait_until(lambda: all(path.exists() and path.read_text() for path in paths))
    return [int(path.read_text()) for path in paths]


def test_ranks_are_dealt_to_hosts_and_meet_at_the_first(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("NCCL_DEBUG", "WARN")
    monkeypatch.setenv("SECRET_KEY", "of nobody else")
    names = "RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR GLOO_SOCKET_IFNAME NCCL_SOCKET_IFNAME NCCL_DEBUG SECRET_KEY"
    order = toy(f"import os\nprint(*[os.environ.get(name) for name in '{names}'.split()], os.getcwd())\n")
    launch(**order, threads=1)
    seen = [(tmp_path / f"logs/rank-{rank}.log").read_text().strip() for rank in range(4)]
    assert seen == [f"{r} {r % 2} 4 2 127.0.0.1 lo lo WARN None {Path.cwd()}" for r in range(4)]
    assert sorted((tmp_path / "asked").read_text().split()) == ["127.0.0.1", "127.0.0.2"]


def test_a_rank_that_fails_on_one_host_is_named_with_its_log_and_all_others_end(toy, tmp_path):
    order = toy(WAIT + "if os.environ['RANK'] == '2': raise ValueError('no such shard')\ntime.sleep(60)\n")
    with pytest.raises(
        RankError,
        match=r"host 127\.0\.0\.2 exited with 1; [\s\S]*rank 2 exited with 1; [\s\S]*ValueError: no such shard",
    ):
        launch(**order)
    assert not any(alive(pid) for pid in pids(tmp_path))


def test_a_host_that_cannot_be_reached_is_named_with_what_ssh_says(toy):
    with pytest.raises(RankError, match=r"^host gone exited with 255; [\s\S]*No route to host$"):
        launch(**toy(SLEEP, names=("127.0.0.1", "gone")))


def test_a_host_that_does_not_see_the_folder_says_so(toy, tmp_path, monkeypatch):
    order = toy(SLEEP)
    home = tmp_path / "only here"
    home.mkdir()
    monkeypatch.chdir(home)
    home.rmdir()
    monkeypatch.setattr(Path, "cwd", lambda: home)  # a folder that no longer is has no name to give
    with pytest.raises(RankError, match=r"does not see .*only here; all hosts need the store and this folder"):
        launch(**order)


def test_ranks_that_stop_as_told_preempt_the_whole_training(toy):
    with pytest.raises(
        Preempted, match=r"^host 127\.0\.0\.\d was told to stop and saved its work; run again to go on$"
    ):
        launch(**toy("import sys\nsys.exit(75)\n"))


def test_leaving_by_an_exception_lets_the_ranks_of_every_host_save(toy, tmp_path):
    order = toy(SLEEP)
    seen = []

    def interrupt():
        seen.extend(pids(tmp_path))
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        launch(**order)
    assert len(seen) == 4
    assert all((tmp_path / f"saved-{rank}").exists() for rank in range(4))
    assert not any(alive(pid) for pid in seen)


@pytest.mark.parametrize("whom", ["launcher", "agent", "ssh"])
def test_no_rank_of_any_host_outlives_a_kill(toy, tmp_path, whom):
    order = toy(SLEEP)
    code = (
        "from pathlib import Path; from polylm.model.launch import Hosts, launch\n"
        f"launch(Path({str(order['job'])!r}), ranks=4, logs=Path({str(order['logs'])!r}), module='rank_code', "
        f"hosts={order['hosts']!r})\n"
    )
    launcher = subprocess.Popen([sys.executable, "-P", "-c", code], stderr=subprocess.PIPE, text=True)
    seen = pids(tmp_path)
    agent = parent(seen[3])
    os.kill({"launcher": launcher.pid, "agent": agent, "ssh": parent(agent)}[whom], signal.SIGKILL)
    _, said = launcher.communicate(timeout=60)
    if whom != "launcher":
        assert re.search(r"RankError: host 127\.0\.0\.2 (was killed by SIGKILL|exited with \d+)", said)
    wait_until(lambda: not any(alive(pid) for pid in seen), seconds=10)


@pytest.mark.ranks
def test_a_training_over_two_hosts_is_that_of_one(make_job):
    """Real ranks over Gloo; the layout is the same, so the weights are equal to the last bit."""
    weights = []
    for name, hosts in (("one", None), ("two", Hosts(("127.0.0.1", "127.0.0.2"), port=_free_port(), interface="lo"))):
        job = make_job(name, Placement(data_parallel=2, micro_batch=1))
        folder = Path(job.folder)
        launch(write_job(job, folder / "job.json"), ranks=2, logs=folder / "logs", hosts=hosts)
        weights.append(load_file(folder / "final" / "model.safetensors"))
        assert json.loads((folder / "result.json").read_text())["steps"] == 12
    one, two = weights
    assert one.keys() == two.keys()
    assert all((one[name] == two[name]).all() for name in one)
