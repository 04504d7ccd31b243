"""How right the language labels are, on text that nothing was fitted on: `make bench ONLY=language DATA=FOLDER`

FOLDER holds `eval/udhr.jsonl.gz` (the Universal Declaration of Human Rights, by paragraph: lang, code, text) and, if it is
there, `benchmarks/flores200_devtest_first400.jsonl.gz` (sentences: one field a language). Prints a table and one JSON line
a figure: the share of paragraphs of the 18 languages that `identify_language` labels right among all labels of lid.176,
and the share of all other paragraphs that it labels as one of the 18 with a confidence of 0.5 or more; the bare model's
answer to the first 1,000 characters stands beside as the peer. Exits with 1 where a target is missed.
"""

import argparse
import gzip
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from polylm.deployments.settings import cache_folder
from polylm.tasks.corpus.language import LANGUAGES, LanguageParams, fasttext_line, identify_language, load_model

RIGHT, FALSE = 0.995, 0.11  # at least, at most
SURE = 0.5
Labelled = list[tuple[str, float]]


def main() -> int:
    arguments = _arguments()
    rows = _lines(arguments.data / "eval" / "udhr.jsonl.gz")
    truth = [None if row["lang"] is None else row["lang"].partition("_")[0] for row in rows]
    texts = [row["text"] for row in rows]
    ours, bare = stage(texts, arguments.model), model_alone(texts, arguments.model)
    print("| UDHR | paragraphs | right | bare model | taken for |\n|---|---:|---:|---:|---|")
    for language in LANGUAGES:
        print(_row(language, truth, ours, bare))
    print(f"\nOther languages most often taken for one of the 18: {_strangers(rows, truth, ours)}\n")
    missed = figures(truth, ours, bare)
    flores = arguments.data / "benchmarks" / "flores200_devtest_first400.jsonl.gz"
    if flores.exists():
        pairs = [(name, row[name]) for row in _lines(flores) for name in LANGUAGES]
        sentences = [text for _, text in pairs]
        ours, bare = stage(sentences, arguments.model), model_alone(sentences, arguments.model)
        names = [name for name, _ in pairs]
        figure("FLORES sentences right", right(names, ours), right(names, bare), "share")
    return int(missed)


def stage(texts: list[str], model: Path) -> Labelled:
    found = identify_language({"text": pa.array(texts)}, LanguageParams(), model)
    return list(zip(found["language"].to_pylist(), found["confidence"].to_pylist(), strict=True))


def model_alone(texts: list[str], model: Path) -> Labelled:
    predict = load_model(str(model)).f.predict
    found = [predict(fasttext_line(text[:1_000]), 1, 0.0, "strict") for text in texts]
    return [(one[0][1].removeprefix("__label__"), one[0][0]) if one else ("und", 0.0) for one in found]


def figures(truth: list[str | None], ours: Labelled, bare: Labelled) -> bool:
    """Print both shares; whether a target is missed."""
    own = [place for place, language in enumerate(truth) if language]
    of_18 = [str(truth[place]) for place in own]
    mine, theirs = (right(of_18, [found[place] for place in own]) for found in (ours, bare))
    figure("UDHR paragraphs of the 18 languages right", mine, theirs, "share")
    taken, taken_bare = false_share(truth, ours), false_share(truth, bare)
    figure("UDHR paragraphs of other languages taken for one of the 18", taken, taken_bare, "share")
    print(f"{len(own)} and {len(truth) - len(own)} paragraphs; targets {RIGHT:.1%} and {FALSE:.0%}", file=sys.stderr)
    return mine < RIGHT or taken > FALSE


def right(truth: Iterable[str], found: Labelled) -> float:
    return sum(language == label for language, (label, _) in zip(truth, found, strict=True)) / len(found)


def false_share(truth: list[str | None], found: Labelled) -> float:
    others = [pair for language, pair in zip(truth, found, strict=True) if language is None]
    return sum(label in LANGUAGES and score >= SURE for label, score in others) / len(others)


def figure(name: str, ours: float, peer: float, unit: str) -> None:
    command = "make bench ONLY=language"
    values = {"ours": round(ours, 5), "peer": round(peer, 5), "ratio": round(ours / peer, 4) if peer else None}
    print(json.dumps({"name": name, **values, "unit": unit, "command": command}), flush=True)


def _row(language: str, truth: list[str | None], ours: Labelled, bare: Labelled) -> str:
    own = [place for place, name in enumerate(truth) if name == language]
    wrong = Counter(ours[place][0] for place in own if ours[place][0] != language)
    alone = sum(bare[place][0] == language for place in own)
    taken = ", ".join(f"{label} {count}" for label, count in wrong.most_common())
    return f"| {language} | {len(own)} | {len(own) - wrong.total()} | {alone} | {taken} |"


def _strangers(rows: list[dict[str, str]], truth: list[str | None], found: Labelled) -> str:
    taken: dict[str, Counter[str]] = defaultdict(Counter)
    for row, language, (label, score) in zip(rows, truth, found, strict=True):
        if language is None and label in LANGUAGES and score >= SURE:
            taken[row["code"]][label] += 1
    most = sorted(taken.items(), key=lambda item: (-item[1].total(), item[0]))[:40]
    return ", ".join(f"{code} ({count.total()}: {count.most_common(1)[0][0]})" for code, count in most)


def _lines(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    data = os.environ.get("DATA")  # from `make bench ... DATA=FOLDER`
    parser.add_argument(
        "--data", type=Path, default=data, required=data is None, help="The folder of eval/udhr.jsonl.gz."
    )
    parser.add_argument("--model", type=Path, default=cache_folder() / "lid.176.ftz")
    arguments = parser.parse_args()
    arguments.data = Path(arguments.data)
    return arguments


if __name__ == "__main__":
    raise SystemExit(main())
