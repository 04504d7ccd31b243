"""A new user's day with `polylm up`, in a real browser and against real servers: the README's words are what is clicked."""

import shlex

import pytest
from person import person_at
from playwright.sync_api import expect
from samples import half_written, is_alive, third_records, wait_until, write_jsonl
from upped import LANGUAGES

from polylm.tasks.maintenance.files import read_json

pytestmark = [pytest.mark.prefect, pytest.mark.serial]
CHANGES = ["ingest.part_rows=50"]  # keys that no other test makes
STRICT = ["alarms.max_source_loss=0.2"]
REASON = "help pages repeat themselves"


@pytest.fixture(scope="module")
def person(up):
    with person_at(up) as someone:
        yield someone


@pytest.fixture(scope="module")
def pages():
    """Documents of the sample: a few more than the hundred from which on a source is watched."""
    return [record for record in third_records() if record["lang_declared"] in (*LANGUAGES, "es")]


@pytest.fixture(scope="module")
def sources(pages, tmp_path_factory):
    """Those, as the form takes a source."""
    return [f"pages={write_jsonl(tmp_path_factory.mktemp('pages') / 'pages.jsonl', pages)}"]


@pytest.fixture(scope="module")
def finished(person, up, sources):
    """The flow run that somebody started from the form, at its end."""
    run = person.starts("corpus", "the second try", sources, CHANGES)
    person.looks_away()
    up.end_of(run)
    return run


def test_the_form_refuses_a_bad_value_at_its_field(person, up):
    before = flow_runs(up, "corpus")
    person.opens_form("corpus")
    person.adds("Sources", "no-path")
    person.submits()
    expect(person.field("Sources")).to_contain_text(
        "'NAME=PATH, such as mine=folder/of/files, on one line' was expected"
    )
    assert flow_runs(up, "corpus") == before


def flow_runs(up, deployment, **more):
    """The flow runs of a deployment that the API knows."""
    found = up.ask(f"/api/deployments/name/polylm/{deployment}")
    return up.ask("/api/flow_runs/filter", {"deployments": {"id": {"any_": [found["id"]]}}, "flow_runs": more})


def test_a_run_that_is_cancelled_in_the_ui_leaves_no_process(person, up, sources):
    run = person.starts("corpus", "the first try", sources, CHANGES)
    person.looks_away()
    assert wait_until(lambda: up.at_work_on(run, "clean"), 120), up.worker_log()
    person.opens_run(run)
    person.page.get_by_role("button", name="Cancel").click()
    processes = up.processes(run)
    assert len(processes) >= 2, "there were to be workers"
    person.page.get_by_role("dialog").get_by_role("button", name="Confirm").click()
    person.page.get_by_role("dialog").wait_for(state="hidden")
    assert wait_until(lambda: not any(map(is_alive, processes)), 15), [p.cmdline() for p in processes if is_alive(p)]
    person.sees_state("Cancelled")
    assert up.state(run)["type"] == "CANCELLED"
    assert up.record(run)["state"] == "stopped"
    assert half_written(up.store) == []


def test_the_same_run_started_again_goes_on_to_its_end(person, up, finished, pages):
    person.opens_run(finished)
    person.sees_state("Completed")
    stages = up.record(finished)["stages"]
    assert stages[0]["built"] == 0, "the cancelled run has read the files"
    assert (stages[0]["rows"], stages[-1]["stage"]) == (len(pages), "select")


@pytest.fixture(scope="module")
def rejected(person, up, finished):
    """A document that was rejected for the commonest reason, found by clicks, with that reason, on its page."""
    dashboard = opens_dashboard(person, up, finished)
    reason = dashboard.get_by_label("The commonest first reasons").get_by_role("link").first
    words = reason.text_content().strip()  # it is a drawing's
    reason.click()
    document = dashboard.locator("main a[href*='/doc/']").first
    address = document.inner_text()
    document.click()
    yield dashboard, address, words
    dashboard.close()


def test_a_person_finds_why_a_document_was_rejected_and_what_would_keep_it(rejected):
    page, address, reason = rejected
    expect(page.get_by_role("heading", name=address)).to_contain_text("rejected")
    expect(page.locator(".verdict")).to_contain_text(reason)
    assert what_would_keep(page)


