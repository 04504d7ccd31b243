"""Alarms: which counts raise one, what is done about it, and where that is written down."""

import json
import os
import pty
import subprocess

import pytest
from samples import call, command, environment, third_options, third_records, write_jsonl

from polylm.tasks.store import read_json


def words(third, store, *more, name="run"):
    """A command over the third whose `filter_text` loses more of its source than is allowed."""
    options = ("--set", "alarms.max_source_loss=0.2", "--set", "alarms.min_documents=50")
    where = ("--no-prefect", "--workers", 2) if name == "run" else ()
    return command(name, "sample", *third_options(third), *options, "--store", store, *where, *more)


def records(store):
    return [json.loads(path.read_text()) for path in sorted((store / "runs").glob("*.json"))]


def stopped(words):
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.returncode, done.stderr


def test_a_source_that_loses_too_much_stops_the_run_before_anything_stands_on_that(third, third_copy):
    code, said = stopped(words(third, third_copy))
    assert code == 4
    record = records(third_copy)[-1]
    (alarm,) = record["alarms"]
    gate = next(entry for entry in record["stages"] if entry["stage"] == "filter_text")
    assert (alarm["rule"], alarm["artifact"], alarm["subject"]) == ("source_lost", gate["artifact"], "sample")
    rejected = sum(gate["reasons"].values())
    assert alarm["value"] == round(rejected / gate["rows"], 4) > alarm["bound"] == 0.2
    assert f"filter_text rejects {rejected} of {gate['rows']} documents of the source sample, more than 20%" in said
    assert "--on-alarm warn goes on" in said
    assert "Traceback" not in said
    assert record["state"] == "alarm"
    assert "select" not in [entry["stage"] for entry in record["stages"]]


def test_a_source_with_few_documents_is_not_watched(third, third_copy):
    assert stopped(words(third, third_copy, "--set", "alarms.min_documents=10000"))[0] == 0


def test_a_warning_is_said_and_written_down_and_the_run_goes_on(third, third_copy):
    code, said = stopped(words(third, third_copy, "--on-alarm", "warn"))
    assert code == 0
    assert "alarm: filter_text rejects" in said
    assert [alarm["action"] for alarm in records(third_copy)[-1]["alarms"]] == ["warn"]


def test_a_bound_re_makes_nothing_and_a_plan_tells_what_would_happen(third, third_copy):
    said = call(words(third, third_copy, name="plan"))
    assert "alarm: filter_text rejects" in said
    assert said.splitlines()[-1] == "0 jobs to build"


def test_nobody_is_asked_where_there_is_no_terminal(third, third_copy):
    code, said = stopped(words(third, third_copy, "--on-alarm", "ask"))
    assert code == 4
    assert "nobody is at hand who could approve" in said
    assert records(third_copy)[-1]["state"] == "alarm"


@pytest.mark.parametrize(
    ("typed", "code", "reason"),
    [
        (b"known noise\n", 0, "known noise"),
        (b"known \xff noise\n", 0, "known \ufffd noise"),
        (b"\n", 4, None),
        (" \u200b \n".encode(), 4, None),
        (b"\x04", 4, None),
    ],
    ids=["a reason", "not UTF-8", "none", "blank", "Ctrl-D"],
)
def test_a_person_at_a_terminal_decides_and_the_reason_is_kept(third, third_copy, typed, code, reason):
    pid, terminal = pty.fork()
    if pid == 0:
        line = words(third, third_copy)
        os.execvpe(line[0], line, environment())
    said = b""
    while (more := _read(terminal)) is not None:
        if b"Go on?" in more:
            os.write(terminal, typed)
        said += more
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code, said.decode()
    (alarm,) = records(third_copy)[-1]["alarms"]
    decision = {"approved": True, "reason": reason} if reason else None
    assert alarm["decision"] == decision
    stage, key = alarm["artifact"].split("/")
    (manifest,) = (third_copy / "artifacts" / stage).glob(f"{key}*.json")
    noted = [entry["decision"] for entry in read_json(manifest).get("alarms", [])]
    assert noted == ([decision] if decision else [])


def _read(terminal):
    try:
        return os.read(terminal, 4096) or None
    except OSError:  # how a terminal ends
        return None


@pytest.fixture(scope="module")
def by_language():
    """Records of the sample by the language that they are declared to be in."""
    found = {}
    for record in third_records():
        found.setdefault(record["lang_declared"], []).append(record)
    return found


def test_a_language_whose_share_is_not_that_of_the_last_run_is_told(third, by_language, tmp_path):
    english, others = by_language["en"], by_language["de"] + by_language["fr"]
    file = write_jsonl(tmp_path / "a.jsonl", english[:10] + others[:10])
    line = command(
        "run", "sample", *third_options(file), "--store", tmp_path / "store", "--workers", 0, "--no-prefect",
        "--until", "assign_split", "--set", "alarms.min_documents=10",
    )  # fmt: skip
    assert stopped(line)[0] == 0, "there was nothing to compare with"
    write_jsonl(file, english[:10] + others[:10] + english[10:20])
    code, said = stopped(line)
    assert code == 4
    (alarm,) = [alarm for alarm in records(tmp_path / "store")[-1]["alarms"] if alarm["subject"] == "en"]
    assert (alarm["rule"], alarm["bound"]) == ("label_shift", 0.1)
    assert alarm["value"] == pytest.approx(20 / 30 - 10 / 20, abs=1e-4)
    assert "66.7% of the documents are labelled en, 50.0% were in the last run" in said


def test_a_corpus_of_which_nothing_is_left_stops_the_run(third, third_copy):
    nothing = ["--set", "alarms.max_source_loss=1", "--set", 'wanted.languages=["sv"]']
    code, said = stopped(words(third, third_copy, *nothing))
    assert code == 4, said
    assert "the gates reject all" in said
    assert records(third_copy)[-1]["alarms"][-1]["rule"] == "no_survivors"
