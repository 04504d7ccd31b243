"""A thousand malformed files for every reader, and bombs of 1 GB, in processes of their own whose memory is seen."""

import json
import signal
from pathlib import Path

import bombs
import well_formed
from samples import HELPERS, command

from torture.stores import say
from torture.table import Line

BOMBS = ("lines.jsonl.gz", "one-line.jsonl.zst", "record.warc.gz", "rows.parquet", "dump.xml.bz2", "table.csv.xz")
BOMB_BYTES = 256 << 20  # 16 batches of 16 MB: Python's strings, Arrow's, and what a library keeps
PEAK_BYTES = 512 << 20  # 130 MB of it libraries; a damaged Parquet footer can promise large pages


def malformed_inputs(folder: Path, *, inputs: int, seed: int) -> list[Line]:
    """Seeds `seed * inputs` and on for every reader."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for kind in well_formed.BUILDERS:
        line = Line(
            f"malformed inputs, {kind}",
            f"read or refused by name, records = documents + bad, under {PEAK_BYTES >> 20} MB",
        )
        _stretch(line, folder, kind, seed * inputs, inputs)
        lines.append(line)
    return lines


def _stretch(line: Line, folder: Path, kind: str, first: int, count: int) -> None:
    """Seeds of one kind; where one takes its process along, that is noted and the others go on."""
    end = first + count
    while first < end:
        done = say([*command()[:2], str(HELPERS / "malformed.py"), str(folder), kind, str(first), str(end - first)])
        reached = int((folder / f"{kind}.seed").read_text())
        if done.returncode:
            line.count += reached - first
            line.tell(f"{kind} {reached} took its process along: {signal.Signals(-done.returncode).name}")
            first = reached + 1
            continue
        told = json.loads(done.stdout)
        line.count += end - first
        line.lost += told["wrong"]
        if told["peak_bytes"] > PEAK_BYTES:
            line.lost.append(f"{kind}: {told['peak_bytes'] >> 20} MB")
        print(f"{kind}: {told['outcomes']}, peak {told['peak_bytes'] >> 20} MB, wrong {told['wrong']}", flush=True)
        first = end


def compressed_bombs(folder: Path, *, megabytes: int = 1_024) -> Line:
    """Files of at most 1.2 MB that unpack to 1 GB, with records of at most 1 MB allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    line = Line(
        f"compressed bombs of {megabytes:,} MB", f"grows by less than {BOMB_BYTES >> 20} MB, records = documents + bad"
    )
    assert {name.partition(".")[0] for name in BOMBS} == set(bombs.BOMBS)
    for name in BOMBS:
        done = say([*command()[:2], str(HELPERS / "bombs.py"), str(folder / name), str(megabytes)])
        told = json.loads(done.stdout) if done.returncode == 0 else {}
        well = told and told["read"] == told["expected"] and told["grown_bytes"] < BOMB_BYTES
        print(f"{name}: {told or done.stderr[-300:]}", flush=True)
        line.tell(None if well else f"{name}: {told or done.stderr[-300:]}")
    return line
