"""Stores of other versions, cut short or tidied up: every page shows what there is, and says what there is not."""

import json
import re
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from asking import Asker
from made_store import MadeStore, documents, opened, trained
from samples import wait_until

from polylm.dashboard.app import create_app
from polylm.dashboard.document import jobs_of
from polylm.dashboard.keeping import advice_on
from polylm.dashboard.search import Question, search
from polylm.deployments.settings import Settings
from polylm.tasks.maintenance.files import read_json, write_json

DATA_PAGES = ("", "/live", "/search", "/search?fate=kept&language=en", "/search?q=the&gate=filter_text&alone=1")
FAILED = "The dashboard failed at this page"


def dashboard(root):
    app = create_app(Settings(store=root))
    return SimpleNamespace(here=app.state.queries, client=Asker(app))


def settled(client, path):
    """The answer once nothing of it is being read."""
    said = [client.get(path)]
    wait_until(lambda: not re.search('http-equiv="refresh"|class="pending"', said[-1].text) or said.append(client.get(path)), 20)  # fmt: skip
    return said[-1]


def pages_of(run, place="sample.0.3"):
    base = f"/run/{run.id}"
    stages = [f"{base}/stage/{entry.stage}" for entry in run.stages]
    return [*(base + path for path in DATA_PAGES), *stages, f"{base}/doc/{place}", f"{base}/training"]


def record_of(root):
    path = next((root / "runs").glob("*.json"))
    return path, read_json(path)


def rewritten(root, stage, without):
    """The parts of a stage as code wrote them that had no such column."""
    for path in sorted((root / "parts" / stage).rglob("*.parquet")):
        table = pq.read_table(path)
        path.unlink()  # the copy is of hard links
        pq.write_table(table.drop_columns([without]).replace_schema_metadata(table.schema.metadata), path)


def test_a_run_that_lacks_a_stage_has_all_other_pages(third_copy):
    path, record = record_of(third_copy)
    names = list(dict.fromkeys(entry["stage"] for entry in record["stages"]))
    for number, name in enumerate(names):
        stages = [entry for entry in record["stages"] if entry["stage"] != name]
        run_id = f"20250101T{number:09d}-sample"
        write_json(path.with_name(f"{run_id}.json"), {**record, "id": run_id, "state": "stopped", "stages": stages})
    site = dashboard(third_copy)
    for run in [run for run in site.here.runs() if run.state == "stopped"]:
        base, there = f"/run/{run.id}", {entry.stage for entry in run.stages}
        paths = [base, f"{base}/search?language=en", f"{base}/doc/sample.0.3", *(f"{base}/stage/{name}" for name in ("identify_language", "label_clusters") if name in there)]  # fmt: skip
        for page in paths:
            answer = site.client.get(page)
            expected = {200} if "ingest" in there else {200, 404}
            assert answer.status_code in expected, (page, set(names) - there)
            linked = set(re.findall(rf'href="{base}/stage/(\w+)', answer.text))
            assert linked <= there, (page, set(names) - there)


@pytest.mark.parametrize("stage", ["measure_text", "identify_language", "clean"])
def test_what_was_collected_as_garbage_takes_no_page_with_it(third_copy, stage):
    for path in (third_copy / "artifacts" / stage).glob("*.json"):
        path.unlink()
    site = dashboard(third_copy)
    run = site.here.runs()[0]
    for page in pages_of(run):
        assert FAILED not in settled(site.client, page).text, page
    said = site.client.get(f"/run/{run.id}/doc/sample.0.3")
    assert said.status_code == 200
    assert "as the run recorded it" in said.text


@pytest.mark.parametrize(
    ("stage", "column", "page", "said"),
    [
        ("identify_language", "confidence", "/stage/identify_language", "has no column confidence"),
        ("identify_language", "confidence", "/stage/keep_sure", "keep_sure reads confidence"),
        ("measure_text", "bytes", "", "What became of the documents"),
        ("clean", "chars", "", "What became of the documents"),
    ],
)
def test_a_column_that_older_code_did_not_write_is_named(third_copy, stage, column, page, said):
    rewritten(third_copy, stage, column)
    site = dashboard(third_copy)
    run = site.here.runs()[0]
    answer = settled(site.client, f"/run/{run.id}{page}")
    assert answer.status_code == 200
    assert said in answer.text
    for other in pages_of(run):
        assert FAILED not in settled(site.client, other).text, other


