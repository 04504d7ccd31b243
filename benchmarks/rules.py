"""The text rules: what each kind of count costs, and how near derived thresholds come to FineWeb2's published ones.

`python -P benchmarks/rules.py [FOLDER] [--megabytes 3]`: FOLDER holds a JSONL file a language (de.jsonl.gz, ...), with
`text` and `kind`; ../shared/data/medium if nothing is said. CPU seconds of one thread, the least of three, after warming;
one JSON line a figure. Derived thresholds come from documents of the kinds `doc` and `book`, and are compared by their
distance from FineWeb2's in doublings.
"""

import argparse
import gzip
import json
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from polylm.kernels import c4_documents, character_statistics, line_statistics, word_statistics
from polylm.kernels.words import segment, text_buffers
from polylm.tasks.corpus.rule_sets import languages, rule_set, stop_words
from polylm.tasks.corpus.text import StatisticsParams, measure_text
from polylm.tasks.corpus.thresholds import DERIVED, METHODS, ThresholdParams, fit_thresholds

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "medium"
COMMAND = "python -P benchmarks/rules.py"


def main() -> None:
    arguments = _arguments()
    paths = sorted(arguments.folder.glob("*.jsonl.gz"))
    parts = {path.name.partition(".")[0]: _rows(path, arguments.megabytes * 1_000_000) for path in paths}
    for language in ("en", "de", "ru", "ar"):
        if language in parts:
            _print_costs(language, parts[language]["text"])
    _print_distances(parts)


def _print_costs(language: str, texts: pa.Array) -> None:
    """Nanoseconds a byte of each kernel, and what the counts of ROOTS, C4 and the paper add to the others'."""
    spans, (data, offsets), stops = segment(texts, language), text_buffers(texts), stop_words(language)
    cost = {
        "segment": _cpu(lambda: segment(texts, language)),
        "lines": _cpu(lambda: line_statistics.count_lines(data, offsets)),
        "words": _cpu(lambda: word_statistics.count_words(spans, stops, 5)),
        "characters": _cpu(lambda: character_statistics.count_characters(data, offsets, 10)),
        "c4": _cpu(lambda: c4_documents.count_lines(data, offsets)),
    }
    for name, seconds in cost.items():
        _print(f"{language} {name}", 1e9 * seconds / len(data), "ns/byte")
    _print(f"{language} all", len(data) / sum(cost.values()) / 1e6, "MB/s")


def _print_distances(parts: dict[str, dict[str, Any]]) -> None:
    """How far each method's thresholds are from FineWeb2's over all rules and languages, and what it leaves without one."""
    for quantile in (0.02, 0.03, 0.05, 0.07):
        found, missing = _distances(parts, ThresholdParams(quantile=quantile))
        for method in METHODS if quantile == ThresholdParams().quantile else ("quantile",):
            name = f"{method} {quantile}" if method == "quantile" else method
            _print(f"thresholds by {name}", statistics.median(found[method]), "doublings from FineWeb2's, median")
            _print(f"thresholds by {name}, none", missing[method], f"of {len(found[method]) + missing[method]}")


def _distances(
    parts: dict[str, dict[str, Any]], params: ThresholdParams
) -> tuple[dict[str, list[float]], dict[str, int]]:
    found: dict[str, list[float]] = defaultdict(list)
    missing: dict[str, int] = defaultdict(int)
    for language in languages("fineweb2")[1:]:
        published = rule_set("fineweb2", language).thresholds
        for row in fit_thresholds([parts[language], parts["en"]], params).to_pylist() if language in parts else ():
            told = published.get(row["rule"])
            if row["language"] != language or row["rule"] not in DERIVED or not told:
                continue
            if row["threshold"]:
                found[row["method"]].append(abs(math.log2(row["threshold"] / told)))
            missing[row["method"]] += not row["threshold"]
    return found, missing


def _rows(path: Path, most_bytes: int) -> dict[str, Any]:
    """The beginning of a file, measured as the flow would."""
    language, records = path.name.partition(".")[0], list(_records(path, most_bytes))
    texts = pa.array([record["text"] for record in records], pa.string())
    labels = pa.array([language] * len(texts)).dictionary_encode()
    kinds = pa.array([record.get("kind") for record in records], pa.string())
    counts = measure_text({"text": texts, "language": labels}, StatisticsParams())
    none = pa.array([0] * len(texts), pa.uint32())
    measured = {name: pa.array(values) for name, values in counts.items()}
    known = {"chars": pc.utf8_length(texts).cast(pa.uint32()), "invisible_chars": none}
    return {"text": texts, "language": labels, "kind": kinds, **known, **measured}


def _records(path: Path, most_bytes: int) -> Iterator[dict[str, Any]]:
    size = 0
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            yield record
            size += len(record["text"].encode())
            if size > most_bytes:
                return


def _cpu(work: Callable[[], Any]) -> float:
    taken = []
    for _ in range(4):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken[1:])


def _print(name: str, ours: float, unit: str) -> None:
    print(json.dumps({"name": name, "ours": round(ours, 3), "unit": unit, "command": COMMAND}), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER, help="One JSONL file a language.")
    parser.add_argument("--megabytes", type=float, default=3, help="Of each file, from its beginning.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
