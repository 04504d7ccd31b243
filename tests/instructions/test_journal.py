"""An answer that was paid for is on disk before anything else happens, and is never asked for again."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from polylm.tasks.instructions.journal import Answer, Journal, request_key

ANSWER = Answer("Zwei\nZeilen, 日本, \ud800 und \u2028", "stop", 3, 4)


def test_what_was_appended_is_found_after_reopening(tmp_path):
    with Journal(tmp_path / "new" / "answers.jsonl") as journal:
        journal.append("a", "prompt", ANSWER)
        assert journal.find("a") == ANSWER
    with Journal(tmp_path / "new" / "answers.jsonl") as journal:
        assert (journal.find("a"), journal.find("b"), len(journal), journal.torn_bytes) == (ANSWER, None, 1, 0)


def test_the_file_holds_key_prompt_and_answer_in_one_line(tmp_path):
    with Journal(tmp_path / "answers.jsonl") as journal:
        journal.append("a", "prompt", Answer("text", "length", 1, 2))
    assert json.loads((tmp_path / "answers.jsonl").read_text()) == {
        "key": "a",
        "prompt": "prompt",
        "answer": {"text": "text", "finish_reason": "length", "prompt_tokens": 1, "completion_tokens": 2},
    }


def test_a_torn_last_line_is_cut_off_wherever_it_was_torn(tmp_path):
    path = tmp_path / "answers.jsonl"
    with Journal(path) as journal:
        journal.append("a", "prompt", ANSWER)
        first = path.stat().st_size
        journal.append("b", "prompt", ANSWER)
    whole = path.read_bytes()
    for length in range(first, len(whole)):
        path.write_bytes(whole[:length])
        with Journal(path) as journal:
            assert (len(journal), journal.torn_bytes) == (1, length - first)
            journal.append("c", "prompt", ANSWER)
        with Journal(path) as journal:
            assert (journal.find("b"), journal.find("c"), journal.torn_bytes) == (None, ANSWER, 0)


def test_a_line_spoiled_by_something_else_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "answers.jsonl"
    with Journal(path) as journal:
        journal.append("a", "prompt", ANSWER)
    path.write_bytes(path.read_bytes() + b'{"key": 1}\n')
    with pytest.raises(ValueError, match=r"answers.jsonl, line 2: expected an answer .* found b'\{\"key\": 1\}\\n'"):
        Journal(path)


def test_a_request_is_another_if_anything_of_it_changes():
    base = {"round": 1, "prompt": "p", "model": "m", "params": {"seed": 1, "max_tokens": 2}}
    changed = [{"round": 2}, {"prompt": "q"}, {"model": "n"}, {"params": {"seed": 2, "max_tokens": 2}}]
    keys = {request_key(**{**base, **change}) for change in [{}, *changed]}
    assert len(keys) == 5
    assert request_key(**{**base, "params": {"max_tokens": 2, "seed": 1}}) == request_key(**base)


GENERATE = """
import sys
from pathlib import Path
from polylm.tasks.instructions.client import ModelServer
from polylm.tasks.instructions.journal import Journal
from polylm.tasks.instructions.pool import Plan, generate
from polylm.tasks.instructions.prompts import read_seeds
client = ModelServer(sys.argv[1], "scripted")
with Journal(Path(sys.argv[2])) as journal:
    outcome = generate("en", read_seeds(), ask=client.ask, identify=lambda text: ("en", 0.0), journal=journal, model="scripted",
                       decoding=client.params, seed=5, plan=Plan(rounds=3, first_round_prompts=2, prompts_per_round=4))
print(repr(outcome.generated))
"""


def start(server, path):
    command = [sys.executable, "-P", "-c", GENERATE, server.base_url, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_after_sigkill_nothing_is_asked_twice_and_the_outcome_is_that_of_an_undisturbed_run(tmp_path, scripted):
    with scripted.ScriptedServer() as server:
        undisturbed, _ = start(server, tmp_path / "whole.jsonl").communicate()
        asked = sorted(server.prompts)
    assert len(asked) == 10
    path = tmp_path / "killed.jsonl"
    # The sixth answer never comes: the kill hits a run that has paid for five and waits for one.
    with scripted.ScriptedServer(faults={5: scripted.Slow(60.0)}) as server:
        child = start(server, path)
        while len(server.prompts) < 6:
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        before = path.read_bytes()
        assert before.count(b"\n") == 5
        again, _ = start(server, path).communicate()
        lost = server.prompts[5]
    assert again == undisturbed
    assert path.read_bytes().startswith(before)
    assert sorted(server.prompts) == sorted([*asked, lost])