def test_a_document_of_gates_of_another_version_shows_what_the_run_recorded(third_copy):
    for path in (third_copy / "artifacts" / "filter_text").glob("*.json"):
        told = read_json(path) | {"version": 99}
        path.unlink()
        write_json(path, told)
    site = dashboard(third_copy)
    run = site.here.runs()[0]
    part, row = search(site.here, run, Question(gate="filter_text")).places[0]
    page = site.client.get(f"/run/{run.id}/doc/{site.here.address(run, part, row)}").text
    assert re.search(r"Rejected by filter text because of [a-z0-9 ]+, as the run recorded it", page)
    assert "made by other code" in page
    assert "What would keep it" not in page


def test_a_field_that_is_younger_than_the_run_can_be_what_keeps_a_document(third_copy):
    """The manifest lacks a threshold that is the default of today's code."""
    for path in (third_copy / "artifacts" / "filter_text").glob("*.json"):
        told = read_json(path)
        del told["params"]["thresholds"]
        path.unlink()
        write_json(path, told)
    site = dashboard(third_copy)
    run = site.here.runs()[0]
    part, row = search(site.here, run, Question(reason="gopher_short_doc")).places[0]
    place = site.here.place(run, site.here.address(run, part, row))
    jobs, unasked = jobs_of(site.here, run, place)
    assert not unasked
    from polylm.dashboard.document import judge

    changes = advice_on(site.here, run, jobs, place, judge(site.here, jobs, place)).changes
    assert changes[0].changes
    assert changes[0].before is not None
    assert site.client.get(f"/run/{run.id}/doc/{place.address}").status_code == 200


def test_the_tokenizer_of_a_run_that_selected_nothing_has_its_page(tmp_path):
    made = MadeStore(tmp_path / "store")
    site = opened(made)
    run_id = made.run("stopped", [*documents(made, [None] * 12), *trained(made, segments=())])
    page = settled(site.client, f"/run/{run_id}/stage/train_tokenizer")
    assert page.status_code == 200
    assert "3" in page.text
    (path,) = (made.root / "folders" / "train_tokenizer").glob("*/statistics.parquet")
    path.unlink()
    assert "statistics.parquet is gone: `polylm verify" in site.client.get(f"/run/{run_id}/stage/train_tokenizer").text


@pytest.mark.parametrize("told", ["{}", '{"state": "running"}', '{"id": "x", "name": "x", "state": "completed", "stages": null}', '{"state": "completed", "name": "x", "stages": [{}]}', "[]", "nothing", '{"state": 3}', None])  # fmt: skip
def test_a_damaged_record_is_a_run_that_says_so(toy_store, told):
    toys = toy_store()
    path = toys.settings.store / "runs" / "20250101T000000000-odd.json"
    path.mkdir() if told is None else path.write_text(told)
    page = toys.client.get("/")
    assert page.status_code == 200
    assert ">damaged</bdi>" in page.text
    assert f'href="/run/{toys.id}"' in page.text
    for rest in ("", "/live", "/search", "/training", "/instructions", "/evaluation"):
        assert toys.client.get(f"/run/20250101T000000000-odd{rest}").status_code == 200, rest
    assert toys.client.get(f"/compare/20250101T000000000-odd/{toys.id}").status_code in (200, 404)
    assert "is damaged" in toys.client.get("/run/20250101T000000000-odd").text
    assert str(toys.settings.store) not in toys.client.get("/run/20250101T000000000-odd").text


@pytest.mark.parametrize("more", [{"now": {"x": 1}, "state": "stopped"}, {"new": {"since": None, "sources": {"a": 1}}}, {"new": {"x": []}}, {"alarms": [{}]}, {"recipe": None}])  # fmt: skip
def test_a_record_of_another_version_is_shown_as_far_as_it_is_known(toy_store, more):
    toys = toy_store()
    path = toys.settings.store / "runs" / f"{toys.id}.json"
    record = json.loads(path.read_text())
    path.unlink()
    write_json(path, record | more)
    assert toys.client.get(f"/run/{toys.id}").status_code == 200
    assert toys.client.get("/").status_code == 200
