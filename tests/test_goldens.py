"""What every data stage makes of a third of the sample is pinned: other content needs another version."""

import json

from goldens import GOLDENS, digests


def test_the_same_versions_make_the_same_content(third_store):
    """`python tests/helpers/goldens.py` writes the file anew, once the versions are raised."""
    pinned, found = json.loads(GOLDENS.read_text()), digests(third_store)
    problems = [
        f"{stage}: other content under version {now['version']}: raise it to {now['version'] + 1}, or undo the change"
        for stage, now in found.items()
        if stage in pinned and now["content"] != pinned[stage]["content"] and now["version"] == pinned[stage]["version"]
    ]
    # What reads changed content has other content too: the first is the one to look at.
    assert not problems, "\n".join(problems)
    assert found == pinned, "the goldens are older than the stages: write them anew"


def test_the_digests_see_a_change_of_one_value(third_copy):
    from polylm.tasks import keys
    from polylm.tasks.store import Store

    before = digests(third_copy)
    assert before["clean"]["content"] != before["ingest"]["content"]
    assert len(before) >= 15
    path = next((third_copy / "parts" / "filter_text").rglob("*.parquet"))
    record = Store(third_copy).record("table", "filter_text", path.stem)
    assert keys.digest(record.columns) == keys.digest(dict(record.columns))
