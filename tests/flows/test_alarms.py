"""Alarms: which counts raise one, what is done about it, and where that is written down."""

import json
import os
import pty
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from samples import command, environment, third_options, third_records, write_jsonl

from polylm.deployments.settings import Settings
from polylm.flows.alarms import AlarmsRaised, Decision, Watch
from polylm.flows.everything import start
from polylm.tasks.maintenance.files import read_json


def words(third, store, *more, name="run"):
    """Words of a command over the third whose `filter_text` loses more of its source than is allowed."""
    options = ("--set", "alarms.max_source_loss=0.2", "--set", "alarms.min_documents=50")
    where = ("--no-prefect", "--workers", 0) if name == "run" else ()
    return (name, "sample", *third_options(third), *options, "--store", store, *where, *more)


def records(store):
    return [json.loads(path.read_text()) for path in sorted((store / "runs").glob("*.json"))]


def test_a_source_that_loses_too_much_stops_the_run_before_anything_stands_on_that(third, third_copy):
    line = command(*words(third, third_copy))
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    said = done.stderr
    assert done.returncode == 4, said
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


def test_a_source_of_which_most_records_are_no_documents_stops_the_run_at_once(polylm, tmp_path):
    """Such as one whose text is in another field of most records."""
    records_ = [{"text": f"text {n}"} if n % 3 == 0 else {"text": None, "body": f"text {n}"} for n in range(150)]
    source, store = write_jsonl(tmp_path / "mixed.jsonl", records_), tmp_path / "store"
    line = ("run", "corpus", "--source", f"mixed={source}", "--store", store, "--no-prefect", "--workers", 0)
    code, _, said = polylm(*line, "--until", "clean")
    assert code == 4
    assert "100 of 150 records of the source mixed are no documents (the commonest reason: " in said
    (alarm,) = records(store)[-1]["alarms"]
    assert (alarm["rule"], alarm["subject"], alarm["value"], alarm["bound"]) == ("bad_records", "mixed", 0.6667, 0.5)
    assert [entry["stage"] for entry in records(store)[-1]["stages"]] == ["ingest"]
    code, _, said = polylm(*line, "--until", "clean", "--set", "alarms.max_bad_records=0.7")
    assert code == 0, said


def test_a_reference_may_fail_the_rules_that_it_is_not_judged_by(polylm, tmp_path):
    """Short ones are none the worse as references: what they lose is nobody's."""
    web = write_jsonl(tmp_path / "web.jsonl", [record for record in third_records() if record["lang_declared"] == "en"])
    short = [{"text": f"One sentence is not a document, number {n}."} for n in range(150)]
    clean = write_jsonl(tmp_path / "clean.jsonl", short)
    line = ("run", "corpus", "--source", f"web={web}", "--source", f"clean={clean}", "--store", tmp_path / "store")
    changes = (
        "sources.clean.role=reference",
        'wanted.languages=["en"]',
        "text.rules=gopher",
        "alarms.max_source_loss=0.99",
    )
    options = [word for change in changes for word in ("--set", change)]
    code, _, said = polylm(*line, *options, "--no-prefect", "--workers", 0)
    assert code == 0, said
    assert "150" in next(text for text in said.splitlines() if text.startswith("set_aside_references"))


def test_a_source_with_few_documents_is_not_watched(polylm, third, third_copy):
    code, _, said = polylm(*words(third, third_copy, "--set", "alarms.min_documents=10000"))
    assert code == 0, said


def test_a_warning_is_said_and_written_down_and_the_run_goes_on(polylm, third, third_copy):
    code, _, said = polylm(*words(third, third_copy, "--on-alarm", "warn"))
    assert code == 0, said
    assert "alarm: filter_text rejects" in said
    assert [alarm["action"] for alarm in records(third_copy)[-1]["alarms"]] == ["warn"]


def test_a_bound_re_makes_nothing_and_a_plan_tells_what_would_happen(polylm, third, third_copy):
    code, said, _ = polylm(*words(third, third_copy, name="plan"))
    assert code == 0
    assert "alarm: filter_text rejects" in said
    assert said.splitlines()[-1] == "0 jobs to build"


def test_nobody_is_asked_where_there_is_no_terminal(polylm, third, third_copy):
    code, _, said = polylm(*words(third, third_copy, "--on-alarm", "ask"))
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
def test_a_person_at_a_terminal_decides_and_the_reason_is_kept(
    polylm, monkeypatch, third, third_copy, typed, code, reason
):
    with at_terminal(monkeypatch, typed) as said:
        assert polylm(*words(third, third_copy))[0] == code, said
    (alarm,) = records(third_copy)[-1]["alarms"]
    decision = {"approved": True, "reason": reason, "later_gates": True} if reason else None
    assert alarm["decision"] == decision
    stage, key = alarm["artifact"].split("/")
    (manifest,) = (third_copy / "artifacts" / stage).glob(f"{key}*.json")
    noted = [entry["decision"] for entry in read_json(manifest).get("alarms", [])]
    assert noted == ([decision] if decision else [])


