"""What many tests need: documents of odd text, a third of the embedded sample, the command, and what a store holds."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from polylm.deployments.settings import cache_folder
from polylm.tasks import keys
from polylm.tasks.build import Job, PartInput
from polylm.tasks.maintenance.files import walk_files
from polylm.tasks.store import read_columns, read_record

HELPERS = Path(__file__).resolve().parent
ROOT = HELPERS.parents[1]
DOCUMENTS = ROOT / "flows" / "sample" / "documents.jsonl.gz"
MODEL = cache_folder() / "lid.176.ftz"

ODD_TEXTS = (
    "A plain sentence, as most are.",
    "",
    " \t\n",
    "\u200b\u200b\ufeff",
    "e\u0301 is not é",
    "ภาษาไทยไม่มีช่องว่าง",
    "日本語の文章です。句点で終わる。",
    "שלום עולם, זה טקסט בעברית.",
    "👩\u200d👩\u200d👧 and 🇩🇪",
    "null\x00byte and \x1b[31mcolour",
    "http://only.an.address/here",
    "w" * 1_200,
    "line\r\nends\u2028of\u0085many\x0ckinds",
    "\U00020000 is above the first plane",
)


def third_records():
    """The records of the sample whose id's hash falls into the first of three."""
    with gzip.open(DOCUMENTS, "rt") as file:
        records = [json.loads(line) for line in file]
    return [record for record in records if hashlib.sha256(record["id"].encode()).digest()[0] % 3 == 0]


def write_jsonl(path, records):
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return path


def third_options(file):
    """Options that run the recipe `sample` up to `select` on a third of its documents."""
    changes = {"sources.sample.path": file, "quality_models.min_reference_bytes": 10_000, "flow": "corpus"}
    return [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]


def command(*words):
    """The `polylm` command of this environment, without Prefect's settings or a folder on the path."""
    return [sys.executable, "-P", "-m", "polylm.flows.cli", *map(str, words)]


def environment(**more):
    """This environment with the toy stages importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PYTHONPATH": str(HELPERS), "PYTHONSAFEPATH": "1", **{k: str(v) for k, v in more.items()}}


def call(words, *, code=0, timeout=1_200, **more):
    """Run a command to its end; its standard output, when its exit code is the expected one."""
    done = subprocess.run(words, env=environment(**more), capture_output=True, text=True, timeout=timeout, cwd=HELPERS)
    assert done.returncode == code, f"{words} exited with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def snapshot(store):
    """Every part and folder by its name, key in it, with the content digests *of what is in the files*."""
    store = Path(store)
    held = {
        str(path.relative_to(store)): keys.contents(read_columns(path))
        for path in sorted((store / "parts").rglob("*.parquet"))
    }
    for manifest in sorted((store / "folders").glob("*/*/manifest.json")):
        folder = manifest.parent
        digests = {str(path.relative_to(folder)): keys.file_digest(path) for path in walk_files(folder)}
        held[str(folder.relative_to(store))] = digests
    return held


def records_of(store, stage):
    """The records of all jobs of a stage that a store holds."""
    return [read_record(path) for path in sorted((Path(store) / "parts" / stage).rglob("*.parquet"))]


def half_written(store):
    """Whatever is in `parts/` or `folders/` that is not a whole part or a whole folder."""
    parts = [path for path in (store / "parts").rglob("*") if path.is_file()]
    wrong = [path for path in parts if path.suffix != ".parquet" or not _is_whole(path)]
    folders = (store / "folders").glob("*/*")
    return wrong + [folder for folder in folders if not (folder / "manifest.json").exists()]


def workers_of(pid):
    """The processes that another one started, its children's children too."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def wait_until(true, seconds=60.0, pause=0.02):
    """Wait for something to come true; whether it did."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def is_alive(process):
    """Is a process still there, and not only its entry in the table?"""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def job(stage, params, store, *, key="", label="toy.0", files=(), where=(), rows=0, number=None, **more):
    """A job of one part."""
    parts = (PartInput(tuple(files), tuple(where), number, rows),)
    return Job(stage, params, key or keys.digest([stage.name, label]), label, {}, store.root, parts, **more)


def _is_whole(path):
    record, columns = read_record(path), keys.contents(read_columns(path))
    own = next((entry["columns"] for entry in record.parts if f"{entry['key']}.parquet" == path.name), record.columns)
    return own == columns
