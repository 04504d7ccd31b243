"""What a run says while it goes: also of a stage that is one long job."""

import os
import pty
import re
import subprocess
import sys
import threading
import time

import pytest
import toy_stages as toys
from samples import environment

from polylm.deployments.settings import Settings
from polylm.flows.progress import Lines
from polylm.tasks.run import run
from polylm.tasks.session import session
from polylm.tasks.stage import NoParams, Progress, Workspace

ON_A_TERMINAL = """
import time
from polylm.flows.progress import shown
from polylm.tasks.stage import Progress
with shown() as live:
    live.stage_begins("pretrain", 1)
    live.at_work("pretrain", {})
    for step in (40, 41, 42):
        live.at_work("pretrain", {"pretrain": Progress(step, 80, f"loss {step / 10}")})
    time.sleep(0.5)
"""


class Eager(Lines):
    """Says all at once, and lets the toy stage end when it was heard."""

    every_seconds = 0.0

    def at_work(self, stage, told):
        super().at_work(stage, told)
        if told:
            toys.mark("heard")


@pytest.fixture
def lines():
    eager = Lines()
    eager.every_seconds = 0.0
    return eager


def test_what_a_long_job_tells_is_said_while_it_works(tmp_path, toy_folder, capfd):
    with session(Settings(store=tmp_path / "store", workers=1), observer=Eager()):
        run(toys.tell_steps, NoParams())
    assert "tell_steps: 3 of 10, loss 2.500\n" in capfd.readouterr().err


def test_who_reads_sees_a_whole_word_or_none_however_often_it_is_told(tmp_path):
    work = Workspace(tmp_path, tmp_path, tmp_path)
    assert Progress.of_job(work.scratch) is None
    teller = threading.Thread(target=lambda: [work.tell(n, 2_000, "x" * n) for n in range(2_000)])
    teller.start()
    seen = []
    while teller.is_alive():
        if told := Progress.of_job(work.scratch):
            assert len(told.more) == told.done
            seen.append(told.done)
    assert seen == sorted(seen)
    assert Progress.of_job(work.scratch).done == 1_999


@pytest.mark.parametrize("rubbish", [b"", b"[3, 10", b"{}", b"3", b"null", b"[1, 2]", b'["a", 2, ""]', b"\xff"])
def test_a_damaged_word_is_none(tmp_path, rubbish):
    (tmp_path / "progress.json").write_bytes(rubbish)
    assert Progress.of_job(tmp_path) is None


def test_a_job_that_tells_nothing_is_known_to_be_at_work(lines, capfd):
    lines.stage_begins("train_tokenizer", 1)
    lines.at_work("train_tokenizer", {})
    assert capfd.readouterr().err == "train_tokenizer: 0 of 1 jobs, 0 s so far\n"


def test_the_expected_end_counts_from_where_a_job_went_on(lines, capfd):
    """Steps of an earlier run took no time of this one."""
    lines.stage_begins("pretrain", 1)
    lines.at_work("pretrain", {"pretrain stage1": Progress(500_000, 1_000_000, "loss 2.000")})
    time.sleep(0.1)
    lines.at_work("pretrain", {"pretrain stage1": Progress(500_001, 1_000_000, "loss 1.999")})
    first, second = capfd.readouterr().err.splitlines()
    assert first == "pretrain: stage1 500,000 of 1,000,000, loss 2.000"
    hours = re.fullmatch(r"pretrain: stage1 500,001 of 1,000,000, loss 1\.999, about ([0-9.]+) h left", second)[1]
    assert float(hours) >= 0.1 * 499_999 / 3600 * 0.99


def test_jobs_and_what_each_tells_stand_in_one_line(lines, capfd):
    lines.stage_begins("generate_instructions", 11)
    lines.at_work(
        "generate_instructions", {f"generate_instructions {name}": Progress(1, 9, "requests") for name in "ab"}
    )
    said = capfd.readouterr().err
    assert said == "generate_instructions: 0 of 11 jobs, 0 s so far; a 1 of 9, requests; b 1 of 9, requests\n"


def test_on_a_terminal_the_bar_counts_the_steps_of_the_only_job():
    ours, theirs = pty.openpty()
    words = [sys.executable, "-c", ON_A_TERMINAL]
    with subprocess.Popen(words, stderr=theirs, env=environment() | {"TERM": "xterm", "COLUMNS": "120"}) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: _read(ours), b"")).decode()
    assert process.returncode == 0
    assert "pretrain loss 4.2" in shown
    assert "42/80" in shown
    assert "so far" not in shown, "no line beside the bar"


def _read(terminal):
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # how Linux says that the other end is closed
        return b""
