"""`why`: the gates' own rules, asked about one row."""

import json
import re

import pytest
import toy_stages as toys
from samples import call, command

from polylm.deployments.settings import Settings
from polylm.tasks.run import run
from polylm.tasks.session import session
from polylm.tasks.stage import REASON, NoParams
from polylm.tasks.store import Store, read_columns
from polylm.tasks.why import why


@pytest.fixture
def toy_session(tmp_path):
    with session(Settings(store=tmp_path / "store", workers=0)) as here:
        toys.toy_flow(toys.toy_pieces(2), labels=toys.LabelParams(labels=("long",)))
    return here


def jobs_of(here, index):
    return [jobs[index] for jobs in here.gates]


def test_its_first_broken_rule_is_the_verdict_of_every_document(toy_session):
    here = toy_session
    seen = set()
    for index, part in enumerate(here.artifacts["read"].parts):
        columns = [
            read_columns(here.store.part_path(name, here.artifacts[name].parts[index].key))[REASON].to_pylist()
            for name in ("keep_labels", "keep_long")
        ]
        for row in range(part.record.rows):
            broken = [(a.gate, a.rule) for a in why(jobs_of(here, index), row, here.store) if a.verdict == "broken"]
            verdicts = [("keep_labels", columns[0][row]), ("keep_long", columns[1][row])]
            first = next(((gate, reason) for gate, reason in verdicts if reason), None)
            assert (broken[0] if broken else None) == first
            seen.add(first)
    assert len(seen) >= 3


def test_an_answer_has_value_bound_and_margin_and_one_of_shows_what_is_allowed(toy_session):
    answers = {answer.rule: answer for answer in why(jobs_of(toy_session, 0), 0, toy_session.store)}
    label = answers["unwanted_label"]
    assert (label.value, label.side, label.bound, label.margin, label.verdict) == (
        "short",
        "one_of",
        ["long"],
        -1.0,
        "broken",
    )
    chars = answers["few_chars"]
    assert (chars.value, chars.side, chars.verdict) == (3.0, "at_least", "holds")
    assert chars.margin == pytest.approx(chars.value - chars.bound)


def test_a_rule_that_did_not_judge_names_the_null_column(toy_session):
    """The label is not wanted, so words were not counted."""
    answers = {answer.rule: answer for answer in why(jobs_of(toy_session, 0), 0, toy_session.store)}
    words = answers["few_words"]
    assert (words.value, words.margin, words.verdict) == (None, None, "not judged: words is null")


def test_every_document_of_the_third_has_an_answer_that_agrees_with_the_files(third_store):
    """In one session, as `polylm why` asks: the verdict from the rules is the one that the gates wrote."""
    from polylm.flows.reading import replayed

    with replayed(Settings(store=third_store, workers=0)) as here:
        gates = [jobs for jobs in here.gates if all(job.key for job in jobs)]
        assert len(gates) >= 5
        counts = {}
        for index, part in enumerate(here.artifacts["ingest"].parts):
            jobs = [jobs[index] for jobs in gates]
            columns = [read_columns(here.store.part_path(job.stage.name, job.key))[REASON].to_pylist() for job in jobs]
            for row in range(part.record.rows):
                answers = why(jobs, row, here.store)
                first = next(((a.gate, a.rule) for a in answers if a.verdict == "broken"), None)
                written = next(((j.stage.name, c[row]) for j, c in zip(jobs, columns, strict=True) if c[row]), None)
                assert first == written, (index, row)
                counts[first] = counts.get(first, 0) + 1
                assert all(
                    re.fullmatch(r"broken|holds|off|not judged: \w+( is null|, .+ are null)", a.verdict)
                    for a in answers
                )
    assert sum(counts.values()) == sum(part.record.rows for part in here.artifacts["ingest"].parts)
    assert len(counts) >= 5


def test_the_command_answers_by_address_and_by_id(third, third_store):
    found = json.loads(call(command("why", "sample.3.5", "--store", third_store, "--json")))
    assert found["address"] == "sample.3.5"
    assert found["verdict"].split()[0].rstrip(":") in ("kept", "rejected")
    assert {"gate", "rule", "side", "value", "bound", "margin", "verdict"} == found["rules"][0].keys()
    by_id = json.loads(call(command("why", found["document"]["id"], "--store", third_store, "--json")))
    assert by_id == found


def test_run_and_why_see_the_same_store(tmp_path):
    """A gate alone: what it says of a row does not depend on the other rows."""
    with session(Settings(store=tmp_path / "store", workers=0)) as here:
        docs = run(toys.read, toys.ReadParams(), toys.Pieces(*toys.toy_pieces(1)))
        maybe = run(toys.sometimes, NoParams(), docs)
        verdicts = run(toys.judge_maybe, toys.BoundParams(floor=2), maybe)
    for index, part in enumerate(docs.parts):
        written = read_columns(Store(tmp_path / "store").part_path("judge_maybe", verdicts.parts[index].key))[REASON]
        for row in range(part.record.rows):
            low = why(jobs_of(here, index), row, here.store)[0]
            assert (low.verdict == "broken") == (written[row].as_py() == "low")
            assert low.verdict == "broken" or low.verdict == "not judged: maybe is null"
