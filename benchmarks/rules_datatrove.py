"""The rule filters against datatrove 0.10.1's: from text to verdicts, CPU seconds of one core, file by file and in all.

    make bench ONLY=rules_datatrove DATA=FOLDER        (FOLDER: a JSONL file a language, de.jsonl.gz, with `text`)

`MODES` narrows what the peer does: `own`, as it is; `cached`, with spaCy's cache kept, one line of it changed; `ready`,
words and sentences looked up on its side and words on ours. `LIMIT` takes that many documents of each file, `LANGUAGES`
some of them. Ours are FineWeb's rules (`fineweb`), all of them for every document with counts and margins; the peer's
pipeline lets a dropped document go no further. Every measurement is a process of its own, texts in memory, warm; ours is
the median of five passes. datatrove and its segmenters are installed into an environment of their own. One JSON line a
file, a sum for each mode at the end; the verdicts of both are counted beside.
"""

import gzip
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import peers
import pyarrow as pa
import pyarrow.compute as pc

from polylm.kernels import text_statistics
from polylm.kernels.words import segment
from polylm.tasks.corpus.language import batches_by_language
from polylm.tasks.corpus.rule_sets import rule_set
from polylm.tasks.corpus.text import COUNTS, StatisticsParams, TextParams, filter_text, measure_text
from polylm.tasks.rules import judge

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "medium"
COMMAND = "make bench ONLY=rules_datatrove DATA=FOLDER"
MODES = ("own", "cached", "ready")


def main() -> None:
    if sys.argv[1:2] == ["ours"]:
        return _ours(sys.argv[2], Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
    folder = Path(os.environ.get("DATA") or FOLDER)
    limit, modes = os.environ.get("LIMIT", "0"), os.environ.get("MODES", ",".join(MODES)).split(",")
    languages = os.environ.get("LANGUAGES", ",".join(peers.CODES)).split(",")
    peer = peers.datatrove()
    for mode in modes:
        sums = {"ours": 0.0, "peer": 0.0}
        for language in languages:
            path = str(folder / f"{language}.jsonl.gz")
            ours = peers.measure([sys.executable, "-P", __file__, "ours", mode, path, language, limit])
            theirs = peers.measure(
                [
                    peer,
                    "-P",
                    Path(peers.__file__).with_name("datatrove_rules.py"),
                    mode,
                    path,
                    peers.CODES[language],
                    limit,
                ]
            )
            assert ours["documents"] == theirs["documents"]
            sums = {"ours": sums["ours"] + ours["seconds"], "peer": sums["peer"] + theirs["seconds"]}
            _print(
                f"{mode} {language}",
                ours["seconds"],
                theirs["seconds"],
                f"{ours['kept']}, {theirs['kept']} of {ours['documents']}",
            )
        _print(f"{mode} all", sums["ours"], sums["peer"], "")


def _ours(mode: str, path: Path, language: str, limit: int) -> None:
    """Print what our rules take for one file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for number, line in enumerate(lines) if not limit or number < limit]
    rows = {"text": pa.array(texts), "language": pa.array([language] * len(texts)).dictionary_encode()}
    chosen = rule_set("fineweb", language)
    slices = batches_by_language(rows["text"], rows["language"]) if mode == "ready" else ()
    words = [(places, segment(batch, language), batch) for _, places, batch in slices]

    def counts() -> dict[str, Any]:
        if not words:
            found = measure_text(rows, StatisticsParams(stop_words={language: tuple(chosen.stop_words)}))
            return {"chars": pc.utf8_length(rows["text"]), **found}
        columns = {name: np.zeros(len(texts), np.uint32) for name in ("chars", *COUNTS)}
        for places, spans, batch in words:
            for name, values in text_statistics.measure(batch, spans, chosen.stop_words).items():
                columns[name][places] = values
        return columns

    def verdicts() -> pa.Array:
        columns = {name: np.asarray(values, np.float64) for name, values in counts().items()}
        params = TextParams(rules=("fineweb",), thresholds={language: chosen.thresholds})
        rules = filter_text({**columns, "language": rows["language"]}, params)
        return judge(rules, np.zeros(len(texts), np.bool_), "filter_text")

    taken = []
    for _ in range(6):
        begun = time.process_time()
        said = verdicts()
        taken.append(time.process_time() - begun)
    print(json.dumps({"seconds": statistics.median(taken[1:]), "kept": said.null_count, "documents": len(texts)}))


def _print(name: str, ours: float, peer: float, kept: str) -> None:
    line = {"name": name, "ours": round(ours, 3), "peer": round(peer, 3), "ratio": round(peer / ours, 1)}
    print(json.dumps({**line, "unit": "CPU s", "kept": kept, "command": COMMAND}), flush=True)


if __name__ == "__main__":
    main()
