"""Raw text to `select` by `polylm run corpus`: documents a second of every stage, and the peak memory of every process.

    python benchmarks/medium.py FOLDER [--workers 2] [--copies 10]
    python benchmarks/medium.py FOLDER --repeat 30

FOLDER holds files of documents, such as `*.jsonl.gz`. They are run once as one source, and, with `--copies`, again as so
many sources, each a copy of all documents with a word of its own before the text (`same`: the files themselves under so
many names). A copy is a near-duplicate of every other, so the search for duplicates meets its worst case. `--repeat` makes
one plain file of so many copies, 5 GB of the medium corpus for 30, and runs that alone. One JSON line a
figure. No peer: nothing else has the same stages; what is compared is the memory of 1 and of N sources.
"""

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq

MEGABYTE = 1 << 20


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as name:
        scratch = Path(name)
        if arguments.repeat:
            file = _repeated(arguments.folder, arguments.repeat, scratch / "repeated.jsonl")
            figure("repeated: size", file.stat().st_size / MEGABYTE, "MB")
            measure("repeated", {"medium": file}, scratch / "one", arguments.workers)
            return
        peaks = {1: measure("one", {"medium": arguments.folder}, scratch / "one", arguments.workers)}
        if arguments.copies > 1:
            sources = _sources(arguments.folder, arguments.copies, scratch / "copies", same=arguments.same)
            peaks[arguments.copies] = measure("copies", sources, scratch / "many", arguments.workers)
            for process, one in peaks[1].items():
                many = peaks[arguments.copies].get(process, 0)
                figure(f"peak of {process}, {arguments.copies} to 1", many / one, "times")


def measure(run: str, sources: dict[str, Path], store: Path, workers: int) -> dict[str, int]:
    """Run the data stages, print a figure for every stage; the peak resident bytes by kind of process."""
    options = [word for name, path in sources.items() for word in ("--source", f"{name}={path}")]
    command = [sys.executable, "-P", "-m", "polylm.flows.cli", "run", "corpus", *options]
    command += ["--store", str(store), "--workers", str(workers), "--no-prefect", "--json", "--on-alarm", "warn"]
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        watch = Watch(process.pid)
        process.communicate()
    watch.stop()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exited with {process.returncode}")
    figure(f"{run}: all stages", time.monotonic() - started, "s", workers=workers)
    for stage, rows, seconds, peak in _stages(store):
        figure(
            f"{run}: {stage}", rows / max(seconds, 1e-3), "documents/s", seconds=seconds, peak_mb=round(peak / MEGABYTE)
        )
    for name, peak in watch.peaks.items():
        figure(f"{run}: peak of {name}", peak / MEGABYTE, "MB")
    return watch.peaks


def figure(name: str, value: float, unit: str, **more: float) -> None:
    print(json.dumps({"figure": name, "value": round(value, 3), "unit": unit, **more}), flush=True)


class Watch:
    """Asks the kernel twenty times a second for the high-water mark of a process and of all that it started."""

    def __init__(self, pid: int) -> None:
        self.peaks: dict[str, int] = {}
        self._seen: set[int] = set()
        self._root, self._stopped = psutil.Process(pid), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(0.05):
            try:
                for process in (self._root, *self._root.children(recursive=True)):
                    self._note(process)
            except psutil.NoSuchProcess:
                continue

    def _note(self, process: psutil.Process) -> None:
        try:
            # At first sight it may be a fork that is not yet what it will be, and has its parent's mark.
            if not self._has_seen(process.pid) or not (command := process.cmdline()):
                return
            status = Path(f"/proc/{process.pid}/status").read_text()
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            return
        peak = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0) * 1024
        name = self._kind(process, command)
        self.peaks[name] = max(self.peaks.get(name, 0), peak)

    def _has_seen(self, pid: int) -> bool:
        if pid in self._seen:
            return True
        self._seen.add(pid)
        return False

    def _kind(self, process: psutil.Process, command: list[str]) -> str:
        if process.pid == self._root.pid:
            return "the command"
        if any("spawn_main" in word for word in command):
            return "a worker" if process.ppid() == self._root.pid else "fastText's training"
        if any("resource_tracker" in word for word in command):
            return "the resource tracker"
        return Path(command[0]).name


def _stages(store: Path) -> Iterator[tuple[str, int, float, int]]:
    """(stage, documents in, seconds, peak bytes so far of a process that worked on it), from the run's records."""
    run = json.loads(max((store / "runs").glob("*.json")).read_text())
    documents = next(entry["rows"] for entry in run["stages"] if entry["stage"] == "ingest")
    peaks: dict[str, int] = defaultdict(int)
    for path in (store / "parts").glob("*/*/*.parquet"):
        record = json.loads((pq.read_schema(path).metadata or {})[b"polylm.record"])
        peaks[record["stage"]] = max(peaks[record["stage"]], record["facts"]["peak_bytes"])
    for path in (store / "folders").glob("*/*/manifest.json"):
        record = json.loads(path.read_text())
        peaks[record["stage"]] = max(peaks[record["stage"]], record["facts"]["peak_bytes"])
    for entry in run["stages"]:
        yield entry["stage"], documents, entry["seconds"], peaks[entry["stage"]]


def _sources(folder: Path, copies: int, scratch: Path, *, same: bool) -> dict[str, Path]:
    if same:
        return {f"copy{index}": folder for index in range(copies)}
    return {f"copy{index}": _copy(folder, scratch / str(index), index) for index in range(copies)}


def _copy(folder: Path, target: Path, index: int) -> Path:
    """All documents of a folder's JSONL files with a word of this copy's own before each text."""
    target.mkdir(parents=True)
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(target / path.name, "wt", compresslevel=1) as out:
            out.writelines(_told_apart(path, index))
    return target


def _repeated(folder: Path, times: int, file: Path) -> Path:
    with file.open("w", encoding="utf-8") as out:
        for index in range(times):
            for path in sorted(folder.glob("*.jsonl.gz")):
                out.writelines(_told_apart(path, index))
    return file


def _told_apart(path: Path, index: int) -> Iterator[str]:
    """The lines of a file with a word of this copy's own before each text."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            record["text"] = f"{'abcdefghijklmnopqrstuvwxyz'[index % 26] * (4 + index // 26)} {record['text']}"
            yield json.dumps(record, ensure_ascii=False) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="A folder of *.jsonl.gz files.")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--copies", type=int, default=1, help="Run again on so many sources.")
    parser.add_argument("--same", action="store_true", help="The copies are the files themselves, under other names.")
    parser.add_argument("--repeat", type=int, default=0, help="Run one file of so many copies instead.")
    parser.add_argument("--scratch", type=Path, help="Where copies and stores are written, and removed at the end.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
