"""The page of all runs and the page of one."""

import re

import pytest
from fastapi.testclient import TestClient
from samples import wait_until

from polylm.dashboard.app import create_app
from polylm.dashboard.view import short_count
from polylm.deployments.settings import Settings
from polylm.tasks.maintenance.files import read_json, write_json


def tables(page):
    """The text of every row of every table, cells apart."""
    rows = re.findall(r"<tr.*?>(.*?)</tr>", page, re.S)
    return [
        [re.sub(r"<.*?>", "", cell).strip() for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.S)]
        for row in rows
    ]


@pytest.fixture(scope="module")
def shown(client, run):
    """The page of the run once nothing is counted in the background any more."""
    pages = [client.get(f"/run/{run.id}").text]
    wait_until(lambda: pages.append(client.get(f"/run/{run.id}").text) or "hx-get" not in pages[-1], 60)
    return pages[-1]


def test_the_first_page_has_every_run_whatever_started_it(client, run, here):
    page = client.get("/").text
    assert f'href="/run/{run.id}"' in page
    (row,) = [row for row in tables(page) if "completed" in row]
    assert f"{here.documents(run):,}" in row
    assert f"{here.survivors(run):,}" in row


def test_an_empty_store_says_how_to_make_a_run_and_one_that_is_gone_that_it_is(tmp_path):
    client = TestClient(create_app(Settings(store=tmp_path / "none")), base_url="http://localhost")
    assert "polylm run sample" in client.get("/").text
    assert "is not there" in client.get("/").text
    assert not (tmp_path / "none").exists()
    (tmp_path / "none").mkdir()
    assert "This store has no run yet" in client.get("/").text


def test_a_run_shows_its_funnel_by_language(shown, here, run):
    (total,) = [row for row in tables(shown) if row[:1] == ["all"]]
    assert total[1] == f"{here.documents(run):,}"
    assert f"{here.survivors(run):,}" in total
    assert {"en", "zh", "th", "ar"} <= {row[0] for row in tables(shown) if row}


def test_a_run_can_be_counted_in_characters(client, run, here, shown):
    page = client.get(f"/run/{run.id}?by=chars").text
    (total,) = [row for row in tables(page) if row[:1] == ["all"]]
    chars = here.sql("SELECT sum(c.chars) AS n FROM {beside}", {"c": here.entry(run, "clean")})["n"][0].as_py()
    assert total[1] == short_count(int(chars))


@pytest.mark.parametrize("by", ["tokens", "", "documents'", "DOCUMENTS"])
def test_an_unknown_unit_is_refused_with_what_there_is(client, run, by):
    answer = client.get(f"/run/{run.id}", params={"by": by})
    assert answer.status_code == 400
    assert "documents" in answer.text
    assert "bytes" in answer.text


def test_a_run_links_to_every_stage(shown, run):
    for entry in run.stages:
        assert f"/run/{run.id}/stage/{entry.stage}" in shown


def test_a_finished_run_is_not_polled(shown):
    assert "hx-get" not in shown


def test_the_fragment_is_the_page_without_its_frame(client, run, shown):
    part = client.get(f"/run/{run.id}/live").text
    assert "<html" not in part
    assert part.strip() in shown


def test_an_unknown_run_is_a_page_that_says_so(client):
    answer = client.get("/run/20200101T000000000-other")
    assert answer.status_code == 404
    assert "No run" in answer.text
    assert 'href="/"' in answer.text


def test_a_running_run_is_polled_and_shows_what_is_still_to_come(toy_store):
    toy_store()

    def mend(record):
        del record["stages"][4:]

    toys = toy_store(mend=mend)
    toys.here.reader.run(toys.id)
    page = toys.client.get(f"/run/{toys.id}").text
    assert "waiting" not in page  # it is completed, whatever it lacks
    as_running(toys)
    page = toys.client.get(f"/run/{toys.id}").text
    assert 'hx-trigger="every 3s"' in page
    assert "waiting" in page
    assert "follows it" in page


