"""The packed rows of a document, and the training steps that saw them."""

import re
from collections import Counter

import pytest
from fastapi.testclient import TestClient
from samples import call, command, third_options

from polylm.dashboard import training_trace
from polylm.dashboard.app import create_app
from polylm.dashboard.document import row_of
from polylm.dashboard.training_trace import packed_rows, trainings
from polylm.deployments.settings import Settings
from polylm.tasks import keys
from polylm.tasks.maintenance.files import read_json, write_json
from polylm.tasks.tokens.curriculum import planned_rows
from polylm.tasks.training.train import TrainParams, pretrain

STEPS, BATCH = 20, 4
CURRICULUM = (
    f'{{"segments": [{{"name": "one", "steps": {STEPS}, "non_english": 0.3, "pairs": 0.1}}, '
    f'{{"name": "two", "steps": {STEPS}, "non_english": 0.6, "pairs": 0.2}}], "batch": {BATCH}}}'
)


@pytest.fixture
def trained(third, third_copy):
    """A dashboard of a run up to its curriculum, in whose record two trainings stand that never were."""
    options = [*third_options(third), "--set", "flow=everything", "--set", f"curriculum={CURRICULUM}"]
    options += ["--set", "tokenizer.vocabulary=1000", "--until", "plan_curriculum", "--store", third_copy]
    call(command("run", "sample", *options, "--workers", 2, "--no-prefect", "--json"))
    path = max((third_copy / "runs").glob("*.json"))
    record = read_json(path)
    reads = [
        s["artifact"]
        for stage in ("plan_curriculum", "pack", "pack_pairs")
        for s in record["stages"]
        if s["stage"] == stage
    ]
    for segment in ("one", "two"):
        params = TrainParams(segment=segment, steps=STEPS, batch=BATCH).model_dump(mode="json")
        key = keys.digest(segment)
        manifest = {
            "stage": "pretrain",
            "shape": "folder",
            "sources": [],
            "params": params,
            "version": pretrain.version,
            "parts": [],
        }
        (third_copy / "artifacts" / "pretrain").mkdir(exist_ok=True)
        write_json(third_copy / "artifacts" / "pretrain" / f"{key}.json", manifest | {"reads": reads})
        entry = {"stage": "pretrain", "jobs": 1, "reused": 0, "built": 1, "seconds": 1.0, "rows": 0, "reasons": {}}
        record["stages"].append(entry | {"artifact": f"pretrain/{key[:16]}", "reads": reads})
    write_json(path, record)
    app = create_app(Settings(store=third_copy))
    return app.state.queries, TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


def waited(here, run):
    while (found := trainings(here, run)) is None:
        pass
    return found


def test_a_document_is_followed_into_its_training_steps(trained, monkeypatch):
    here, client = trained
    run = here.runs()[0]
    trains = [here.place(run, here.address(run, part, row)) for part in range(4) for row in range(0, 30, 3)]
    packed = {place: packed_rows(here, run, place) for place in trains}
    holds_every_token(here, run, packed)
    deals_what_is_planned(here, run)
    place, rows = next((place, rows) for place, rows in packed.items() if seen_by(waited(here, run)[1], rows))
    page = client.get(f"/run/{run.id}/doc/{place.address}/training").text
    assert f"{len(seen_by(waited(here, run)[1], rows))} of {STEPS} steps saw it" in page
    fragment = client.get(f"/run/{run.id}/doc/{place.address}/training", headers={"HX-Request": "true"}).text
    assert "<html" not in fragment
    assert fragment.strip() in page
    assert f"/doc/{place.address}/training" in client.get(f"/run/{run.id}/doc/{place.address}").text
    waits_once(client, f"/run/{run.id}/doc/{place.address}/training", monkeypatch)
    monkeypatch.setattr(training_trace, "MOST_DEALT", 10)
    assert all(training_trace.training_of(here, entry).seen is None for entry in run.entries("pretrain"))


def waits_once(client, path, monkeypatch):
    """A fragment that waits for the steps asks for itself again as a whole: within itself the answer would stand twice."""
    with monkeypatch.context() as patched:
        patched.setattr("polylm.dashboard.pages.document.trainings", lambda *_: None)
        waiting = client.get(path, headers={"HX-Request": "true"}).text
    assert waiting.strip().startswith(f'<div hx-get="{path}"')
    assert waiting.count("hx-get") == 1


def seen_by(training, rows):
    return {step for row in rows for step in training.seen.get((row.stage, row.part, row.row), ())}


def holds_every_token(here, run, packed):
    """Rows of documents hold every token once and one separator; a piece that goes on begins with one token again."""
    kept = 0
    for place, rows in packed.items():
        tokens = row_of(here, run, "encode", place, ["tokens"])["tokens"]
        own = [row for row in rows if row.stage == "pack"]
        if tokens is None or row_of(here, run, "assign_split", place, ["split"])["split"] != "train":
            assert own == []
            continue
        kept += 1
        assert {row.part for row in own} == {place.part}
        assert len(tokens) <= sum(row.tokens for row in own) <= len(tokens) + 2 * len(own)
    assert kept > 5


def deals_what_is_planned(here, run):
    """Every training deals of each cell as many rows as the curriculum plans."""
    planned = planned_rows(here.small_table(here.entry(run, "plan_curriculum")))
    for training in waited(here, run):
        dealt = Counter()
        for (stage, part, row), steps in training.seen.items():
            assert set(steps) <= set(range(STEPS))
            dealt[here.part(here.entry(run, stage), part, ["cell"])["cell"][row].as_py()] += len(steps)
        assert dealt == planned[training.segment]
        assert re.fullmatch("one|two", training.segment)
