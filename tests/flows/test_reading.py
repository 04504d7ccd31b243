"""A store that grew, lost files or was damaged: what is wrong is named and made again, and never handed on."""

import gzip
import json

import pytest
from samples import DOCUMENTS, MODEL

from polylm.deployments.settings import Settings
from polylm.flows.everything import start
from polylm.flows.reading import explain, export_to, first_rows, runs_of
from polylm.tasks.maintenance.verify import damaged
from polylm.tasks.session import Observer
from polylm.tasks.store import StoreError

pytestmark = pytest.mark.skipif(not MODEL.exists(), reason="`make install` fetches the language-identification model")


@pytest.fixture(scope="module")
def lines():
    with gzip.open(DOCUMENTS, "rt", encoding="utf-8") as file:
        return [next(file) for _ in range(13)]


def run(store, file, *changes, recipe="corpus"):
    return start(recipe, Settings(store=store, workers=0), sources=[f"x={file}"], changes=changes)


def rows_of(session):
    return {
        report.rows for report in session.reports if report.stage in ("label_clusters", "drop_duplicates", "select")
    }


def test_a_source_that_grew_by_one_document_is_read_anew(tmp_path, lines):
    source = tmp_path / "grows.jsonl"
    source.write_text("".join(lines[:12]), encoding="utf-8")
    assert rows_of(run(tmp_path / "store", source)) == {12}
    source.write_text("".join(lines), encoding="utf-8")
    assert rows_of(run(tmp_path / "store", source)) == {13}


