"""Which lines of broken text come back: the embedded sample garbled on purpose, and what happens to it as it is.

    python benchmarks/mojibake.py [FILE.jsonl.gz ...]

A line of JSON for each language and each way of breaking it: lines that it changes, per cent of them that are repaired to the
letter, lines that become something else. For text as it is, in capitals, and in capitals with quotes or signs after every word:
lines that change, none of which should.
"""

import argparse
import gzip
import json
import re
import time
from collections import defaultdict
from pathlib import Path

import ftfy.bad_codecs  # noqa: F401  # registers the encodings that browsers read undefined bytes with
import pyarrow as pa

from polylm.tasks.documents.mojibake import repair

SAMPLE = Path(__file__).resolve().parents[1] / "flows" / "sample" / "documents.jsonl.gz"
WESTERN = "sloppy-windows-1252"
BROKEN = [("utf-8", WESTERN), ("utf-8", "latin-1"), ("utf-8", "sloppy-windows-1250")]
RUSSIAN = [("cp1251", WESTERN), ("cp1251", "latin-1"), ("koi8-r", WESTERN)]
FORMS = {
    "as it is": str,
    "capitals": str.upper,
    "“CAPITALS”": lambda text: re.sub(r"[^\W\d_]+", lambda word: f"“{word[0]}”", text.upper()),
    "CAPITALS®": lambda text: re.sub(r"[^\W\d_]+", lambda word: f"{word[0]}®", text.upper()),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, default=[SAMPLE])
    texts = _texts(parser.parse_args().files)
    for language, own in texts.items():
        for encoding, read_as in BROKEN + (RUSSIAN if language == "ru" else []):
            print(
                json.dumps(
                    {"language": language, "was": encoding, "read as": read_as, **broken(own, encoding, read_as)}
                )
            )
    right(["ÃÃÃ schÃ¶n"])  # compiles its patterns
    for form, make in FORMS.items():
        print(json.dumps({"right text": form, **right([make(text) for own in texts.values() for text in own])}))


def broken(texts: list[str], encoding: str, read_as: str) -> dict[str, float]:
    """What becomes of the lines that breaking changes."""
    good = [text.encode(encoding, "ignore").decode(encoding) for text in texts]
    bad = [text.encode(encoding).decode(read_as) for text in good]
    found = repair(pa.array(bad, pa.string()))[0].to_pylist()
    lines = [
        line
        for three in zip(good, bad, found, strict=True)
        for line in zip(*(text.split("\n") for text in three), strict=True)
        if line[0] != line[1]
    ]
    back = sum(after == before for before, _, after in lines)
    others = sum(after not in (before, between) for before, between, after in lines)
    return {"lines": len(lines), "repaired": round(100 * back / max(1, len(lines)), 1), "something else": others}


def right(texts: list[str]) -> dict[str, float]:
    """How many lines of right text change, and how fast that is found out."""
    start = time.process_time()
    _, changed = repair(pa.array(texts, pa.string()))
    seconds = time.process_time() - start
    size = sum(len(text.encode()) for text in texts) / 1e6
    return {
        "lines": sum(map(len, changed.values())),
        "megabytes": round(size, 1),
        "MB a CPU second": round(size / seconds),
    }


def _texts(files: list[Path]) -> dict[str, list[str]]:
    """The texts of the files by their declared language."""
    found = defaultdict(list)
    for path in files:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for record in map(json.loads, file):
                found[record["lang_declared"]].append(record["text"])
    return dict(sorted(found.items()))


if __name__ == "__main__":
    main()
