"""What labelling costs against the bare model: `make bench ONLY=language_speed DATA=FOLDER`

FOLDER holds `medium/LANG.jsonl.gz`, of which 250 documents a language are taken, spread evenly. Ours is the whole stage,
from Arrow to Arrow, with scripts, close pairs and the second look at whole texts; the peer is nothing but
`model.f.predict` of the first 1,000 characters on one line, k=2. Separate processes in turn, warm, one core, CPU seconds
(`process_time`), medians. Prints one JSON line; the ratio is the peer's seconds over ours, target 0.7.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from polylm.deployments.settings import cache_folder
from polylm.tasks.corpus.language import LANGUAGES, LanguageParams, identify_language, load_model

DOCUMENTS = 250  # a language
ROUNDS = 3  # processes of each side
TURNS = 3  # measured turns of a process, after one to warm up


def main() -> None:
    arguments = _arguments()
    if arguments.side:
        print(statistics.median(_seconds(_SIDES[arguments.side], _texts(arguments.data), arguments.model)))
        return
    seconds: dict[str, list[float]] = {side: [] for side in _SIDES}
    for _ in range(ROUNDS):
        for side, own in seconds.items():
            own.append(_in_process(side, arguments))
    ours, peer = (statistics.median(seconds[side]) for side in ("ours", "bare"))
    figure = {"name": "language stage, whole", "ours": round(ours, 3), "peer": round(peer, 3)}
    print(
        json.dumps(
            {**figure, "ratio": round(peer / ours, 3), "unit": "CPU s", "command": "make bench ONLY=language_speed"}
        )
    )


def stage(texts: list[str], model: Path) -> Callable[[], object]:
    column = pa.array(texts)
    return lambda: identify_language({"text": column}, LanguageParams(), model)


def bare(texts: list[str], model: Path) -> Callable[[], object]:
    predict = load_model(str(model)).f.predict
    return lambda: [predict(text[:1_000].replace("\n", " ") + "\n", 2, 0.0, "strict") for text in texts]


_SIDES = {"ours": stage, "bare": bare}


def _seconds(side: Callable[[list[str], Path], Callable[[], object]], texts: list[str], model: Path) -> list[float]:
    turn = side(texts, model)
    turn()
    seconds = []
    for _ in range(TURNS):
        started = time.process_time()
        turn()
        seconds.append(time.process_time() - started)
    return seconds


def _in_process(side: str, arguments: argparse.Namespace) -> float:
    options = ["--data", str(arguments.data), "--model", str(arguments.model), "--side", side]
    done = subprocess.run([sys.executable, "-P", __file__, *options], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _texts(data: Path) -> list[str]:
    texts = []
    for language in LANGUAGES:
        with gzip.open(data / "medium" / f"{language}.jsonl.gz", "rt") as lines:
            own = [json.loads(line)["text"] for line in lines]
        texts += own[:: max(1, len(own) // DOCUMENTS)][:DOCUMENTS]
    return texts


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    data = os.environ.get("DATA")  # from `make bench ... DATA=FOLDER`
    parser.add_argument(
        "--data", type=Path, default=data, required=data is None, help="The folder of medium/*.jsonl.gz."
    )
    parser.add_argument("--model", type=Path, default=cache_folder() / "lid.176.ftz")
    parser.add_argument("--side", choices=sorted(_SIDES), help="Measure this side alone, in this process.")
    arguments = parser.parse_args()
    arguments.data = Path(arguments.data)
    return arguments


if __name__ == "__main__":
    main()