def test_stages_to_come_are_told_by_name_where_a_run_had_others_in_between(toy_store):
    toy_store()

    def mend(record):
        del record["stages"][3:]
        record["stages"].insert(1, {**record["stages"][0], "stage": "an_own_one", "artifact": "an_own_one/0"})

    toys = toy_store(mend=mend)
    as_running(toys)
    page = toys.client.get(f"/run/{toys.id}").text
    whole = next(one for one in toys.here.runs() if one.id != toys.id)
    ahead = re.findall(r"<title>([^<:]*): (?:waiting|running) ", page)
    assert ahead == [entry.stage.replace("_", " ") for entry in whole.stages[3:]]


def test_a_store_without_runs_says_what_makes_one(tmp_path):
    (tmp_path / "store").mkdir()
    app = create_app(Settings(store=tmp_path / "store"), prefect_url="http://127.0.0.1:4200")
    page = TestClient(app, base_url="http://127.0.0.1:8000").get("/").text
    assert "no run yet: <code>polylm run sample</code>" in page
    assert "the deployment <b>sample</b>" in page


def test_behind_the_oldest_run_there_is_no_older_one(toy_store):
    assert "No run is older" in toy_store().client.get("/?before=0").text


def test_an_alarm_links_to_where_it_can_be_approved(toy_store):
    def mend(record):
        alarm = {"rule": "source_lost", "subject": "toy", "message": "toy lost 99 %", "value": 0.99, "bound": 0.95}
        record["alarms"] = [
            alarm | {"action": "ask", "decision": None},
            alarm | {"action": "ask", "decision": {"approved": True, "reason": "a test source"}},
        ]

    toys = toy_store(mend=mend)
    page = toys.client.get(f"/run/{toys.id}").text
    assert "toy lost 99 %" in page
    assert 'href="http://127.0.0.1:4200"' in page
    assert "Approved: <bdi>a test source</bdi>" in page
    assert "2 alarms" in toys.client.get("/").text


def test_tabs_are_of_what_a_run_has_or_goes_on_to(toy_store, client, run):
    later = ("Training", "Instructions", "Evaluation")
    bar = client.get(f"/run/{run.id}").text.partition("</header>")[0]
    assert ">Documents</a>" in bar
    assert not any(f">{title}</a>" in bar for title in later)
    for recipe, state, shown in (({}, "running", True), ({"flow": "corpus"}, "running", False), ({}, "completed", False), ({}, "failed", True)):  # fmt: skip
        toys = toy_store()
        path = toys.settings.store / "runs" / f"{toys.id}.json"
        write_json(path, read_json(path) | {"state": state, "recipe": recipe})
        bar = toys.client.get(f"/run/{toys.id}").text.partition("</header>")[0]
        assert [f">{title}</a>" in bar for title in later] == [shown] * 3, (recipe, state)


def test_a_failed_run_shows_its_error(toy_store):
    def mend(record):
        raise ValueError("line 3 of <x> is no number")

    with pytest.raises(ValueError, match="line 3"):
        toy_store(mend=mend)
    toys = toy_store()
    failed = toys.here.runs()[-1]
    page = toys.client.get(f"/run/{failed.id}").text
    assert "failed" in page
    assert "line 3 of &lt;x&gt; is no number" in page


def test_a_run_whose_artifacts_were_collected_still_has_a_page(toy_store):
    toys = toy_store()
    for path in (toys.settings.store / "artifacts").rglob("*.json"):
        path.unlink()
    answer = toys.client.get(f"/run/{toys.id}")
    assert answer.status_code == 200
    assert "count words" in answer.text


def as_running(toys):
    """Write the run's record as it was while it ran."""
    path = toys.settings.store / "runs" / f"{toys.id}.json"
    write_json(path, read_json(path) | {"state": "running"})
