"""Alarms on pages: said once, with what was decided, and with links that open on what they are about."""

import re
from html import unescape

import pytest
from made_store import MadeStore, documents, opened
from samples import wait_until

from polylm.dashboard.alarms import alarms_of, evidence_of, other_errors
from polylm.dashboard.app import create_app
from polylm.dashboard.funnel import funnel_of
from polylm.deployments.settings import Settings
from polylm.tasks.maintenance.files import read_json, write_json

LOST = {"rule": "source_lost", "subject": "web", "message": "filter_text rejects 20 of 30 of web", "value": 0.66, "bound": 0.5, "action": "ask", "decision": None}  # fmt: skip


@pytest.fixture
def alarmed(tmp_path):
    """A function that makes a run of thirty documents with alarms, and opens its store."""
    made = MadeStore(tmp_path / "store")
    verdicts = [("drop_empty", "empty") if i < 5 else ("filter_text", "short") if i < 20 else None for i in range(30)]
    entries = documents(made, verdicts)
    gate = next(entry["artifact"] for entry in entries if entry["stage"] == "filter_text")

    def run(*alarms, state="awaiting approval", error="", time="20261127T120000000", started_by="test"):
        told = [{"artifact": gate, **alarm} for alarm in alarms]
        run_id = made.run("alarmed", entries, state=state, alarms=told, time=time)
        path = made.root / "runs" / f"{run_id}.json"
        write_json(path, read_json(path) | {"error": error, "started_by": started_by})
        site = opened(made)
        site.run = site.here.run(run_id)
        return site

    return run


def test_an_alarm_is_said_once_and_the_rest_of_the_error_stays(alarmed):
    error = f"alarm: {LOST['message']}\nthe run stops here: nobody is at hand"
    site = alarmed(LOST, state="alarm", error=error)
    assert other_errors(site.run) == "the run stops here: nobody is at hand"
    page = site.client.get(f"/run/{site.run.id}").text
    assert page.count(LOST["message"]) == 1
    assert "nobody is at hand" in page
    decided = alarmed(LOST | {"decision": {"approved": True, "reason": "yes"}}, state="approved", error="the run waits")
    assert other_errors(decided.run) == ""


def test_the_decision_and_its_reason_stand_beside_the_alarm(alarmed):
    yes, no = {"approved": True, "reason": "a test source"}, {"approved": False, "reason": "look at web first"}
    page = alarmed(LOST | {"decision": yes}, state="approved").client
    page = page.get("/run/20261127T120000000-alarmed").text
    assert re.search(r'state-approved">approved</span> <b><bdi>source lost', page)
    assert "Approved: <bdi>a test source</bdi>" in page
    assert "Waits for an approval" not in page
    page = alarmed(LOST | {"decision": no}, state="refused").client.get("/run/20261127T120000000-alarmed").text
    assert "Refused: <bdi>look at web first</bdi>" in page


def test_shares_are_told_as_shares_and_what_is_gone_without_numbers(alarmed):
    page = alarmed(LOST).client.get("/run/20261127T120000000-alarmed").text
    assert "66.0 % against a bound of 50.0 %" in page
    gone = alarmed({**LOST, "rule": "no_survivors", "subject": "", "value": 0, "bound": 1})
    assert "against a bound" not in gone.client.get("/run/20261127T120000000-alarmed").text


def test_only_a_run_that_waits_says_that_it_does(alarmed):
    assert [one.decision for one in alarms_of(alarmed(LOST).run)] == ["waiting"]
    assert [one.decision for one in alarms_of(alarmed(LOST, state="alarm").run)] == [""]


def test_why_the_funnel_has_other_numbers_is_said_where_a_gate_alarmed(alarmed):
    site = alarmed(LOST)
    assert "counts a document once, at the first gate that rejects it" in site.client.get(f"/run/{site.run.id}").text
    site = alarmed(LOST | {"rule": "no_survivors", "subject": "", "artifact": "count_survivors/0"})
    assert "counts a document once" not in site.client.get(f"/run/{site.run.id}").text


