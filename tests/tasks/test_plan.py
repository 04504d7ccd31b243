"""Plans: the same flow in another mode, exact up to the first costly job that is missing, "at most" past it."""

import json
import shutil

import pytest
import toy_stages as toys
from samples import call, command, snapshot, third_options, third_records, write_jsonl

from polylm.deployments.settings import Settings
from polylm.tasks.run import StageFailed, run
from polylm.tasks.session import session
from polylm.tasks.stage import NoParams
from polylm.tasks.store import Store, read_columns

STRICTER = toys.KeepParams(min_words={"short": 0.0, "long": 3.0})  # rejects in the parts 0, 1, 3, 4, ... but not in all
GATES = {"keep_labels", "keep_long", "fit_floors"}


@pytest.fixture
def settings(tmp_path, toy_folder):
    return Settings(store=tmp_path / "store", workers=0)


def go(settings, mode, **more):
    with session(settings, mode=mode) as here:
        toys.toy_flow(toys.toy_pieces(), **more)
    return {report.stage: report for report in here.reports}


def test_of_an_empty_store_it_names_ingest_and_says_at_most_for_the_rest(settings):
    found = go(settings, "plan")
    assert found["read"].exact
    assert found["read"].built == ["toy:0", "toy:1", "toy:2"]
    assert not any(report.exact for stage, report in found.items() if stage != "read")
    assert snapshot(settings.store) == {}
    assert list((settings.store / "runs").iterdir()) == []


def test_of_a_finished_run_it_names_nothing(settings):
    go(settings, "run")
    held = snapshot(settings.store)
    assert not any(report.built or not report.exact for report in go(settings, "plan").values())
    assert snapshot(settings.store) == held


def test_it_builds_gates_and_fits_which_the_run_then_finds_and_nothing_else(settings):
    go(settings, "run")
    before = snapshot(settings.store)
    planned = go(settings, "plan", keep=STRICTER)
    new = {name.split("/")[1] for name in snapshot(settings.store).keys() - before.keys()}
    assert new == {"keep_long"}
    ran = go(settings, "run", keep=STRICTER)
    assert ran["keep_long"].built == []
    for stage, report in ran.items():
        if planned[stage].exact and stage not in GATES:
            assert report.built == planned[stage].built


def test_a_moved_threshold_names_exactly_the_jobs_that_a_run_does_and_past_them_at_most(settings, tmp_path):
    go(settings, "run")
    shutil.copytree(settings.store, tmp_path / "copy")
    planned = go(settings, "plan", keep=STRICTER)
    ran = go(Settings(store=tmp_path / "copy", workers=2), "run", keep=STRICTER)
    assert planned.keys() == ran.keys()
    for stage, report in planned.items():
        if report.exact:
            assert (stage, ran[stage].built) == (stage, report.built)
        assert set(ran[stage].built) <= set(report.built)
    assert planned["choose"].exact
    assert 2 <= len(planned["choose"].built) < planned["choose"].jobs
    assert planned["collect_words"].exact
    assert [planned[stage].exact for stage in ("encode", "write_model")] == [False, False]


def test_a_costly_result_that_comes_out_equal_makes_the_run_do_less_than_at_most(settings):
    """Rejects a document whose words are in others too: the words are the same, so what reads them is re-used."""
    go(settings, "run")
    fewer = toys.LabelParams(labels=("short", "long", "other"))
    planned, ran = go(settings, "plan", labels=fewer), go(settings, "run", labels=fewer)
    assert all(set(ran[stage].built) <= set(planned[stage].built) for stage in ran)
    assert [stage for stage, report in ran.items() if report.built] == []


def test_a_gate_that_fails_in_a_plan_says_so(settings):
    with session(settings):
        counts = run(toys.count, NoParams(), run(toys.read, toys.ReadParams(), toys.Pieces(*toys.toy_pieces())))
    with (
        pytest.raises(StageFailed, match=r"divide toy\.0: divide: rule few_vowels is NaN"),
        session(settings, mode="plan"),
    ):
        run(toys.divide, NoParams(), counts)


def test_a_source_added_at_the_end_touches_others_only_through_what_sees_the_whole(settings):
    go(settings, "run")
    with session(settings) as here:
        toys.toy_flow([*toys.toy_pieces(), *toys.toy_pieces(3, "new")])
    old = {report.stage: [label for label in report.built if label.startswith("toy")] for report in here.reports}
    # The new source has the same texts: words and floors come out equal, so nothing of the old one is done again.
    assert {stage for stage, labels in old.items() if labels} == set()
    fresh = [toys.Piece("other", "other:0", ("a text of words that no other has",))]
    with session(settings) as here:
        toys.toy_flow([*toys.toy_pieces(), *fresh])
    old = {report.stage: [label for label in report.built if label.startswith("toy")] for report in here.reports}
    assert {stage for stage, labels in old.items() if labels} == {"keep_long", "encode"}
    assert len(old["encode"]) == 9


# The real flow, on a third of the sample ------------------------------------------------------------------------


def real(verb, third, store, *more, workers=2):
    words = command(verb, "sample", *third_options(third), *more, "--store", store, "--workers", workers, "--json")
    found = json.loads(call([*words, *(["--no-prefect"] if verb == "run" else [])]))
    return {report["stage"]: report for report in found["stages"]}


ENGLISH = ("--set", "text.thresholds.en.gopher_short_doc=200")


def test_one_threshold_moved_for_one_language(third, third_copy, tmp_path):
    shutil.copytree(third_copy, tmp_path / "other")
    planned = real("plan", third, third_copy, *ENGLISH)
    ran = real("run", third, tmp_path / "other", *ENGLISH)
    for stage, report in planned.items():
        assert report["exact"], stage
        assert (stage, ran[stage]["built"]) == (stage, report["built"])
    moved = {stage for stage, report in planned.items() if report["built"]}
    assert moved - {"choose_keepers", "drop_duplicates"} == {"filter_text", "count_survivors", "select"}
    assert set(planned["select"]["built"]) <= _parts_with(third_copy, "en")
    # Two workers, so at least two jobs are in flight; which worker takes which is the pool's affair.
    assert 2 <= len(planned["select"]["built"]) < planned["select"]["jobs"]


def test_a_real_source_added_at_the_end(third, third_copy, tmp_path):
    """Of the first source's parts, only measures that read something of the whole corpus are made again."""
    twins = [record | {"id": f"twin-{record['id']}"} for record in third_records()[::8]]
    extra = write_jsonl(tmp_path / "extra.jsonl", twins)
    ran = real("run", third, third_copy, "--source", f"extra={extra}")
    old = {stage: [label for label in report["built"] if label.startswith("sample.")] for stage, report in ran.items()}
    made = {stage for stage, labels in old.items() if labels}
    assert "label_clusters" in made
    gates_and_views = {"keep_sure", "filter_text", "filter_quality", "drop_duplicates", "select"}
    assert made - gates_and_views <= {"label_clusters", "score_quality"}
    assert all(any(label.startswith("extra.") for label in ran[s]["built"]) for s in ("clean", "sign", "select"))


def _parts_with(store, language):
    """The labels of the parts that hold a document of a language."""
    held = Store(store)
    key = next(entry["artifact"] for entry in _stages(store) if entry["stage"] == "identify_language").split("/")[1]
    parts = held.load_artifact("identify_language", key).parts
    tables = {part.label: read_columns(held.part_path("identify_language", part.key), ["language"]) for part in parts}
    return {label for label, table in tables.items() if language in table["language"].to_pylist()}


def _stages(store):
    return json.loads(min((store / "runs").glob("*.json")).read_text())["stages"]
