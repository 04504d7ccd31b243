"""Runs of the toy flow: equal whatever the place, the workers and the moment; every error in one list."""

import json
import subprocess
import sys
from dataclasses import replace

import pyarrow.compute as pc
import pytest
import toy_stages as toys
from samples import call, environment, records_of, snapshot

from polylm.deployments.settings import Settings
from polylm.tasks.build import Failure
from polylm.tasks.run import File, StageFailed, adopt, run
from polylm.tasks.session import session
from polylm.tasks.stage import REASON, NoParams, StageError
from polylm.tasks.store import Store, StoreError, read_columns


def toy_run(store, workers, *options, **more):
    return json.loads(call([sys.executable, "-m", "toy_run", store, workers, *options], **more))


@pytest.fixture
def settings(tmp_path):
    return Settings(store=tmp_path / "store", workers=0)


def docs(count=3):
    return run(toys.read, toys.ReadParams(), toys.Pieces(*toys.toy_pieces(count)))


def test_keys_and_content_do_not_depend_on_workers_folder_or_hash_seed(tmp_path, toy_folder):
    found = {}
    for workers in (1, 2, 7):
        for path in toy_folder.iterdir():
            path.unlink()
        (tmp_path / f"place {workers}").mkdir()
        found[workers] = toy_run(
            tmp_path / f"place {workers}" / "store",
            str(workers),
            "--meet",
            TOY_FOLDER=toy_folder,
            TOY_MEET=min(workers, 2),
            PYTHONHASHSEED=workers * 1000,
        )
        pids = {record.facts["pid"] for record in records_of(tmp_path / f"place {workers}" / "store", "meet")}
        assert len(pids) == 1 if workers == 1 else len(pids) >= 2
    assert found[1] == found[2] == found[7]
    assert len({name.split("/")[1] for name in found[1]}) == 12


def test_a_second_run_builds_nothing(settings):
    for expected in (True, False):
        with session(settings) as here:
            toys.toy_flow(toys.toy_pieces())
        assert any(report.built for report in here.reports) == expected
        assert all(report.reused + len(report.built) == report.jobs for report in here.reports)


