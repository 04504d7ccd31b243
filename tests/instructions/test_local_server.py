"""The local server's process: it ends with its parent, and says why it did not start. A real model is not needed here."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from polylm.tasks.instructions.local_server import LocalServer


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no\.gguf: no such model file; expected a GGUF model"):
        LocalServer(tmp_path / "no.gguf")


def test_a_file_that_is_no_model_ends_the_child_and_points_to_its_log(tmp_path):
    model, log = tmp_path / "broken.gguf", tmp_path / "server.log"
    model.write_bytes(b"GGUF but not really")
    with pytest.raises(
        OSError, match=r"the local model server \(broken.gguf\) did not start; see .*server.log: it ended with code"
    ):
        LocalServer(model, log=log).__enter__()
    assert log.stat().st_size


LIFELINE = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-P", "-c",
    "import threading; from polylm.tasks.instructions.local_server import _end_with_parent;"
    "threading.Thread(target=_end_with_parent, daemon=True).start(); print('up', flush=True); threading.Event().wait()"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def test_the_child_ends_when_its_parent_is_killed():
    parent = subprocess.Popen([sys.executable, "-P", "-c", LIFELINE], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    child.wait(timeout=10)


MODEL = Path("~/.cache/polylm/SmolLM2-135M-Instruct.Q4_1.gguf").expanduser()


@pytest.mark.slow
@pytest.mark.skipif(not MODEL.is_file(), reason=f"{MODEL} is not there")
def test_a_real_model_answers_and_leaves_no_process():
    from polylm.tasks.instructions.client import ModelServer
    from polylm.tasks.instructions.prompts import Prompt

    with LocalServer(MODEL) as server:
        pid = server.pid
        answer = ModelServer(server.base_url, server.model, max_tokens=4).ask(Prompt("Say yes.", "", "", "en", ()), 1)
        assert 0 < answer.completion_tokens <= 4
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