def test_alarms_lead_to_the_documents_and_the_stage_that_they_are_about(alarmed):
    gone = LOST | {"rule": "language_gone", "subject": "th", "artifact": "count_survivors/0"}
    shift = LOST | {"rule": "label_shift", "subject": "th", "artifact": "count_labels/0"}
    site = alarmed(LOST, gone, shift)
    base = f"/run/{site.run.id}"
    while (funnel := funnel_of(site.here, site.run)) is None:
        pass
    told = [(one.stage_href, one.documents_href) for one in evidence_of(site.here, site.run, funnel)]
    assert told == [
        (f"{base}/stage/filter_text?source=web", f"{base}/search?gate=filter_text&alone=1&source=web"),
        (f"{base}/stage/filter_text?language=th", f"{base}/search?fate=rejected&language=th"),
        (f"{base}/stage/identify_language?language=th", f"{base}/search?language=th"),
    ]
    page = unescape(site.client.get(base).text)
    assert all(f'href="{href}"' in page for pair in told for href in pair)


def test_the_attempts_of_one_flow_run_lead_to_each_other(alarmed):
    flow = "Prefect flow run 00000000-0000-0000-0000-000000000001"
    alarmed(LOST | {"decision": {"approved": True, "reason": "yes"}}, state="approved", started_by=flow)
    site = alarmed(state="completed", time="20261127T130000000", started_by=flow)
    page = site.client.get(f"/run/{site.run.id}").text
    assert 'href="/run/20261127T120000000-alarmed"' in page
    assert "One run of Prefect in several attempts" in page
    alone = alarmed(state="completed", time="20261127T140000000")
    assert "several attempts" not in alone.client.get(f"/run/{alone.run.id}").text


@pytest.mark.parametrize("alarm", [{}, {"message": None, "value": "x", "bound": float("nan"), "decision": "yes"}, {"artifact": 5, "decision": {}}])  # fmt: skip
def test_an_alarm_that_lacks_its_fields_is_shown_all_the_same(alarmed, alarm):
    site = alarmed(alarm)
    assert site.client.get(f"/run/{site.run.id}").status_code == 200
    assert "1 alarm" in site.client.get("/").text


def test_the_page_of_a_gate_opens_on_the_language_that_its_alarm_is_about(third_copy):
    """Of what the gate rejects of the alarm's source the commonest language, which is not the commonest of all."""
    path = next((third_copy / "runs").glob("*.json"))
    record = read_json(path)
    gate = next(entry["artifact"] for entry in record["stages"] if entry["stage"] == "filter_text")
    path.unlink()
    write_json(path, record | {"alarms": [{**LOST, "subject": "sample", "artifact": gate}]})
    app = create_app(Settings(store=third_copy))
    here = app.state.queries
    from fastapi.testclient import TestClient

    client, run = TestClient(app, base_url="http://127.0.0.1:8000"), here.runs()[0]
    beside = {"l": here.entry(run, "identify_language"), "v": here.entry(run, "filter_text")}
    counted = here.sql("SELECT l.language AS a, count(v.rejected_because) AS lost, count(*) AS n FROM {beside} GROUP BY 1", beside).to_pylist()  # fmt: skip
    worst = max(row["lost"] for row in counted)
    pages = []
    wait_until(lambda: pages.append(client.get(f"/run/{run.id}/stage/filter_text").text) or "Rules in" in pages[-1], 60)
    shown = re.search(r'aria-current="page">(?:<bdi>)?(\w+)', pages[-1].partition('class="choice"')[2])[1]
    assert shown in {row["a"] for row in counted if row["lost"] == worst}
    assert LOST["message"] in pages[-1]
    assert f"/run/{run.id}/search?gate=filter_text&amp;alone=1&amp;source=sample" in pages[-1]
