"""One job: what it shows its stage, what it checks, and how it fails."""

import pyarrow as pa
import pytest
import toy_stages as toys
from samples import job

from polylm.tasks import build, keys
from polylm.tasks.build import Done, Failure
from polylm.tasks.stage import REASON, NoParams
from polylm.tasks.store import Record, Store, read_columns

TEXTS = ["one", "", "three letters", None, "tail"]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store").open()


def lay(store, stage, **columns):
    """A committed part of these columns, as an input of a job."""
    table = pa.table(columns)
    key = keys.digest([stage, sorted(columns)])
    reasons = {}
    store.commit_table(table, Record(stage, 1, key, "toy.0", {}, keys.contents(table), table.num_rows, reasons=reasons))
    return stage, key, tuple(columns)


def verdicts(store, name, *reasons):
    return lay(store, name, **{REASON: pa.array(reasons, pa.string()).dictionary_encode()})[:2]


def made(stage, params, store, files, **more):
    outcome = build.build(job(stage, params, store, files=files, rows=len(TEXTS), **more))
    assert isinstance(outcome, Done), outcome
    return read_columns(store.part_path(stage.name, outcome.record.key)), outcome.record


def failed(stage, params, store, files, **more):
    outcome = build.build(job(stage, params, store, files=files, rows=len(TEXTS), **more))
    assert isinstance(outcome, Failure)
    assert not list((store.root / "parts" / stage.name).rglob("*.parquet"))
    return outcome


def test_rows_that_where_rejects_are_not_shown_and_become_null(store):
    text = lay(store, "docs", text=pa.array(TEXTS), chars=pa.array([3, 0, 13, 0, 4], pa.uint32()))
    where = [
        verdicts(store, "g1", None, "empty", None, "empty", None),
        verdicts(store, "g2", "x", None, None, None, None),
    ]
    table, record = made(toys.count_words, NoParams(), store, [text], where=where)
    assert table["words"].to_pylist() == [None, None, 2, None, 1]
    assert table["seen"].to_pylist() == [None, None, True, None, True]
    assert record.rows == 5


def test_a_part_of_which_no_row_is_shown_is_all_null_and_its_stage_not_called(store):
    text = lay(store, "docs", text=pa.array(TEXTS))
    where = [verdicts(store, "g", *["no"] * 5)]
    table, _ = made(toys.fail, toys.FailParams(crashes=("one",)), store, [text], where=where)
    assert table["well"].to_pylist() == [None] * 5


def test_an_aligned_files_stage_gets_nulls_too(store):
    text = lay(store, "docs", text=pa.array(TEXTS))
    table, _ = made(toys.choose, NoParams(), store, [text], where=[verdicts(store, "g", "no", None, None, "no", None)])
    assert table["weight"].to_pylist() == [None, 1, 1, None, 1]


def test_document_numbers_are_those_of_the_rows_shown(store):
    chars = lay(store, "counts", chars=pa.array([1, 2, 3, 4, 5], pa.uint32()))
    part = job(toys.join, toys.BandParams(bands=1), store, files=[chars], rows=5, number=keys.number(2, 3), name="band-0",
               where=[verdicts(store, "g", None, "no", None, None, None)])  # fmt: skip
    table, _ = build.compute(part, store)
    first = keys.number(2, 3)
    assert table["doc"].to_pylist() == [first, first + 2, first + 3, first + 4]


def test_numbers_reach_a_gate_with_null_as_nan_and_are_not_judged(store):
    columns = lay(store, "m", maybe=pa.array([1.0, None, 0.0, 1.0, 1.0]), name=pa.array(["x", "x", "x", None, "y"]))
    table, record = made(toys.judge_maybe, toys.BoundParams(), store, [columns])
    assert table[REASON].to_pylist() == [None, None, "low", None, "odd_name"]
    assert record.reasons == {"low": 1, "odd_name": 1}


def test_a_nan_that_a_gate_made_itself_fails_it(store):
    columns = lay(
        store, "c", chars=pa.array([1, 1, 0, 1, 1], pa.uint32()), vowels=pa.array([1, 0, 0, 1, 1], pa.uint32())
    )
    found = failed(toys.divide, NoParams(), store, [columns])
    assert found.message == "divide: rule few_vowels is NaN in row 2, where no column is null: guard the division"
    assert found.mistake


