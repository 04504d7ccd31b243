"""Kill the whole sample run at seeded moments and compare what it ends with: `make torture [KILLS=8] [SEED=0]`.

One undisturbed run, then one store whose runs are killed by SIGKILL, every second one with --prefect, until the last goes
to its end. Prints a table; exits 1 if any content of a reproducible stage differs, a process stays behind for more than
10 s, or a half-written file is in parts/ or folders/.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from polylm.tasks import keys
from polylm.tasks.store import MANIFEST, read_columns, read_record

POLYLM = [sys.executable, "-P", "-m", "polylm.flows.cli"]
ORPHAN_SECONDS = 10.0
Contents = dict[tuple[str, str], dict[str, str]]


def main() -> int:
    kills, seed = int(os.environ.get("KILLS", "8")), int(os.environ.get("SEED", "0"))
    with tempfile.TemporaryDirectory(dir=os.environ.get("POLYLM_TORTURE")) as folder:
        undisturbed, killed = Path(folder) / "undisturbed", Path(folder) / "killed"
        started = time.monotonic()
        _run(undisturbed, prefect=False)
        whole_seconds = time.monotonic() - started
        rows, left = _kill(killed, kills, random.Random(seed), whole_seconds)
        _run(killed, prefect=False)
        expected, found = _reproducible(undisturbed), _reproducible(killed)
        differing = sorted(name for name in expected if expected[name] != found.get(name))
        broken = _half_written(killed)
    print("| kill | with Prefect | after s | in stage | orphans after 10 s |\n|---:|---|---:|---|---:|")
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))
    print(
        f"\n{kills} kills, seed {seed}, undisturbed run {whole_seconds:.0f} s: {len(expected)} outputs of reproducible stages "
        f"compared, {len(differing)} differ; {left} orphans; {len(broken)} half-written files"
    )
    for name in [*differing, *broken]:
        print(f"wrong: {name}")
    return 1 if differing or left or broken else 0


def _run(store: Path, *, prefect: bool) -> None:
    option = "--prefect" if prefect else "--no-prefect"
    subprocess.run([*POLYLM, "run", "sample", "--store", str(store), option], check=True, capture_output=True)


def _kill(store: Path, kills: int, chance: random.Random, whole_seconds: float) -> tuple[list[list[str]], int]:
    """Start runs and kill each after a share of what a whole run takes; they go on from each other."""
    rows, left = [], 0
    for number in range(1, kills + 1):
        option = "--prefect" if number % 2 == 0 else "--no-prefect"
        run = subprocess.Popen(
            [*POLYLM, "run", "sample", "--store", str(store), option],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        seconds = 4 + chance.random() * 2 * whole_seconds / kills
        time.sleep(seconds)
        children = psutil.Process(run.pid).children(recursive=True) if run.poll() is None else []
        stage = _last_stage(store)
        run.send_signal(signal.SIGKILL)
        run.wait()
        _, alive = psutil.wait_procs(children, timeout=ORPHAN_SECONDS)
        left += len(alive)
        rows.append([str(number), option.removeprefix("--"), f"{seconds:.0f}", stage, str(len(alive))])
    return rows, left


def _last_stage(store: Path) -> str:
    records = sorted((store / "runs").glob("*.json"))
    stages = json.loads(records[-1].read_text())["stages"] if records else []
    return f"after {stages[-1]['stage']}" if stages else "at the start"


def _reproducible(store: Path) -> Contents:
    """Content digests, read from the files, of the last run's outputs that do not stand on generated text."""
    stages = json.loads(sorted((store / "runs").glob("*.json"))[-1].read_text())["stages"]
    generated: set[str] = set()
    contents: Contents = {}
    for entry in stages:
        if entry["stage"] == "generate_instructions" or generated & set(entry["reads"]):
            generated.add(entry["artifact"])
            continue
        stage, key = entry["artifact"].split("/")
        manifest = json.loads(next((store / "artifacts" / stage).glob(f"{key}*.json")).read_text())
        for part in manifest["parts"]:
            contents[stage, part["key"]] = _digests(store, manifest["shape"], stage, part["key"])
    return contents


def _digests(store: Path, shape: str, stage: str, key: str) -> dict[str, str]:
    if not shape.startswith("folder"):
        return keys.contents(read_columns(store / "parts" / stage / key[:2] / f"{key}.parquet"))
    folder = store / "folders" / stage / key
    names = json.loads((folder / MANIFEST).read_text())["columns"]
    return {name: keys.file_digest(folder / name) for name in names}


def _half_written(store: Path) -> list[str]:
    parts = [path for path in (store / "parts").rglob("*") if path.is_file()]
    folders = [path for path in (store / "folders").glob("*/*") if not (path / MANIFEST).exists()]
    return [str(path) for path in parts if not _is_whole(path)] + [str(path) for path in folders]


def _is_whole(path: Path) -> bool:
    try:
        return read_record(path).rows >= 0
    except (OSError, ValueError, KeyError):
        return False


if __name__ == "__main__":
    sys.exit(main())
