"""The page of a stage: params, rows and what it stands on, whatever the stage; and that of language identification."""

import json
import re

import numpy as np
import pytest
from fastapi.testclient import TestClient

from polylm.dashboard.app import create_app
from polylm.dashboard.stages.language import DECLARED
from polylm.deployments.settings import Settings
from polylm.tasks.maintenance.files import read_json, write_json
from polylm.tasks.store import read_columns


def plain(markup):
    return re.sub(r"\s+", " ", re.sub(r"<.*?>", " ", markup)).replace("&#34;", '"')


def column(here, run, stage, name):
    return [v for path in here.paths(here.entry(run, stage)) for v in read_columns(path)[name].to_pylist()]


@pytest.fixture(scope="module")
def languages_page(client, run):
    while (
        "Counting labels" in (page := client.get(f"/run/{run.id}/stage/identify_language").text) or "lang_" not in page
    ):
        pass
    return page


def test_every_stage_of_a_run_has_a_page(client, run):
    for entry in run.stages:
        key = entry.artifact.partition("/")[2]
        assert client.get(f"/run/{run.id}/stage/{entry.stage}", params={"artifact": key}).status_code == 200, (
            entry.stage
        )


def test_params_stand_with_their_meaning_and_source(client, run):
    page = plain(client.get(f"/run/{run.id}/stage/fit_language_floors").text)
    assert "lowest 0.3 No floor is below. FineWeb2 (arXiv 2506.20920)" in page


def test_a_param_that_is_not_the_default_says_so(client, run):
    page = plain(client.get(f"/run/{run.id}/stage/ingest").text)
    assert "part_rows 32 (not the default)" in page
    assert not re.search(r"split_bytes \d+( bytes)? \(not", page)


def test_what_it_reads_and_what_reads_it_are_linked(client, run):
    page = client.get(f"/run/{run.id}/stage/fit_language_floors").text
    reads, readers = page.split("<h2>Reads</h2>")[1].split("<h2>Is read by</h2>")
    assert f'href="/run/{run.id}/stage/identify_language"' in reads
    assert f'href="/run/{run.id}/stage/keep_sure"' in readers


def test_rows_come_in_pages_across_parts(client, here, run):
    texts = column(here, run, "ingest", "id")
    shown = []
    for number in range(1, 4):
        page = client.get(f"/run/{run.id}/stage/ingest?page={number}").text
        rows = re.findall(r"<tr><th><a href=\"/run/[^\"]*/doc/[^\"]*\"><bdi>(.*?)</bdi>.*?</tr>", page, re.S)
        assert len(rows) == 20
        shown += rows
        assert all(text in page for text in texts[(number - 1) * 20 : number * 20])
    assert shown[31:33] == ["sample.0.31", "sample.1.0"]


def test_a_page_past_the_end_is_empty_and_one_before_the_first_is_refused(client, run):
    assert "No row on this page" in client.get(f"/run/{run.id}/stage/ingest?page=1000000").text
    assert client.get(f"/run/{run.id}/stage/ingest?page=0").status_code == 400
    assert client.get(f"/run/{run.id}/stage/ingest?page=-1%27").status_code == 400


@pytest.mark.parametrize("stage", ["nothing", "..%2F..%2Fetc", "<script>"])
def test_an_unknown_stage_is_a_page_that_says_what_there_is(client, run, stage):
    answer = client.get(f"/run/{run.id}/stage/{stage}")
    assert answer.status_code == 404
    assert "<script>" not in answer.text


def test_a_stage_that_todays_code_does_not_have_is_shown_by_its_manifest(toy_store):
    toys = toy_store()  # its stages are not among those of the package
    page = toys.client.get(f"/run/{toys.id}/stage/keep_long").text
    assert "min_words" in page


def test_a_gate_whose_version_was_raised_says_so_and_shows_what_is_left(third_copy):
    for path in (third_copy / "artifacts" / "keep_sure").glob("*.json"):
        told = read_json(path) | {"version": 99}
        path.unlink()
        write_json(path, told)
    app = create_app(Settings(store=third_copy))
    client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
    run = app.state.queries.runs()[0]
    while "Reading a sample" in (page := client.get(f"/run/{run.id}/stage/keep_sure").text):
        pass
    assert "made by other code" in page
    assert "unsure language" in page


def test_a_stage_whose_artifact_was_collected_still_has_a_page(toy_store):
    toys = toy_store()
    for path in (toys.settings.store / "artifacts" / "count").glob("*.json"):
        path.unlink()
    answer = toys.client.get(f"/run/{toys.id}/stage/count")
    assert answer.status_code == 200
    assert "collected as garbage" in answer.text


def test_a_damaged_part_is_a_page_that_names_the_way_out(toy_store):
    toys = toy_store()
    (path,) = toys.here.paths(toys.here.entry(toys.here.runs()[0], "fit_floors"))
    damaged = bytearray(path.read_bytes())
    damaged[20] ^= 0xFF
    path.unlink()
    path.write_bytes(damaged)
    answer = toys.client.get(f"/run/{toys.id}/stage/fit_floors")
    assert f"fit_floors: parts/fit_floors/{path.parent.name}/{path.name} is damaged" in answer.text
    assert "polylm verify" in answer.text
    assert ">Params</h2>" in answer.text  # what can be read is shown


def test_the_table_of_a_stage_with_its_own_page_can_be_asked_for(client, run):
    page = client.get(f"/run/{run.id}/stage/identify_language?as=table").text
    assert "runner up" in page
    assert "page=2&amp;as=table" in page


def test_labels_are_counted_and_unsure_ones_with_them(languages_page, here, run):
    labels = column(here, run, "identify_language", "language")
    unsure = column(here, run, "keep_sure", "rejected_because")
    for label in set(labels):
        own = [u for one, u in zip(labels, unsure, strict=True) if one == label]
        rejected = len(own) - own.count(None)
        told = plain(languages_page).split("How sure")[1]
        assert f"{label} {len(own):,} documents" + (f", {rejected} unsure" if rejected else "") in told


def test_declared_languages_stand_against_those_found(languages_page, here, run):
    declared = [json.loads(extra)[DECLARED[0]] for extra in column(here, run, "ingest", "extra")]
    labels = column(here, run, "identify_language", "language")
    pairs = [(a.split("-")[0].lower(), b) for a, b in zip(declared, labels, strict=True)]
    agreeing = sum(a == b for a, b in pairs) / len(pairs)
    assert f"{agreeing:.1%}".replace("%", " %") + f" of {len(pairs):,} agree" in plain(languages_page)
    for a, b in {pair for pair in pairs if pair[0] != pair[1]}:
        if pairs.count((a, b)) > 1:
            assert f"{a} {b} {pairs.count((a, b))}" in plain(languages_page)


def test_the_most_doubtful_documents_come_first(languages_page, here, run):
    first, second = (
        np.array(column(here, run, "identify_language", name), float) for name in ("confidence", "runner_up_confidence")
    )
    least = np.nanmin(first - second)
    address = re.search(rf'/run/{run.id}/doc/([^"]+)"', languages_page.split('id="doubt"')[1])[1]
    place = here.place(run, address)
    table = here.part(here.entry(run, "identify_language"), place.part)
    found = table["confidence"][place.row].as_py() - table["runner_up_confidence"][place.row].as_py()
    assert found == pytest.approx(least)


def test_an_unknown_label_is_refused(client, run, languages_page):
    assert client.get(f"/run/{run.id}/stage/identify_language?language=%27").status_code == 404
