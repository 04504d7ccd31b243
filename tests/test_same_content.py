"""The data stages on a third of the sample: equal whatever the workers, the place and the hash seed; no row is lost."""

import json
import os

import pytest
from samples import call, command, records_of, snapshot, third_options, third_records, write_jsonl

from polylm.tasks.run import Artifact
from polylm.tasks.stage import REASON
from polylm.tasks.store import Store, read_columns


@pytest.mark.parametrize("workers", [1, 7])
def test_keys_and_content_are_those_of_two_workers_elsewhere(third_store, tmp_path, workers):
    """With another PYTHONHASHSEED, and with the same documents at another path."""
    place = tmp_path / "somewhere else"
    place.mkdir()
    third = write_jsonl(place / "third.jsonl", third_records())
    words = command("run", "sample", *third_options(third), "--store", place / "store", "--workers", workers)
    call([*words, "--no-prefect"], PYTHONHASHSEED=workers)
    assert snapshot(place / "store") == snapshot(third_store)
    # By stage: workers that have grown may be replaced between the two.
    pids = [{r.facts["pid"] for r in records_of(place / "store", stage)} for stage in ("clean", "sign")]
    assert [len(own) for own in pids] == [1, 1] if workers == 1 else len(pids[0] | pids[1]) >= 2


@pytest.fixture(scope="module")
def stages(third_store) -> dict[str, Artifact]:
    """The artifacts of the run, in its order."""
    held = Store(third_store)
    entries = json.loads(min((third_store / "runs").glob("*.json")).read_text())["stages"]
    return {e["stage"]: held.load_artifact(*e["artifact"].split("/")) for e in entries}


def tables(store, artifact):
    return [read_columns(Store(store).part_path(artifact.stage, part.key)) for part in artifact.parts]


def test_records_are_documents_and_bad_ones(third, third_store, stages):
    bad = [path for path in (third_store / "parts" / "ingest").rglob("*.parquet") if "." not in path.stem]
    records = len(third.read_text().splitlines())
    documents = sum(table.num_rows for table in tables(third_store, stages["ingest"]))
    assert documents + sum(read_columns(path).num_rows for path in bad) == records > 300


def test_every_stage_of_rows_has_a_row_for_each_document_of_each_part(third_store, stages):
    expected = [table.num_rows for table in tables(third_store, stages["ingest"])]
    assert len(expected) >= 10
    by_rows = [artifact for artifact in stages.values() if artifact.shape == "rows"]
    assert len(by_rows) >= 12
    for artifact in by_rows:
        assert [table.num_rows for table in tables(third_store, artifact)] == expected, artifact.stage


def test_at_every_gate_in_is_kept_and_rejected_by_reason(third_store, stages):
    gates = 0
    for artifact in stages.values():
        if artifact.columns != (REASON,):
            continue
        gates += 1
        for part, table in zip(artifact.parts, tables(third_store, artifact), strict=True):
            reasons = [reason for reason in table[REASON].to_pylist() if reason is not None]
            counted = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
            assert part.record.reasons == counted
            assert table[REASON].null_count + sum(counted.values()) == table.num_rows == part.record.rows
    assert gates >= 5


def test_what_is_selected_is_what_no_gate_rejected(third_store, stages):
    gates = [tables(third_store, artifact) for artifact in stages.values() if artifact.columns == (REASON,)]
    first = {}
    for index, selected in enumerate(tables(third_store, stages["select"])):
        verdicts = [gate[index][REASON].to_pylist() for gate in gates]
        for row, weight in enumerate(selected["weight"].to_pylist()):
            reason = next((verdict[row] for verdict in verdicts if verdict[row] is not None), None)
            assert (weight is None) == (reason is not None), (index, row, reason)
            first[reason] = first.get(reason, 0) + 1
    assert sum(first.values()) == sum(part.record.rows for part in stages["ingest"].parts)
    assert first[None] > 0
    assert len(first) > 5


def test_nothing_of_the_machine_is_in_an_identity(third_store):
    host, home = os.uname().nodename, os.path.expanduser("~")  # noqa: PTH111 -- a piece of text
    for stage in ("ingest", "clean", "identify_language", "filter_text", "select"):
        for record in records_of(third_store, stage):
            text = json.dumps(record.identity)
            assert str(third_store) not in text
            assert host not in text
            assert f"{home}/" not in text
