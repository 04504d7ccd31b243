"""Other workers, hash seeds and folders, kills and servers that go away: the content is that of an undisturbed run."""

import signal
import subprocess

import pytest
from samples import call, environment, half_written, is_alive, wait_until
from whole import CHECKPOINT_EVERY, REQUESTS, STEPS, Whole, contents, copy_store, end_in_training, events_of

pytestmark = pytest.mark.ranks


def resumed_at(folder):
    """The step from which a training went on; it fails if it began more than once, or never went on."""
    events = events_of(folder)
    assert [name for name, _ in events].count("start") == 1
    return dict(events)["resume"]


def test_keys_and_content_do_not_depend_on_workers_folder_or_hash_seed(whole, third_store, tmp_path, scripted):
    """From the token stages through training to the last export; the data stages have a test of their own."""
    copy_store(third_store, tmp_path / "elsewhere")
    other = Whole(whole.file, tmp_path / "elsewhere", "")
    with scripted.ScriptedServer() as server:
        more = ("--until", "train_byte_models")
        stages = other.run(*more, server=server.base_url, workers=1, PYTHONHASHSEED=1234)
    assert {"encode", "pretrain", "finetune", "export"} <= {stage["stage"] for stage in stages if stage["built"]}
    # The address of the server is in the key of what it generated, and of nothing that reads it.
    later = ("generate_instructions", "evaluate", "tabulate", "report_evaluation")
    assert contents(other.store, without=later) == contents(whole.store, without=later)
    assert other.table("generate_instructions") == whole.table("generate_instructions")


def test_a_kill_in_training_leaves_no_process_and_the_next_run_ends_with_the_same_weights(whole, tmp_path):
    copy = whole.copy(tmp_path / "store", without=["pretrain"])
    words = copy.words("--until", "pretrain")
    code, processes = end_in_training(words, copy.store, signal.SIGKILL, seed=1, steps=range(5, 12))
    assert code == -signal.SIGKILL
    assert wait_until(lambda: not any(map(is_alive, processes)), 10)
    assert half_written(copy.store) == []
    assert list((copy.store / "folders" / "pretrain").glob("*")) == []
    call(words)
    step = resumed_at(copy.training("stage1"))
    assert CHECKPOINT_EVERY <= step < STEPS["stage1"]
    assert step % CHECKPOINT_EVERY == 0
    left_out = whole.training("stage2").name
    undisturbed = {name: held for name, held in contents(whole.store).items() if not name.endswith(left_out)}
    assert contents(copy.store) == undisturbed


def test_sigterm_in_training_ends_soon_with_143_and_the_next_run_goes_on(whole, tmp_path):
    copy = whole.copy(tmp_path / "store", without=["pretrain:stage2"])
    code, processes = end_in_training(copy.words(), copy.store, signal.SIGTERM, seed=2, steps=range(5, 7))
    assert code == 143
    said = (copy.store / "said").read_text().splitlines()
    assert "polylm: terminated; the same command goes on from here" in said
    assert wait_until(lambda: not any(map(is_alive, processes)), 10)
    stages = copy.run()
    # Bit for bit: all that stands on these weights is re-used.
    assert [(stage["stage"], stage["built"]) for stage in stages if stage["built"]] == [("pretrain", 1)]
    events = events_of(copy.training("stage2"))
    assert [name for name, _ in events].count("start") == 1
    # Ten steps take a second: on a slow machine they may have ended before their ranks were told to.
    assert dict(events).get("resume", STEPS["stage2"]) >= CHECKPOINT_EVERY
    assert contents(copy.store) == contents(whole.store)


@pytest.mark.slow  # 20 s of waiting: the client tries a server that does not answer seven times
def test_a_server_that_goes_away_is_named_and_answers_given_are_not_asked_again(whole, tmp_path, scripted):
    copy = whole.copy(tmp_path / "store", without=["generate_instructions"])
    until = ("--until", "generate_instructions")
    answered = 2 * REQUESTS - 1  # of two languages, one after the other
    faults = {"always": scripted.Reset()} | dict.fromkeys(range(answered), scripted.Slow(0))
    with scripted.ScriptedServer(faults=faults) as server:
        words = copy.words(*until, server=server.base_url, workers=1)
        done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("polylm: generate_instructions en: no usable answer from the model server at ")
    assert f"at {server.base_url}: " in last
    assert last.endswith(
        "Start it or name another base URL; answers given so far are in the journal and are not asked for again"
        "; the same command goes on from here"
    )
    assert "Traceback" not in done.stderr
    with scripted.ScriptedServer() as another:
        copy.run(*until, server=another.base_url, workers=1)
    # Another address, so the finished language is put together anew, from the journal.
    assert len(another.prompts) == 2 * REQUESTS - answered
    assert copy.table("generate_instructions") == whole.table("generate_instructions")
