"""Perplexity, text to score, against cc_net's own loop in Python: CPU seconds, and whether the values are equal.

    python benchmarks/perplexity.py [FOLDER] [--languages en zh th] [--mb 1]       # FOLDER holds LANGUAGE.jsonl.gz

Without a folder the embedded sample's documents are scored. Of each language one half of the documents trains a model, the other
half (up to `--mb`) is scored, by both sides with the same model, each side in a process of its own on one core, warm, the
median of five runs. The peer does what cc_net does (normalise character by character, `encode_as_pieces`, join, `kenlm`'s score,
rounded to 0.1). One JSON line a language, and one of the sums.
"""

import argparse
import gzip
import json
import re
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from polylm.kernels import utf8
from polylm.tasks.corpus import perplexity
from polylm.tasks.corpus.reference import NormalTexts
from polylm.tasks.stage import Workspace

SAMPLE = Path(__file__).resolve().parent.parent / "flows" / "sample" / "documents.jsonl.gz"
PLAIN = dict(
    zip("，。、„”“«»１」「《》´∶：？！（）；–．～’━〈〉【】％►", ',.,""""""""""\'::?!();-\0~\'-<>[]%-', strict=True)
)
PLAIN |= {"—": " - ", "．": ". ", "…": "..."}
DIGIT = re.compile(r"\d")
CONTROL = re.compile(f"[{''.join(map(chr, [*range(32), *range(127, 160)]))}]")
RUNS = 5


def main() -> None:
    arguments = _arguments()
    if arguments.side:
        print(json.dumps(_side(arguments.side, Path(arguments.folder))))
        return
    totals = np.zeros(2)
    with tempfile.TemporaryDirectory() as scratch:
        for language, texts in sorted(_documents(arguments).items()):
            folder = Path(scratch) / language
            if not _prepare(folder, language, texts, int(arguments.mb * 1e6)):
                continue
            ours, peer = (_in_own_process(side, folder) for side in ("ours", "peer"))
            apart = np.nanmax(np.abs(np.array(ours["values"], float) - np.array(peer["values"], float)))
            megabytes = sum(len(text.encode()) for text in json.loads((folder / "texts.json").read_text())) / 1e6
            _figure(
                f"perplexity {language}",
                ours["seconds"],
                peer["seconds"],
                largest_difference=float(apart),
                megabytes=round(megabytes, 2),
            )
            totals += ours["seconds"], peer["seconds"]
    _figure("perplexity", *totals)


def _figure(name: str, ours: float, peer: float, **more: Any) -> None:
    command = " ".join(["python benchmarks/perplexity.py", *sys.argv[1:]])
    figure = {"name": name, "ours": round(ours, 4), "peer": round(peer, 4), "ratio": round(peer / ours, 2)}
    print(json.dumps({**figure, "unit": "CPU s, text to score", **more, "command": command}), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", help="LANGUAGE.jsonl.gz files; the embedded sample without")
    parser.add_argument("--languages", nargs="*", default=None)
    parser.add_argument("--mb", type=float, default=1.0, help="of text to score, a language")
    parser.add_argument("--side", choices=["ours", "peer"], help=argparse.SUPPRESS)
    return parser.parse_args()


def _documents(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Texts by language."""
    found = defaultdict(list)
    for path in sorted(Path(arguments.folder).glob("*.jsonl.gz")) if arguments.folder else [SAMPLE]:
        with gzip.open(path, "rt") as lines:
            for record in map(json.loads, lines):
                language = path.name.partition(".")[0] if arguments.folder else record["lang_declared"]
                if not arguments.languages or language in arguments.languages:
                    found[language].append(record["text"])
    return found


def _prepare(folder: Path, language: str, texts: list[str], max_bytes: int) -> bool:
    """Train on every second document, and keep some of the others to be scored; whether there were enough."""
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True)
    train = pa.array(texts[::2])
    rows = {"text": train, "language": pa.array([language] * len(train)), "kind": pa.array(["doc"] * len(train))}
    params = perplexity.QualityModelParams(
        languages=(language,), min_reference_bytes=10_000, max_reference_bytes=500_000
    )
    made = perplexity.train_quality_models(
        [rows], params, Workspace(folder / "out", folder / "scratch", folder), language
    )
    first = next(iter(utf8.row_batches(pa.array(texts[1::2]), max_bytes)))
    (folder / "texts.json").write_text(json.dumps(first.to_pylist()))
    return bool(made["has_model"])


def _in_own_process(side: str, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-P", __file__, str(folder), "--side", side], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _side(side: str, folder: Path) -> dict[str, Any]:
    texts = json.loads((folder / "texts.json").read_text())
    score = (_ours if side == "ours" else _peer)(folder / "out" / "0", texts)
    values, seconds = score(), []
    for _ in range(RUNS):
        started = time.process_time()
        values = score()
        seconds.append(time.process_time() - started)
    return {"seconds": median(seconds), "values": values}


def _ours(stem: Path, texts: list[str]) -> Callable[[], list[float]]:
    column, model = pa.array(texts), perplexity._open(str(stem))

    def score() -> list[float]:
        found: list[float] = []
        for batch in utf8.row_batches(column, 1 << 20):
            normal = NormalTexts(batch)
            found += np.round(model.perplexities(normal.data, normal.offsets), 1).tolist()
        return found

    return score


def _peer(stem: Path, texts: list[str]) -> Callable[[], list[float]]:
    import kenlm
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=f"{stem}.sp.model")
    model = kenlm.Model(f"{stem}.binary")

    def score_one(text: str) -> float:
        line = " ".join(pieces.encode_as_pieces(_normal(text)))
        return round(10.0 ** (-model.score(line) / (len(line.split()) + 1)), 1) if line else float("nan")

    return lambda: [score_one(text) for text in texts]


def _normal(text: str) -> str:
    line = text.strip().lower()
    line = "".join([char for char in unicodedata.normalize("NFD", line) if unicodedata.category(char) != "Mn"])
    line = DIGIT.sub("0", line)
    return CONTROL.sub("", "".join(PLAIN.get(char, char) for char in line))


if __name__ == "__main__":
    main()