def opens_dashboard(person, up, run):
    """A run's page on the dashboard, by the link that its last funnel table in Prefect has."""
    person.opens_run(run)
    person.sees_state("Completed")
    person.opens_tab("Artifacts")
    tables = person.page.get_by_role("link", name="funnel")  # a card: its link has all of its text
    tables.filter(has_text="documents of this run.").click()
    expect(
        person.page.get_by_role("columnheader", name="rejected")
    ).to_be_visible()  # the card has the link too, cut off
    dashboard = person.follows(person.page.get_by_role("link", name="The run on the dashboard"))
    assert dashboard.url == f"http://127.0.0.1:{up.port + 1}/run/{up.record(run)['id']}"
    return dashboard


def what_would_keep(page):
    """The changes that a document's page offers, as the form takes them."""
    options = shlex.split(page.locator("#keep ~ .copied pre").first.inner_text().replace("\\\n", ""))
    same = page.get_by_text("In the form of a run in Prefect").locator("code").all_inner_texts()
    _, _, *changes = same  # the first two are `changes` and `--set`
    assert options == [word for change in changes for word in ("--set", change)]
    return changes


def test_what_would_keep_it_does_once_an_alarm_is_approved_in_the_form_with_a_reason(
    person, up, sources, rejected, finished
):
    page, address, _ = rejected
    run = person.starts("corpus", "with that one", sources, CHANGES + what_would_keep(page) + STRICT)
    person.comes_back_at(run, "Suspended")
    assert up.record(run)["state"] == "awaiting approval"
    asked = f"/api/flow_runs/{run}/input/filter"
    assert wait_until(lambda: len(up.ask(asked, {"prefix": "", "limit": 10})) >= 2, 30, 0.3), "the form comes later"
    person.page.get_by_role("button", name="Resume").click()
    form = person.page.get_by_role("dialog")
    expect(form).to_contain_text("filter_text rejects")
    form.get_by_role("button", name="Submit").click()
    expect(form).to_contain_text("'reason' is a required property")
    evidence = person.follows(form.get_by_role("link", name="The evidence on the dashboard"))
    expect(evidence.locator("main")).to_contain_text("filter_text rejects")
    there = evidence.get_by_role("link", name="its page in Prefect")
    expect(there).to_have_attribute("href", f"http://127.0.0.1:{up.port}/runs/flow-run/{run}")
    person.turns_back()
    form.get_by_role("textbox").fill(REASON)
    form.get_by_role("button", name="Submit").click()
    form.wait_for(state="hidden")
    person.comes_back_at(run, "Completed")
    evidence.reload()
    expect(evidence.locator("main")).to_contain_text(f"Approved: {REASON}")
    evidence.close()
    assert up.attempts(run) == ["approved", "completed"]
    (alarm,) = up.record(run)["alarms"]
    assert alarm["decision"] == {"approved": True, "reason": REASON, "later_gates": True}
    (manifest,) = (up.store / "artifacts").glob(f"{alarm['artifact']}*.json")
    assert [entry["decision"] for entry in read_json(manifest)["alarms"]] == [alarm["decision"]]
    new = up.record(run)["new"]
    assert (new["since"], new["sources"]) == (up.record(finished)["id"], {}), "the same documents, judged otherwise"
    dashboard = opens_dashboard(person, up, run)
    dashboard.goto(f"{dashboard.url}/doc/{address}")
    expect(dashboard.get_by_role("heading", name=address)).to_contain_text("kept")
    dashboard.close()


def scheduled(up):
    """The runs of the nightly deployment that are to come."""
    return flow_runs(up, "nightly", state={"type": {"any_": ["SCHEDULED"]}})


def test_a_person_switches_the_nightly_schedule_on_and_off(person, up):
    person.opens("nightly")
    switch = person.page.get_by_role("switch")
    expect(switch).not_to_be_checked()
    switch.click(force=True)
    expect(switch).to_be_checked()
    assert wait_until(lambda: scheduled(up), 120, 0.5), "the server's scheduler makes no runs"
    assert all(run["expected_start_time"].partition("T")[2].startswith("02:00:00") for run in scheduled(up))
    person.page.reload()
    person.opens_tab("Upcoming")
    coming = person.page.get_by_role("tabpanel").get_by_text("02:00:00 AM")
    expect(coming.first).to_be_visible()
    person.page.get_by_role("switch").click(force=True)
    expect(person.page.get_by_role("switch")).not_to_be_checked()
    assert wait_until(lambda: not scheduled(up), 30, 0.5)
