"""Content digests of the data stages on a third of the sample; as a command, it writes them: `PYTHONPATH=tests/helpers python -m goldens`."""

import json
import sys
import tempfile
from pathlib import Path

from samples import ROOT, call, command, third_options, third_records, write_jsonl

from polylm.tasks import keys
from polylm.tasks.store import Store

GOLDENS = ROOT / "tests" / "goldens.json"


def digests(store):
    """Of each stage of the first run that writes tables: its version and the digest of all its columns, in order."""
    held, found = Store(Path(store)), {}
    stages = json.loads(min((held.root / "runs").glob("*.json")).read_text())["stages"]
    for stage, key in (entry["artifact"].split("/") for entry in stages):
        artifact = held.load_artifact(stage, key)
        if not artifact.shape.startswith("folder"):
            contents = [[part.label, sorted(part.columns.items())] for part in artifact.parts]
            version = max(record.version for part in artifact.parts if (record := part.record))
            found[stage] = {"version": version, "content": keys.digest(contents)[:32]}
    return found


def main():
    with tempfile.TemporaryDirectory() as folder:
        third = write_jsonl(Path(folder) / "third.jsonl", third_records())
        words = command("run", "sample", *third_options(third), "--store", f"{folder}/store", "--no-prefect")
        call(words, timeout=1_800)
        GOLDENS.write_text(json.dumps(digests(f"{folder}/store"), indent=1, sort_keys=True) + "\n")
    print(f"{GOLDENS} written", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
