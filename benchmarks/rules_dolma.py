"""The counts and verdicts of our text rules against dolma 1.2.1's Gopher and C4 taggers, on English, CPU seconds.

    make bench ONLY=rules_dolma DATA=FOLDER        (FOLDER holds en.jsonl.gz: JSON lines with `text`)

Texts in memory, warm, one core, each side in processes of its own, three a side in turn, medians. Ours are all counts of
all rule sets and FineWeb's verdicts (`rules_datatrove ours`); dolma's attributes hold no verdicts, which its mixer makes
later. dolma cuts English at white space, whatever the language. `LIMIT` takes that many documents.
"""

import json
import os
import statistics
import sys
from pathlib import Path

import peers

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "medium"
OURS = Path(__file__).with_name("rules_datatrove.py")
TURNS = 3


def main() -> None:
    path, limit = str(Path(os.environ.get("DATA") or FOLDER) / "en.jsonl.gz"), os.environ.get("LIMIT", "0")
    theirs: list[str | Path] = [peers.dolma(), "-P", Path(peers.__file__).with_name("dolma_taggers.py"), path, limit]
    taken: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(TURNS):
        taken["ours"].append(peers.measure([sys.executable, "-P", OURS, "ours", "own", path, "en", limit])["seconds"])
        taken["peer"].append(peers.measure(theirs)["seconds"])
    ours, peer = (statistics.median(taken[side]) for side in ("ours", "peer"))
    line = {"name": "dolma en", "ours": round(ours, 3), "peer": round(peer, 3), "ratio": round(peer / ours, 1)}
    print(json.dumps({**line, "unit": "CPU s", "command": "make bench ONLY=rules_dolma DATA=FOLDER"}))


if __name__ == "__main__":
    main()
