"""What pages ask of a store, against what the store's files say."""

import duckdb
import numpy as np
import pyarrow.compute as pc
import pytest
from samples import records_of
from toy_stages import Piece

from polylm.dashboard import database
from polylm.dashboard.comparison import run_before
from polylm.dashboard.errors import BadRequest, Damaged, Missing, TooSlow
from polylm.dashboard.funnel import funnel_of, gates_of
from polylm.dashboard.gates import gate_jobs
from polylm.dashboard.store_reading import Runs, StoreReader
from polylm.tasks import keys
from polylm.tasks.maintenance.files import read_json, write_json
from polylm.tasks.maintenance.run_records import read_run, run_id, run_paths
from polylm.tasks.store import StoreError, read_columns
from polylm.tasks.why import why


def columns_of(here, run, stage, name):
    """A column of all parts, one after the other, read without the database."""
    return [value for path in here.paths(here.entry(run, stage)) for value in read_columns(path)[name].to_pylist()]


def waited(ask):
    """The answer of something that is made in the background."""
    while (answer := ask()) is None:
        pass
    return answer


def test_tables_lie_side_by_side_row_by_row(here, run):
    texts, chars = columns_of(here, run, "clean", "text"), columns_of(here, run, "clean", "chars")
    languages = columns_of(here, run, "identify_language", "language")
    beside = {"c": here.entry(run, "clean"), "l": here.entry(run, "identify_language")}
    found = here.sql("SELECT c.text, c.chars, l.language FROM {beside}", beside)
    assert found["text"].to_pylist() == texts
    assert found["chars"].to_pylist() == chars
    assert found["language"].to_pylist() == languages


def test_values_are_bound_before_and_after_the_tables(here, run):
    beside = {"l": here.entry(run, "identify_language")}
    found = here.sql("SELECT ? AS said, count(*) AS n FROM {beside} WHERE l.language = ?", beside, ["'; DROP", "en"])
    assert found.to_pylist() == [
        {"said": "'; DROP", "n": columns_of(here, run, "identify_language", "language").count("en")}
    ]


def test_the_database_reads_parts_and_nothing_else(here, third_store, tmp_path):
    """Even if SQL of others got in."""
    note = tmp_path / "note.csv"
    note.write_text("a\n1\n")
    for statement in (
        f"SELECT * FROM read_csv('{note}')",
        f"SELECT * FROM '{third_store}/parts/../runs/x.json'",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        f"ATTACH '{tmp_path}/other.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
    ):
        with pytest.raises(duckdb.Error):
            here.sql(statement)
    assert not (tmp_path / "out.csv").exists()


def test_a_query_that_takes_too_long_is_stopped(here, monkeypatch):
    monkeypatch.setattr(database, "QUERY_SECONDS", 0.2)
    with pytest.raises(TooSlow):
        here.sql("SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3")


def test_a_part_that_is_gone_is_said_to_be(toy_store):
    toys = toy_store()
    entry = toys.here.entry(toys.here.run(toys.id), "count")
    toys.here.paths(entry)[0].unlink()
    with pytest.raises(Damaged, match=r"count: .* is gone"):
        toys.here.sql("SELECT count(*) FROM {beside}", {"c": entry})
    with pytest.raises(Damaged, match="is gone"):
        toys.here.part(entry)


def test_the_funnel_counts_every_document_once_under_its_first_reason(here, run):
    funnel = waited(lambda: funnel_of(here, run))
    verdicts = [columns_of(here, run, gate.stage, "rejected_because") for gate in gates_of(here, run)]
    firsts = [next((reason for reason in reasons if reason), "") for reasons in zip(*verdicts, strict=True)]
    assert funnel.total().documents == len(firsts) == here.documents(run)
    assert funnel.total(gate="").documents == firsts.count("") == here.survivors(run)
    assert {reason: firsts.count(reason) for reason in set(firsts)} == {
        reason: funnel.total(reason=reason).documents for reason in set(firsts)
    }


def test_gates_come_in_the_order_of_the_flow(here, run):
    assert [gate.stage for gate in gates_of(here, run)] == [
        *("drop_empty", "want_languages", "keep_sure", "filter_text", "filter_quality", "drop_duplicates")
    ]


def test_a_gate_asked_again_gives_the_reasons_that_it_gave(here, run):
    for gate in gates_of(here, run):
        (job, *_), verdicts = gate_jobs(here, gate), here.part(gate)["rejected_because"].to_pylist()
        for row in range(0, len(verdicts), 5):
            broken = [answer.rule for answer in why([job], row, here.store) if answer.verdict == "broken"]
            assert (broken or [None])[0] == verdicts[row]


def test_a_gate_of_other_code_is_not_asked(toy_store):
    toys = toy_store()
    with pytest.raises(StoreError, match="made by other code"):
        gate_jobs(toys.here, toys.here.entry(toys.here.run(toys.id), "keep_labels"))


def test_facts_are_sums_and_peaks_of_the_records(here, run, third_store):
    facts = waited(lambda: here.facts(here.entry(run, "clean")))
    records = records_of(third_store, "clean")
    assert facts.jobs == len(records)
    assert facts.cpu_seconds == pytest.approx(sum(record.facts["cpu_seconds"] for record in records))
    assert facts.peak_bytes == max(record.facts["peak_bytes"] for record in records)


