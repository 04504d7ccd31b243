"""Reading, against datatrove 0.10.1: JSONL.gz to Arrow and to committed parts, WET to committed parts; and what cleaning costs.

    python benchmarks/ingest.py [FILE.jsonl.gz ...] [--megabytes 15] [--repeats 3] [--peer PYTHON]

The files (by default the embedded sample's) are repeated to that many MB of text, as JSONL.gz and as WET whose records are
gzip members. Every measurement is a process of its own on one core: CPU seconds of the work, imports and compilation left
out, the median of the repeats, ours and the peer's in turn. datatrove is installed into an environment of its own in the
cache, unless `--peer` names one. One JSON line a figure.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from polylm.deployments.settings import cache_folder

PEER = "datatrove[io,processing]==0.10.1"
SAMPLE = Path(__file__).resolve().parents[1] / "flows" / "sample" / "documents.jsonl.gz"
MEGABYTE = 1_000_000

OURS = """
import sys, time
from pathlib import Path
from polylm.tasks.documents.clean import CleanParams, clean
from polylm.tasks.documents.ingest import IngestParams, ingest
from polylm.tasks.documents.readers import read, split
from polylm.tasks.documents.sources import Source, Sources
from polylm.tasks.run import run
from polylm.tasks.session import session
from polylm.deployments.settings import Settings
import json, pyarrow as pa
what, path, out, params = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
def arrow(path):
    format = "jsonl.gz" if "jsonl" in path.name else "warc.gz"
    return [batch for range_ in split(path, format, 1 << 40) for batch in read(path, format, range_)]
def parts(path, store):
    with session(Settings(store=store, workers=0), name="bench"):
        run(ingest, IngestParams(), Sources({"s": Source(path=str(path))}))
    return []
def cleaned(tables):
    return [clean({n: t[n].combine_chunks() for n in ("text", "url", "kind")}, CleanParams(**params)) for t in tables]
small = Path(sys.argv[5])
arrow(small)
if what == "parts":
    parts(small, out / "warm")
if what == "clean":
    tables = [batch.documents for batch in arrow(path)]
    cleaned(tables[:1])
start = time.process_time()
{"arrow": lambda: arrow(path), "parts": lambda: parts(path, out / "store"), "clean": lambda: cleaned(tables)}[what]()
print(time.process_time() - start)
"""

THEIRS = """
import sys, time
from pathlib import Path
from loguru import logger
logger.remove()
from datatrove.pipeline.readers import JsonlReader, WarcReader
from datatrove.pipeline.writers import JsonlWriter
what, path, out, small = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[5])
def documents(path):
    reader = JsonlReader if "jsonl" in path.name else WarcReader
    return reader(str(path.parent), glob_pattern=path.name)()
def written(path, folder):
    for _ in JsonlWriter(str(folder)).run(documents(path)):
        pass
def work(path, folder):
    if what == "write":
        written(path, folder)
    else:
        sum(1 for _ in documents(path))
