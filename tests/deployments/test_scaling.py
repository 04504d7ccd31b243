"""The arithmetic from a finished run to another number of documents."""

import json
import sys

import pytest
from samples import ROOT, call, records_of

from polylm.tasks.store import read_record


@pytest.fixture(scope="module")
def rows(third_store):
    """The table for a hundred times as many documents: stage -> values by column."""
    words = [sys.executable, "-P", ROOT / "benchmarks" / "scaling.py", third_store]
    run = json.loads(min((third_store / "runs").glob("*.json")).read_text())
    documents = next(entry["rows"] for entry in run["stages"] if entry["stage"] == "ingest")
    more = ["--documents", str(100 * documents), "--cores", "4", "--part-rows", "100", "--run", run["id"]]
    lines = call([*words, *more]).splitlines()
    assert lines[0].startswith(f"{documents} documents measured; {100 * documents:,} on 4 cores, 100 a part")
    names, _, *table = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in lines[2:]]
    return documents, {line[0]: dict(zip(names, line, strict=True)) for line in table}


def number(text):
    return float(text.replace(",", ""))


def test_every_stage_of_the_run_has_a_line(third_store, rows):
    run = json.loads(min((third_store / "runs").glob("*.json")).read_text())
    assert list(rows[1]) == [*(entry["stage"] for entry in run["stages"]), "all"]


def test_seconds_bytes_and_peaks_are_those_of_the_records(third_store, rows):
    documents, table = rows
    records = records_of(third_store, "measure_text")
    line = table["measure_text"]
    assert number(line["jobs"]) == len(records)
    assert number(line["CPU s"]) == pytest.approx(sum(record.facts["cpu_seconds"] for record in records), abs=0.06)
    size = sum(path.stat().st_size for path in (third_store / "parts" / "measure_text").rglob("*.parquet"))
    assert number(line["bytes a document"]) == pytest.approx(size / documents, abs=0.01)
    peak = max(record.facts["peak_bytes"] for record in records)
    assert number(line["peak MB"]) == pytest.approx(peak / 1e6, abs=0.6)


def test_the_parts_of_one_ingest_job_count_its_seconds_once(third_store, rows):
    parts = [read_record(path) for path in (third_store / "parts" / "ingest").rglob("*.parquet")]
    assert len(parts) > 10
    line = rows[1]["ingest"]
    assert line["jobs"] == "1"
    assert number(line["CPU s"]) <= max(record.facts["cpu_seconds"] for record in parts) + 0.06


def test_parts_and_disk_grow_with_documents_and_bands_do_not(rows):
    documents, table = rows
    assert number(table["clean"]["files"]) == documents
    assert table["join_bands"]["files"] == table["join_bands"]["jobs"]
    disk = number(table["clean"]["bytes a document"]) * documents * 100 / 1e9
    assert number(table["clean"]["disk GB"]) == pytest.approx(disk, abs=0.06)


def test_a_store_without_a_finished_run_is_named(tmp_path):
    words = [sys.executable, "-P", ROOT / "benchmarks" / "scaling.py", tmp_path]
    assert call(words, code=1) == ""