def test_finds_a_document_by_its_address(here, run):
    place = here.place(run, "sample.1.2")
    assert (place.part, place.row, place.number) == (1, 2, keys.number(0, 1) + 2)
    assert here.address(run, place.part, place.row) == "sample.1.2"


@pytest.mark.parametrize("address", ["sample.1.99999999", "sample.99999.0"])
def test_a_document_that_is_not_there_is_missing(here, run, address):
    with pytest.raises(Missing):
        here.place(run, address)


@pytest.mark.parametrize("address", ["", "sample", "other.0.0", "sample.-1.0", "sample.٣.0", "../x.0.0"])
def test_an_address_that_cannot_be_is_refused(here, run, address):
    with pytest.raises(BadRequest):
        here.place(run, address)


@pytest.mark.parametrize(
    "ref", ["clean/../../runs", "clean/*", "../clean/00000000", "clean/zzzzzzzz", "/etc/passwd", "clean/"]
)
def test_what_is_no_reference_finds_no_manifest(here, ref):
    with pytest.raises(Missing):
        here.manifest(ref)


def test_columns_come_from_the_artifact_alone(here, run):
    entry = here.entry(run, "clean")
    assert list(here.columns(entry)) == read_columns(here.paths(entry)[0]).schema.names
    with pytest.raises(Missing, match="no column"):
        here.part(entry, 0, ["text; --"])
    with pytest.raises(Missing, match="parts"):
        here.part(entry, 10_000)


def test_small_tables_of_several_jobs_say_whose_rows_they_are(here, run):
    table = here.small_table(here.entry(run, "join_bands"))
    assert table.num_rows == here.entry(run, "join_bands").rows
    assert set(table["job"].to_pylist()) <= {part.label for part in here.manifest(here.entry(run, "join_bands")).parts}


def test_parts_of_equal_content_count_as_often_as_they_are(toy_store):
    """They are one file with one key: the database must read it twice."""
    toys = toy_store(Piece("toy", "toy:0", ("one", "two")), Piece("toy", "toy:1", ("six", "ten")))
    gate = toys.here.entry(toys.here.run(toys.id), "keep_labels")
    assert len({part.key for part in toys.here.manifest(gate).parts}) == 1
    assert toys.here.sql("SELECT count(*) AS n FROM {beside}", {"g": gate}).to_pylist() == [{"n": 4}]


def test_reads_a_run_again_when_its_record_changes(third_copy):
    reader = StoreReader(third_copy)
    (run,) = reader.runs()
    path = third_copy / "runs" / f"{run.id}.json"
    record = read_json(path)
    path.unlink()  # it is a hard link
    write_json(path, record | {"state": "awaiting approval", "stages": record["stages"][:3]})
    (again,) = reader.runs()
    assert (again.state, len(again.stages)) == ("awaiting approval", 3)


def test_of_thousands_of_records_those_that_are_looked_at_are_parsed(third_copy):
    (path,) = (third_copy / "runs").glob("*.json")
    for number in range(1_000):
        name = "sample" if number in (0, 500) else "other"
        (path.parent / f"2025{number:04d}T000000000-{name}.json").write_text(path.read_text())
    parsed = []
    paths = {run_id(path): path for path in reversed(run_paths(third_copy))}
    runs = Runs(paths, lambda path: parsed.append(path) or read_run(path))
    assert (len(runs), runs.has("20250500T000000000-sample"), runs.has("x"), parsed) == (1_001, True, False, [])
    newest = runs[0]
    assert (newest.id, runs[-1].id, [run.id for run in runs[1:3]]) == (
        path.stem,
        *sorted(paths)[:1],
        sorted(paths)[-2:-4:-1],
    )
    parsed.clear()
    assert run_before(runs, newest).id == "20250500T000000000-sample"
    assert len(list(runs.older("20250010")[:100])) == 10
    assert len(parsed) == 1 + 10


def test_damaged_files_are_named_and_hide_nothing_else(third_copy):
    (third_copy / "runs" / "20260101T000000000-torn.json").write_text('{"state": "comp')
    reader = StoreReader(third_copy)
    assert [run.state for run in reader.runs()] == ["completed", "damaged"]
    (path,) = (third_copy / "artifacts" / "clean").glob("*.json")
    path.unlink()
    path.write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        reader.manifest(f"clean/{path.stem}")


def test_a_run_whose_process_is_gone_is_interrupted(third_copy):
    (path,) = (third_copy / "runs").glob("*.json")
    record = read_json(path)
    path.unlink()
    write_json(path, record | {"state": "running", "pid": 2**22 + 1})
    assert StoreReader(third_copy).runs()[0].state == "interrupted"


def test_bytes_of_a_language_are_those_that_were_measured(here, run):
    funnel = waited(lambda: funnel_of(here, run))
    sizes = np.array([size or 0 for size in columns_of(here, run, "measure_text", "bytes")])
    languages = np.array(columns_of(here, run, "identify_language", "language"))
    assert funnel.total("th").bytes == sizes[languages == "th"].sum()
    texts = [text or "" for text in columns_of(here, run, "clean", "text")]
    assert funnel.total("th").chars == sum(
        len(t) for t, language in zip(texts, languages, strict=True) if language == "th"
    )
    assert pc.sum(sizes).as_py() == funnel.total().bytes
