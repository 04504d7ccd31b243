"""What every data stage makes of a third of the sample is pinned: other content needs another version."""

import json
from dataclasses import replace

import pyarrow as pa
from goldens import GOLDENS, digests

from polylm.tasks import keys
from polylm.tasks.stage import REASON
from polylm.tasks.store import Store, read_columns, read_record


def test_the_same_versions_make_the_same_content(third_store):
    """`PYTHONPATH=tests/helpers python -m goldens` writes the file anew, once the versions are raised."""
    pinned, found = json.loads(GOLDENS.read_text()), digests(third_store)
    problems = [
        f"{stage}: other content under version {now['version']}: raise it to {now['version'] + 1}, or undo the change"
        for stage, now in found.items()
        if stage in pinned and now["content"] != pinned[stage]["content"] and now["version"] == pinned[stage]["version"]
    ]
    # What reads changed content has other content too: the first is the one to look at.
    assert not problems, "\n".join(problems)
    assert found == pinned, "the goldens are older than the stages: write them anew"


def test_a_digest_sees_one_changed_verdict(third_copy):
    before = digests(third_copy)
    assert len(before) >= 15
    path = next(path for path in (third_copy / "parts" / "filter_text").rglob("*.parquet") if read_record(path).reasons)
    record, table = read_record(path), read_columns(path)
    changed = pa.table({REASON: pa.array([None] * record.rows, table.schema.field(REASON).type)})
    path.unlink()
    Store(third_copy).open().commit_table(changed, replace(record, columns=keys.contents(changed)))
    after = digests(third_copy)
    assert {stage for stage in before if before[stage] != after[stage]} == {"filter_text"}