def test_a_nan_where_a_column_is_null_keeps_the_row(store):
    columns = lay(
        store, "c", chars=pa.array([None, 2, 1, 1, 1], pa.uint32()), vowels=pa.array([0, 1, 1, 1, 1], pa.uint32())
    )
    table, _ = made(toys.divide, NoParams(), store, [columns])
    assert table[REASON].to_pylist() == [None] * 5


def test_the_digest_of_what_a_gate_kept_ignores_the_reasons(store):
    params = toys.BoundParams()
    low = lay(store, "m", maybe=pa.array([0.0, 1, 1, 1, 1]), name=pa.array(["x"] * 5))
    odd = lay(store, "n", maybe=pa.array([1.0, 1, 1, 1, 1]), name=pa.array(["y", *"xxxx"]))
    all_kept = lay(store, "o", maybe=pa.array([1.0, 1, 1, 1, 1]), name=pa.array(["x"] * 5))
    kept = [
        made(toys.judge_maybe, params, store, [files], key=str(i) * 64)[1].kept
        for i, files in enumerate([low, odd, all_kept])
    ]
    assert kept[0] == kept[1] != kept[2]


def test_floats_of_measures_are_rounded_to_four_decimals(store):
    table, _ = made(toys.thirds, NoParams(), store, [lay(store, "docs", text=pa.array(["a"] * 5))])
    assert table["number"].to_pylist() == [0.0, 0.3333, 0.6667, 1.0, 1.3333]


def test_too_few_values_are_an_error(store):
    found = failed(toys.too_few, NoParams(), store, [lay(store, "docs", text=pa.array(TEXTS))])
    assert "too_few" in found.title
    assert "shown 5 rows, it gave 4" in found.message


def test_columns_that_were_not_declared_are_an_error(store):
    found = failed(toys.wrong_columns, NoParams(), store, [lay(store, "docs", text=pa.array(TEXTS))])
    assert found.message == "wrong_columns: columns missing ['chars'], not declared ['letters']"


@pytest.mark.parametrize(
    ("params", "kind", "mistake", "lasting"),
    [
        (toys.FailParams(mistakes=("one",)), "ValueError", True, False),
        (toys.FailParams(crashes=("one",)), "KeyError", False, False),
        (toys.FailParams(stumbles=("one",), times=9), "OSError", False, True),
    ],
)
def test_a_failure_says_what_kind_it_is_and_keeps_its_trace(store, toy_folder, params, kind, mistake, lasting):
    found = failed(toys.fail, params, store, [lay(store, "docs", text=pa.array(["one"] * 5))], label="toy.7")
    assert (found.title, found.kind, found.mistake, found.lasting) == ("fail toy.7", kind, mistake, lasting)
    assert "toy_stages.py" in found.trace


def test_a_job_that_another_run_finished_is_not_done_again(store, toy_folder):
    files = [lay(store, "docs", text=pa.array(["one"] * 5))]
    first = build.build(job(toys.fail, toys.FailParams(), store, files=files, rows=5))
    tried = (toy_folder / "mark-tried").stat().st_size
    assert build.build(job(toys.fail, toys.FailParams(), store, files=files, rows=5)) == first
    assert (toy_folder / "mark-tried").stat().st_size == tried


def test_facts_are_recorded_apart_from_identity(store):
    _, record = made(toys.count, NoParams(), store, [lay(store, "docs", text=pa.array(["one"] * 5))])
    assert {"seconds", "cpu_seconds", "peak_bytes", "host", "pid", "finished", "versions"} <= record.facts.keys()
    assert record.facts["peak_bytes"] > 1_000_000
    assert record.identity == {}
    assert record.code == keys.code_fingerprint("toy_stages")


def test_ingest_writes_parts_as_they_come_and_then_the_bad_records(store):
    piece = toys.toy_pieces(1)[0]
    params = toys.ReadParams(part_rows=5)
    outcome = build.build(job(toys.read, params, store, piece=piece))
    assert isinstance(outcome, Done)
    parts = [read_columns(store.part_path("read", entry["key"])) for entry in outcome.record.parts]
    assert [table.num_rows for table in parts] == [5, 5, 5]
    assert [entry["key"] for entry in outcome.record.parts] == [f"{outcome.record.key}.{i}" for i in range(3)]
    assert [entry["columns"] for entry in outcome.record.parts] == [keys.contents(table) for table in parts]
    bad = read_columns(store.part_path("read", outcome.record.key))
    assert bad["found"].to_pylist() == ["bad: not a document"]
    assert outcome.record.reasons == {"begins with bad": 1}
    assert sum(table.num_rows for table in parts) + bad.num_rows == len(piece.texts)
