"""Treat stores badly and print what was lost: `make torture`, which is

    PYTHONPATH=tests/helpers:benchmarks python -P -m torture

The environment says how much: ONLY (some of inputs,damage,hardship,kills), SEED=0, KILLS=200, FLIPS=1000, CUTS=200, RUNS=40
(runs over a damaged store), INPUTS=1000 (a reader), UNTIL (a time of day, 17:50, at which kills end), and POLYLM_TORTURE (a
folder for the stores, gigabytes and on a disk that is not in memory; by default one that goes away). Exits 1 if anything was lost.
"""

import os
import random
import sys
import tempfile
import time
from pathlib import Path

from whole import Whole, contents

from torture import damage, hardship, inputs, kills
from torture.stores import undisturbed
from torture.table import Line, markdown

KINDS = ("inputs", "damage", "hardship", "kills")


def main() -> int:
    asked = os.environ.get("ONLY", ",".join(KINDS)).split(",")
    if unknown := set(asked) - set(KINDS):
        print(f"ONLY={','.join(sorted(unknown))}: expected some of {','.join(KINDS)}", file=sys.stderr)
        return 2
    seed, lines = _number("SEED", 0), list[Line]()
    with tempfile.TemporaryDirectory(dir=os.environ.get("POLYLM_TORTURE"), prefix="torture-") as name:
        folder = Path(name)
        if "inputs" in asked:
            lines += inputs.malformed_inputs(folder / "inputs", inputs=_number("INPUTS", 1_000), seed=seed)
            lines += [inputs.compressed_bombs(folder / "inputs")]
        if set(asked) - {"inputs"}:
            with undisturbed(folder / "whole") as whole:
                for kind in asked:
                    lines += _of_store(kind, whole, folder, seed)
                    print(markdown(lines), flush=True)
    print(f"\nseed {seed}\n\n{markdown(lines)}")
    for line in lines:
        print("".join(f"\nlost: {line.kind}: {lost}" for lost in line.lost), end="")
    print()
    return 1 if any(line.lost for line in lines) else 0


def _of_store(kind: str, whole: Whole, folder: Path, seed: int) -> list[Line]:
    expected = contents(whole.store)
    match kind:
        case "damage":
            found = damage.found_by_verify(
                whole, folder, flips=_number("FLIPS", 1_000), cuts=_number("CUTS", 200), seed=seed
            )
            used = damage.used_by_no_run(whole, folder, expected, runs=_number("RUNS", 40), seed=seed)
            return [*found, used, damage.found_by_recompute(whole, folder, edits=3, seed=seed)]
        case "hardship":
            return hardship.hardships(whole, folder / "hardship", expected, seed=seed)
        case "kills":
            chance, wanted = random.Random(f"kills {seed}"), _number("KILLS", 200)
            server = kills.model_server(whole, folder, kills=wanted // 20, chance=chance)
            others = kills.Kills(whole, expected, folder, wanted - server.count, chance, _until())
            return [*others.all(), server]
    return []


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


def _until() -> float:
    """UNTIL as a time; without it there is no end."""
    told = os.environ.get("UNTIL")
    return time.mktime(time.strptime(time.strftime("%Y-%m-%d ") + told, "%Y-%m-%d %H:%M")) if told else float("inf")


if __name__ == "__main__":
    sys.exit(main())
