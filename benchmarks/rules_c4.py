"""C4's verdicts from raw text, sentences counted by marks, against datatrove's with its own splitters of sentences.

`PYTHONPATH=benchmarks python -P -m rules_c4 GOLDENS [DATA]`: GOLDENS as for `make agreement`, which compares the rules on
recorded sentences; here only the text is taken from the records. One JSON line a filter and language.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
from agreement.records import Document, read_documents

from polylm.kernels.c4_documents import COUNTS, count_lines
from polylm.kernels.words import text_buffers

PREFIXES = {"c4_quality": "c4_", "c4_quality_fineweb": "c4_any_"}
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SENTENCES = 5
COMMAND = "PYTHONPATH=benchmarks python -P -m rules_c4 GOLDENS"


def main() -> None:
    goldens, data = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else DATA
    compared: Counter[tuple[str, str]] = Counter()
    same: Counter[tuple[str, str]] = Counter()
    for document in read_documents(goldens, data):
        if document.unstable or any(0xD800 <= ord(character) < 0xE000 for character in document.text):
            continue
        for name, said in _verdicts(document).items():
            for key in ((name, document.language), (name, "all")):
                compared[key] += 1
                same[key] += said == document.verdicts["default", name]
    for (name, language), number in sorted(compared.items()):
        line = {"name": f"{name} {language}", "ours": same[name, language], "unit": f"of {number}", "command": COMMAND}
        print(json.dumps(line))


def _verdicts(document: Document) -> dict[str, str | None]:
    counts = dict(zip(COUNTS, count_lines(*text_buffers(pa.array([document.text])))[0].tolist(), strict=True))
    return {name: _verdict(counts, prefix) for name, prefix in PREFIXES.items()}


def _verdict(counts: dict[str, int], prefix: str) -> str | None:
    if counts[f"{prefix}lorem_lines"]:
        return "lorem_ipsum"
    if counts[f"{prefix}bracket_lines"]:
        return "curly_bracket"
    return "too_few_sentences" if counts[f"{prefix}sentences"] < SENTENCES else None


if __name__ == "__main__":
    main()