NOISE = ['wanted.languages=["en"]', 'floors.own={"en":1}', "alarms.max_source_loss=0.2", "alarms.min_documents=50"]


def run_asking(third, store, *answers, approved=None):
    """A run that two gates reject most of, one after the other; how often somebody was asked, and the alarms at its end."""
    left, changes = list(answers), [word for word in third_options(third) if word != "--set"]
    watch = Watch("ask", approved or {}, ask=lambda: left.pop(0))
    with pytest.raises(AlarmsRaised) as raised:
        start("sample", Settings(store=store, workers=0), changes=[*changes, *NOISE], watch=watch)
    asked = [alarm["rule"] for alarm in records(store)[-1]["alarms"]]
    return len(answers) - len(left), [alarm.rule for alarm in raised.value.alarms], asked


def test_an_approval_holds_for_what_later_gates_of_the_run_reject_of_that_source_and_for_nothing_else(
    third, third_copy
):
    asked, stopped_by, rules = run_asking(third, third_copy, "known noise", None)
    assert (asked, stopped_by) == (2, ["no_survivors"])
    assert rules == ["source_lost", "source_lost", "no_survivors"]
    first, second, _ = records(third_copy)[-1]["alarms"]
    assert [alarm["artifact"].partition("/")[0] for alarm in (first, second)] == ["want_languages", "keep_sure"]
    assert first["decision"] == {"approved": True, "reason": "known noise", "later_gates": True}
    assert second["decision"] == {"approved": True, "reason": "known noise", "of": first["artifact"]}
    for alarm in (first, second):
        (manifest,) = (third_copy / "artifacts").glob(f"{alarm['artifact']}*.json")
        assert [entry["decision"] for entry in read_json(manifest)["alarms"]] == [alarm["decision"]]
    only_that = {first["id"]: Decision("known noise", later_gates=False)}
    asked, stopped_by, _ = run_asking(third, third_copy, None, approved=only_that)
    assert (asked, stopped_by) == (1, ["source_lost"])
    assert records(third_copy)[-1]["alarms"][0]["decision"]["later_gates"] is False


@contextmanager
def at_terminal(monkeypatch, typed):
    """Standard input and error are a terminal, at which somebody types this when asked; what was said there, in pieces."""
    here, there = pty.openpty()
    said = []

    def answer():
        is_asked = False
        while (more := _read(here)) is not None:
            said.append(more)
            if not is_asked and b"Go on?" in b"".join(said):
                is_asked = bool(os.write(here, typed))

    person = threading.Thread(target=answer)
    person.start()
    try:
        with open(os.dup(there)) as stdin, open(there, "w") as stderr, monkeypatch.context() as patch:  # noqa: PTH123
            patch.setattr(sys, "stdin", stdin)
            patch.setattr(sys, "stderr", stderr)
            yield said
    finally:
        person.join()
        os.close(here)


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


def test_a_language_whose_share_is_not_that_of_the_last_run_is_told(polylm, third, by_language, tmp_path):
    english, others = by_language["en"], by_language["de"] + by_language["fr"]
    file = write_jsonl(tmp_path / "a.jsonl", english[:10] + others[:10])
    line = (
        "run", "sample", *third_options(file), "--store", tmp_path / "store", "--workers", 0, "--no-prefect",
        "--until", "assign_split", "--set", "alarms.min_documents=10",
    )  # fmt: skip
    assert polylm(*line)[0] == 0, "there was nothing to compare with"
    write_jsonl(file, english[:10] + others[:10] + english[10:20])
    code, _, said = polylm(*line)
    assert code == 4
    (alarm,) = [alarm for alarm in records(tmp_path / "store")[-1]["alarms"] if alarm["subject"] == "en"]
    assert (alarm["rule"], alarm["bound"]) == ("label_shift", 0.1)
    assert alarm["value"] == pytest.approx(20 / 30 - 10 / 20, abs=1e-4)
    assert "66.7% of the documents are labelled en, 50.0% were in the last run" in said


def test_a_corpus_of_which_nothing_is_left_stops_the_run(polylm, third, third_copy):
    nothing = ["--set", "alarms.max_source_loss=1", "--set", 'wanted.languages=["sv"]']
    code, _, said = polylm(*words(third, third_copy, *nothing))
    assert code == 4, said
    assert "the gates reject all" in said
    assert records(third_copy)[-1]["alarms"][-1]["rule"] == "no_survivors"