work(small, out / "warm")
start = time.process_time()
work(path, out / "theirs")
print(time.process_time() - start)
"""


def main() -> None:
    arguments = _arguments()
    peer = arguments.peer or _peer()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = list(_texts(arguments.files, arguments.megabytes * MEGABYTE))
        size = sum(len(text.encode()) for text in texts) / MEGABYTE
        some = texts[: len(texts) // 5]  # of WET less, because the peer reads 2 MB a second
        some_size = sum(len(text.encode()) for text in some) / MEGABYTE
        jsonl, wet = _jsonl(texts, folder / "x.jsonl.gz"), _wet(some, folder / "x.warc.wet.gz")
        smaller = {
            ".jsonl.gz": _jsonl(texts[:50], folder / "s.jsonl.gz"),
            ".wet.gz": _wet(texts[:50], folder / "s.warc.wet.gz"),
        }
        bench = _Bench(folder, peer, size, arguments.repeats, smaller)
        bench.compare("JSONL.gz to Arrow in memory", jsonl, size, "arrow", "read")
        bench.compare("JSONL.gz to committed parts", jsonl, size, "parts", "read")
        bench.compare("WET to committed parts", wet, some_size, "parts", "write")
        for label, params in {
            "clean": {},
            "clean, fix_mojibake": {"fix_mojibake": True},
            "clean, c4_lines": {"c4_lines": True},
            "clean, all masks": {"masks": ["email", "iban", "ip", "phone"]},
        }.items():
            bench.alone(label, jsonl, params)


class _Bench:
    """Runs both sides in turn and prints a line a figure."""

    def __init__(self, folder: Path, peer: str, megabytes: float, repeats: int, smaller: dict[str, Path]) -> None:
        self.folder, self.peer, self.megabytes, self.repeats, self.smaller = folder, peer, megabytes, repeats, smaller
        self._runs = 0

    def compare(self, name: str, path: Path, megabytes: float, ours: str, theirs: str) -> None:
        """Median speeds, MB of text a CPU second."""
        pairs = [
            (self._seconds(sys.executable, OURS, ours, path, {}), self._seconds(self.peer, THEIRS, theirs, path, {}))
            for _ in range(self.repeats)
        ]
        one, other = (megabytes / statistics.median(side) for side in zip(*pairs, strict=True))
        figure(name, one, other)

    def alone(self, name: str, path: Path, params: dict[str, object]) -> None:
        """A stage without a peer."""
        seconds = [self._seconds(sys.executable, OURS, "clean", path, params) for _ in range(self.repeats)]
        figure(name, self.megabytes / statistics.median(seconds), None)

    def _seconds(self, python: str, code: str, what: str, path: Path, params: dict[str, object]) -> float:
        self._runs += 1
        out = self.folder / str(self._runs)
        out.mkdir()
        small = next(small for suffix, small in self.smaller.items() if path.name.endswith(suffix))
        words = [python, "-P", "-c", code, what, str(path), str(out), json.dumps(params), str(small)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
        done = subprocess.run(words, capture_output=True, text=True, env=environment)
        if done.returncode:
            sys.exit(f"{name_of(python)} {what}: {done.stderr[-2_000:]}")
        return float(done.stdout.split()[-1])


def name_of(python: str) -> str:
    return "ours" if python == sys.executable else "datatrove"


def figure(name: str, ours: float, peer: float | None) -> None:
    line = {
        "name": name,
        "ours": round(ours, 2),
        "peer": peer and round(peer, 2),
        "ratio": peer and round(ours / peer, 2),
    }
    print(
        json.dumps({**line, "unit": "MB of text a CPU second", "command": " ".join(["python", *sys.argv])}), flush=True
    )


def _texts(files: list[Path], most: int) -> Iterator[str]:
    """The texts of the files, over and over."""
    held = 0
    while True:
        for path in files:
            with gzip.open(path, "rt", encoding="utf-8") as file:
                for line in file:
                    if held >= most:
                        return
                    text = json.loads(line)["text"]
                    held += len(text.encode())
                    yield text


def _jsonl(texts: list[str], path: Path) -> Path:
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=6) as file:
        for number, text in enumerate(texts):
            record = {"text": text, "id": str(number), "url": f"https://site{number % 99}.example/{number}"}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return path


def _wet(texts: list[str], path: Path) -> Path:
    with path.open("wb") as file:
        for number, text in enumerate(texts):
            block = text.encode()
            head = (
                f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: https://site{number % 99}.example/{number}\r\n"
                f"WARC-Date: 2024-01-02T03:04:05Z\r\nWARC-Record-ID: <urn:uuid:{number:032x}>\r\nContent-Type: text/plain\r\n"
                f"Content-Length: {len(block)}\r\n\r\n"
            )
            file.write(gzip.compress(head.encode() + block + b"\r\n\r\n", 6))
    return path


def _peer() -> str:
    """The interpreter of an environment that holds datatrove."""
    folder = cache_folder() / "peers" / "datatrove-0.10.1"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", PEER], check=True)
        (folder / "ready").touch()
    return str(folder / "bin" / "python")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, default=[SAMPLE])
    parser.add_argument("--megabytes", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", default="")
    return parser.parse_args()


if __name__ == "__main__":
    main()
