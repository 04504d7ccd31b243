"""JSONL to what the filters keep, whole: `ingest` to `filter_quality` against datatrove 0.10.1, seconds on two cores.

    make bench ONLY=pipeline_datatrove DATA=FOLDER        (FOLDER: a JSONL file a language, de.jsonl.gz, with `text`)

Ours is the command `polylm run corpus --until filter_quality --workers 2`, start and end of the process with it: parsing,
cleaning, language, statistics, rules, perplexity and classifier, with every value of every document in committed files.
Models, thresholds and floors are ready: a run before it makes them, then all parts of the corpus are taken away. The peer
(`peers/datatrove_pipeline.py`: its steps) does less: what it drops is gone, nothing is cleaned, scored or kept beside. One
JSON line.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peers

from polylm.deployments.settings import cache_folder
from polylm.tasks.stage import all_stages

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "medium"
COMMAND = "make bench ONLY=pipeline_datatrove DATA=FOLDER"
WORKERS = 2


def main() -> None:
    folder = Path(os.environ.get("DATA") or FOLDER)
    with tempfile.TemporaryDirectory(dir=os.environ.get("SCRATCH")) as scratch:
        store = Path(scratch) / "store"
        _ours(folder, store)
        for stage in all_stages():
            if stage.each in ("part", "file"):
                shutil.rmtree(store / "parts" / stage.name, ignore_errors=True)
        ours = _ours(folder, store)
        theirs = _theirs(folder, Path(scratch) / "out")
    assert ours["documents"] == theirs["documents"], (ours, theirs)
    line = {"name": f"ingest to filter_quality, {ours['documents']} documents", "unit": "s", "command": COMMAND}
    values = {
        "ours": round(ours["wall"], 1),
        "peer": round(theirs["wall"], 1),
        "ratio": round(theirs["wall"] / ours["wall"], 1),
    }
    print(json.dumps({**line, **values, "cpu": [round(ours["cpu"], 1), round(theirs["cpu"], 1)]}))


def _ours(folder: Path, store: Path) -> dict[str, float]:
    """Wall and CPU seconds of a run, and the documents that it read."""
    words = ["run", "corpus", "--source", f"medium={folder}", "--store", str(store), "--workers", str(WORKERS)]
    words += ["--until", "filter_quality", "--no-prefect", "--on-alarm", "warn", "--json"]
    begun, before = time.perf_counter(), _cpu_of_children()
    done = subprocess.run([sys.executable, "-P", "-m", "polylm.flows.cli", *words], capture_output=True, text=True)
    wall = time.perf_counter() - begun
    if done.returncode:
        sys.exit(done.stderr[-2_000:])
    stages = json.loads(done.stdout)["stages"]
    print(json.dumps({"wall": wall, "stages": {one["stage"]: one["seconds"] for one in stages}}), file=sys.stderr)
    rows = next(one["rows"] for one in stages if one["stage"] == "clean")
    return {"wall": wall, "cpu": _cpu_of_children() - before, "documents": rows}


def _theirs(folder: Path, out: Path) -> dict[str, float]:
    model = cache_folder() / "lid.176.ftz"
    script = Path(peers.__file__).with_name("datatrove_pipeline.py")
    codes = [f"{code}={language}" for language, code in peers.CODES.items()]
    done = subprocess.run(
        [peers.datatrove(), "-P", script, folder, model, out, str(WORKERS), *codes], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr[-2_000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