def test_parts_of_another_size_do_not_meet_in_one_store(tmp_path, lines):
    source = tmp_path / "same.jsonl"
    source.write_text("".join(lines), encoding="utf-8")
    for size in (6, 7, 5):
        assert rows_of(run(tmp_path / "store", source, f"ingest.part_rows={size}")) == {13}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, lines):
    """A run of a few documents, one bad record among them."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "few.jsonl").write_text("".join(lines[:4]) + "[1]\n", encoding="utf-8")
    run(folder / "store", folder / "few.jsonl")
    return folder / "store"


def test_bad_records_are_shown_with_file_offset_and_reason(finished):
    [bad] = first_rows(finished, "bad_records", 5)
    assert (bad["file"], bad["found"]) == ("few.jsonl", "[1]")
    assert "object" in bad["reason"]


def test_a_deleted_part_is_named_by_verify_and_made_again(finished, lines):
    [part] = (finished / "parts" / "clean").rglob("*.parquet")
    part.unlink()
    [damage] = damaged(finished).damage
    assert (damage.stage, damage.what) == ("clean", "(x.0) is gone")
    report = next(r for r in run(finished, finished.parent / "few.jsonl").reports if r.stage == "clean")
    assert report.built == ["x.0"]
    assert damaged(finished).damage == ()


def test_a_folder_that_lost_a_file_is_made_again(finished):
    model = next((finished / "folders" / "train_classifier").iterdir())
    manifest = json.loads((model / "manifest.json").read_text())
    (model / "lost.bin").write_bytes(b"as if it had been written")
    manifest["columns"]["lost.bin"] = "0" * 64
    (model / "manifest.json").write_text(json.dumps(manifest))
    (model / "lost.bin").unlink()
    report = next(r for r in run(finished, finished.parent / "few.jsonl").reports if r.stage == "train_classifier")
    assert len(report.built) == 1
    assert "lost.bin" not in json.loads((model / "manifest.json").read_text())["columns"]


def test_a_damaged_cache_of_digests_costs_nothing_but_the_digest(finished):
    for path in (finished / "seen").iterdir():
        path.write_text(path.read_text()[:20])
    assert all(not report.built for report in run(finished, finished.parent / "few.jsonl").reports)


def test_a_damaged_run_record_is_named_and_the_others_are_used(finished):
    (finished / "runs" / "20000101T000000000-broken.json").write_text('{"id": ')
    assert "broken.json is damaged" in next(run.error for run in runs_of(finished) if run.state == "damaged")
    assert explain(Settings(store=finished, workers=0), "x.0.0", None)["address"] == "x.0.0"


@pytest.mark.parametrize("what", [damaged, runs_of])
def test_a_slip_in_the_stores_name_does_not_look_like_an_empty_store(what, tmp_path):
    with pytest.raises(StoreError, match="is no store: give --store DIR"):
        what(tmp_path / "nosuch")


def test_an_export_of_what_is_not_built_says_so(finished, tmp_path):
    with pytest.raises(StoreError, match="has no model yet"):
        export_to(Settings(store=finished, workers=0), "model", tmp_path / "out")


def test_a_document_whose_parts_are_gone_is_not_called_a_bad_record(finished, lines):
    [part] = (finished / "parts" / "ingest").rglob("*.0.parquet")
    part.unlink()
    with pytest.raises(ValueError, match=r"^no document x\.0\.0 here: what this run read is not there .*: run again"):
        explain(Settings(store=finished, workers=0), "x.0.0", None)
    run(finished, finished.parent / "few.jsonl")
    assert explain(Settings(store=finished, workers=0), "x.0.0", None)["address"] == "x.0.0"


def test_an_export_that_was_killed_looks_unfinished_and_the_next_one_is_whole(finished, tmp_path):
    (tmp_path / "out" / ".unfinished").mkdir(parents=True)
    (tmp_path / "out" / ".unfinished" / "half.parquet").touch()
    export_to(Settings(store=finished, workers=0), "corpus", tmp_path / "out")
    assert all(path.suffix == ".parquet" and path.stem.startswith("x.") for path in (tmp_path / "out").iterdir())
    with pytest.raises(StoreError, match="out is not an empty folder: give a new one"):
        export_to(Settings(store=finished, workers=0), "corpus", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file is not an empty folder"):
        export_to(Settings(store=finished, workers=0), "corpus", tmp_path / "file")


def test_the_only_run_being_damaged_is_said(finished, tmp_path):
    store = tmp_path / "store"
    (store / "parts").mkdir(parents=True)
    (store / "runs").mkdir()
    (store / "runs" / "20000101T000000000-corpus.json").write_text("garbage")
    with pytest.raises(StoreError, match=r"the record of 20000101T000000000-corpus in .* is damaged: run again"):
        explain(Settings(store=store, workers=0), "x.0.0", None)


def test_an_export_is_of_the_latest_run_that_has_what_is_asked_for(finished, lines, tmp_path):
    (latest,) = (run.id for run in runs_of(finished)[-1:])
    start("corpus", Settings(store=finished, workers=0), sources=[f"x={finished.parent / 'few.jsonl'}"], until="clean")
    assert f"of the run {latest} in" in export_to(Settings(store=finished, workers=0), "corpus", tmp_path / "out")


class Listener(Observer):
    def __init__(self):
        self.heard = []

    def notice(self, text):
        self.heard.append(text)


def test_a_language_that_somebody_named_and_no_document_is_in_is_told(finished, lines):
    """It may be misspelt; that some of the 18 are absent is nothing to be told."""
    listener = Listener()
    changes = ['wanted.languages=["en","de","gr"]', "text.thresholds.ek.dup_line_frac=0.5"]
    settings = Settings(store=finished, workers=0)
    start("corpus", settings, sources=[f"x={finished.parent / 'few.jsonl'}"], changes=changes, observer=listener)
    told = [text for text in listener.heard if text.startswith("no document is in")]
    assert told == ["no document is in ek, gr, which wanted, text.thresholds or floors.own name"]


def test_a_language_that_a_rule_cannot_judge_as_it_could_is_told_with_what_it_lacks(finished, lines):
    listener = Listener()
    settings, few = Settings(store=finished, workers=0), finished.parent / "few.jsonl"
    changes = [
        'wanted.languages=["en","de"]',
        'text.thresholds={"*": {"gopher_short_doc": 50}}',
        "quality_models.min_reference_bytes=777777",
    ]
    start("corpus", settings, sources=[f"x={few}"], changes=changes, until="train_quality_models", observer=listener)
    model, own = (
        next(text for text in listener.heard if text.startswith(begin)) for begin in ("no 5-gram", "no thresh")
    )
    assert "en (" in model
    assert "of 777,777 bytes of reference a fold" in model
    assert own.startswith("no thresholds of their own, so those of all other languages: en; 100 clean documents")


def test_a_source_without_documents_is_told_apart_from_a_wrong_address(tmp_path, lines):
    (tmp_path / "blank.jsonl").write_text("\n\n", encoding="utf-8")
    (tmp_path / "few.jsonl").write_text(lines[0], encoding="utf-8")
    settings = Settings(store=tmp_path / "store", workers=0)
    start("corpus", settings, sources=[f"b={tmp_path / 'blank.jsonl'}", f"x={tmp_path / 'few.jsonl'}"])
    with pytest.raises(ValueError, match=r"no document b\.0\.0: b has none"):
        explain(settings, "b.0.0", None)
    with pytest.raises(ValueError, match="x has parts 0 to 0, the last with 1 documents"):
        explain(settings, "x.0.7", None)


def test_a_duplicate_is_told_with_the_document_that_is_kept_in_its_place(tmp_path, lines):
    records = [json.loads(line) for line in lines]
    longer = [{**one, "id": f"{one['id']}-longer", "text": f"{one['text']}\n{one['text'][:60]}."} for one in records]
    file = tmp_path / "x.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in [*records, *longer]))
    run(tmp_path / "store", file)
    told = [explain(Settings(store=tmp_path / "store"), f"x.0.{row}", None) for row in range(26)]
    duplicates = [one for one in told if one["verdict"] == "rejected by drop_duplicates: duplicate"]
    assert duplicates
    for one in duplicates:
        keeper = told[int(one["document"]["duplicate_of"].rpartition(".")[2])]
        assert keeper["verdict"] == "kept"
        assert "duplicate_of" not in keeper["document"]