def test_two_runs_at_once_both_end_well_and_a_long_job_is_done_once(tmp_path, toy_folder):
    words = [sys.executable, "-m", "toy_run", tmp_path / "store", "2", "--meet"]
    more = environment(TOY_FOLDER=toy_folder, TOY_MEET=4, TOY_SLEEP=1)
    # With $TOY_MEET=4, neither goes on before both have two jobs in flight.
    both = [subprocess.Popen(words, env=more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"]
    said = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    held = snapshot(tmp_path / "store")
    last_lines = [json.loads(out.splitlines()[-1]) for out, _ in said]
    assert any(found == held for found in last_lines)
    assert (toy_folder / "mark-write_model begins").stat().st_size == 1
    records = [json.loads(path.read_text()) for path in (tmp_path / "store" / "runs").glob("*.json")]
    assert [record["state"] for record in records] == ["completed", "completed"]
    alone = toy_run(tmp_path / "alone", "0")
    assert {name: held[name] for name in alone} == alone


def test_one_error_lists_all_failing_jobs_and_the_others_are_kept(tmp_path, toy_folder):
    params = toys.FailParams(mistakes=("one", "one ."), crashes=("tail of the part . .",))
    with pytest.raises(StageFailed) as caught, session(Settings(store=tmp_path / "store", workers=2)) as here:
        run(toys.fail, params, docs(), run(toys.meet, NoParams(), docs()))
    met = here.artifacts["meet"]
    assert len({part.record.facts["pid"] for part in met.parts}) == 2
    text = str(caught.value)
    assert text.startswith("3 jobs of fail failed, the others are kept:\n")
    assert text.splitlines()[1:] == [
        "fail toy.0: 'one' cannot be measured",
        "fail toy.3: 'one .' cannot be measured",
        "fail toy.8: 'tail of the part . .'",
    ]
    assert len(records_of(here.store.root, "fail")) == 6
    assert not caught.value.is_mistake
    assert not caught.value.may_pass
    record = json.loads(next((here.store.root / "runs").glob("*.json")).read_text())
    assert (record["state"], record["error"]) == ("failed", text)


def test_a_long_list_of_failures_is_cut(settings):
    with pytest.raises(StageFailed, match=r"\n\.\.\. and 10 more$"), session(settings):
        run(toys.fail, toys.FailParams(mistakes=tuple(toys.TEXTS) + tuple(f"{t}{' .' * i}" for t in toys.TEXTS for i in range(10))), docs(10))  # fmt: skip


def test_what_fails_many_jobs_alike_is_said_once():
    failures = [Failure(f"ask of {name}", "no answer", "OSError") for name in "abcdefg"]
    error = StageFailed("ask", [*failures, Failure("ask of h", "no room", "OSError")])
    expected = "ask of a, ask of b, ask of c, ask of d, ask of e and 2 more: no answer"
    assert str(error).splitlines()[1:] == [expected, "ask of h: no room"]


def test_after_a_failure_only_the_failed_jobs_run_again(settings, toy_folder):
    with pytest.raises(StageFailed) as caught, session(settings):
        run(toys.fail, toys.FailParams(stumbles=("one .",), times=4), docs())
    assert caught.value.may_pass
    with session(settings) as here:
        run(toys.fail, toys.FailParams(stumbles=("one .",), times=4), docs())
    assert [(report.stage, report.built) for report in here.reports] == [("read", []), ("fail", ["toy.3"])]


def test_in_is_kept_and_rejected_by_reason_counted_from_files(settings):
    with session(settings) as here:
        pieces = toys.toy_pieces(4)
        chosen = toys.toy_flow(pieces, labels=toys.LabelParams(labels=("long",)))
    root = here.store
    bad = sum(
        read_columns(path).num_rows
        for path in (root.root / "parts" / "read").rglob("*.parquet")
        if "." not in path.stem
    )
    rows = [read_columns(root.part_path("read", part.key)).num_rows for part in here.artifacts["read"].parts]
    assert sum(rows) + bad == sum(len(piece.texts) for piece in pieces)
    for name in ("count", "count_words", "encode", "choose", "keep_labels", "keep_long"):
        parts = here.artifacts[name].parts
        assert [read_columns(root.part_path(name, part.key)).num_rows for part in parts] == rows
    rejected = set()
    for name in ("keep_labels", "keep_long"):
        reasons = {}
        for number, part in enumerate(here.artifacts[name].parts):
            for row, reason in enumerate(read_columns(root.part_path(name, part.key))[REASON].to_pylist()):
                if reason is not None:
                    reasons[reason] = reasons.get(reason, 0) + 1
                    rejected.add((number, row))
        report = next(report for report in here.reports if report.stage == name)
        assert report.reasons == reasons
        assert reasons
    kept = sum(pc.sum(read_columns(root.part_path("choose", part.key))["weight"]).as_py() or 0 for part in chosen.parts)
    assert kept + len(rejected) == sum(rows)


def test_equal_content_stops_a_re_run_early(settings):
    """A threshold moved so that no verdict changes: the gate runs, nothing after it."""
    with session(settings):
        toys.toy_flow(toys.toy_pieces(), keep=toys.KeepParams(min_words={"short": 0.0, "long": 0.5}))
    with session(settings) as here:
        toys.toy_flow(toys.toy_pieces(), keep=toys.KeepParams(min_words={"short": 0.0, "long": 0.6}))
    assert {report.stage for report in here.reports if report.built} == {"keep_long"}


def test_a_record_of_the_run_is_written_when_it_starts_and_updated_as_it_goes(settings):
    with session(settings, name="toys", recipe={"a": 1}) as here:
        path = here.store.root / "runs" / f"{here.record['id']}.json"
        begun = json.loads(path.read_text())
        assert (begun["state"], begun["name"], begun["recipe"], begun["stages"]) == ("running", "toys", {"a": 1}, [])
        docs()
        assert [entry["stage"] for entry in json.loads(path.read_text())["stages"]] == ["read"]
    assert json.loads(path.read_text())["state"] == "completed"


def test_manifests_list_parts_and_can_be_loaded(settings):
    with session(settings) as here:
        made = toys.toy_flow(toys.toy_pieces())
    loaded = here.store.load_artifact("choose", made.key)
    assert replace(loaded, parts=()) == replace(made, parts=())
    assert [(part.key, part.label, part.number, part.columns, part.record.facts) for part in loaded.parts] == [
        (part.key, part.label, part.number, part.columns, part.record.facts) for part in made.parts
    ]


def test_parts_are_numbered_by_source_and_place(settings):
    with session(settings):
        pieces = [*toys.toy_pieces(2, "a"), *toys.toy_pieces(1, "b")]
        made = run(toys.read, toys.ReadParams(), toys.Pieces(*pieces))
    assert [part.label for part in made.parts] == [*(f"a.{i}" for i in range(6)), *(f"b.{i}" for i in range(3))]
    assert [part.number for part in made.parts] == [
        *(i << 24 for i in range(6)),
        *(1 << 48 | i << 24 for i in range(3)),
    ]


def test_until_stops_building_after_that_stage(settings):
    with session(settings, until="count_words") as here:
        toys.toy_flow(toys.toy_pieces())
    assert here.reached
    held = {path.name for path in (here.store.root / "parts").iterdir()}
    assert held == {"read", "count", "keep_labels", "count_words"}


def test_inputs_that_do_not_fit_are_errors_that_name_the_stage(settings):
    with session(settings):
        made = docs()
        counts = run(toys.count, NoParams(), made)
        with pytest.raises(StageError, match="count: takes NoParams, was given ReadParams"):
            run(toys.count, toys.ReadParams(), made)
        with pytest.raises(StageError, match="count_words: column 'chars' must be in one input, found in none"):
            run(toys.count_words, NoParams(), made)
        with pytest.raises(StageError, match="column 'chars' must be in one input, found in count, too_few"):
            run(toys.count_words, NoParams(), made, counts, replace(counts, stage="too_few"))
        with pytest.raises(StageError, match=r"inputs have \[3, 9\] parts: they are not of the same documents"):
            run(toys.count_words, NoParams(), docs(1), counts)


def test_a_damaged_part_is_named_by_the_run_that_needs_it(settings):
    with session(settings):
        made = docs()
    path = Store(settings.store).part_path("read", made.parts[4].key)
    path.write_bytes(path.read_bytes()[:-50])
    with (
        pytest.raises(StageFailed, match=rf"count toy.4: .*{path} is damaged .*: delete it") as caught,
        session(settings),
    ):
        run(toys.count, NoParams(), docs())
    assert caught.value.is_mistake
    assert len(records_of(settings.store, "count")) == 8


def test_a_damaged_output_is_named_before_anything_is_built_on_it(settings):
    with session(settings):
        made = run(toys.count, NoParams(), docs())
    path = Store(settings.store).part_path("count", made.parts[4].key)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(StoreError, match=f"count: {path} is damaged"), session(settings):
        run(toys.count, NoParams(), docs())


def test_a_missing_part_of_an_ingest_job_is_made_again(settings):
    with session(settings):
        made = docs()
    Store(settings.store).part_path("read", made.parts[4].key).unlink()
    with session(settings) as here:
        assert run(toys.count, NoParams(), docs()).built
    assert here.reports[0].built == ["toy:1"]


def test_a_missing_part_is_made_again(settings):
    with session(settings):
        made = run(toys.count, NoParams(), docs())
    Store(settings.store).part_path("count", made.parts[4].key).unlink()
    with session(settings) as here:
        assert run(toys.count, NoParams(), docs()).key == made.key
    assert here.reports[-1].built == ["toy.4"]


def test_adopted_files_are_looked_up_by_name_and_checked_against_their_digest(tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    with session(Settings(store=tmp_path / "store", workers=0, models=models)):
        with pytest.raises(StageError, match=r"m.bin is not in .*models: `make install` fetches it"):
            adopt(File(name="m.bin", sha256="0" * 64))
        (models / "m.bin").write_text("weights")
        with pytest.raises(StageError, match=r"m.bin has sha256 [0-9a-f]{16}\.\.\., the recipe wants 0{16}\.\.\."):
            adopt(File(name="m.bin", sha256="0" * 64))


def test_a_folder_stage_goes_on_from_its_scratch_and_leaves_none(settings, toy_folder):
    with session(settings) as here:
        toys.toy_flow(toys.toy_pieces())
    assert not list((here.store.root / "work").glob("*/scratch"))
    artifact = here.artifacts["write_model"]
    folder = here.store.folder_path("write_model", artifact.parts[0].key)
    assert (folder / "bands.txt").read_text().split() == ["band-0", "band-1", "band-2"]
    assert artifact.parts[0].record.metrics == {"words": len((folder / "sub" / "words.txt").read_text().split("\n"))}
