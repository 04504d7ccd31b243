"""Are false declarations of a language found? `make bench ONLY=language_declared DATA=FOLDER`

FOLDER holds `medium/LANG.jsonl.gz` and `eval/udhr.jsonl.gz`. 1,000 documents of the first, taken evenly, are declared to be
in another of the 18 languages, drawn by chance: `check_declared` should reject at least 98 %. Of the second, declared
truly, it should reject at most 1 % of the 18 languages' paragraphs. Prints a table over the gate's bound, two JSON lines for
its default, and what it says of the other languages and of the documents as they were declared (not all truly). Exits
with 1 where a target is missed.
"""

import argparse
import gzip
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from polylm.deployments.settings import cache_folder
from polylm.tasks.corpus.declared import CheckDeclaredParams, ReadDeclaredParams, check_declared, read_declared
from polylm.tasks.corpus.language import LANGUAGES, LanguageParams, identify_language

FOUND, FALSE = 0.98, 0.01  # at least, at most
DOCUMENTS = 1_000
BOUNDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
Declared = list[tuple[str, str]]  # a declaration and a text


def main() -> int:
    arguments = _arguments()
    documents = medium(arguments.data / "medium")
    swapped = Verdicts([(another(place, said), text) for place, (said, text) in enumerate(documents)], arguments.model)
    with gzip.open(arguments.data / "eval" / "udhr.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    own = Verdicts([(row["lang"], row["text"]) for row in rows if row["lang"]], arguments.model)
    print("| bound | swapped, found | UDHR, false alarms |\n|---:|---:|---:|")
    for bound in BOUNDS:
        print(f"| {bound} | {swapped.rejected(bound):.2%} | {own.rejected(bound):.2%} |")
    default = CheckDeclaredParams().doubt
    found, false = swapped.rejected(default), own.rejected(default)
    figure("false declarations found, of 1,000", found, FOUND)
    figure("false alarms on UDHR paragraphs of the 18 languages", false, FALSE)
    others = Verdicts([(row["iso639_3"], row["text"]) for row in rows if not row["lang"]], arguments.model)
    figure("false alarms on UDHR paragraphs of other languages that the model knows", others.rejected(default))
    figure("alarms on the 1,000 documents as declared", Verdicts(documents, arguments.model).rejected(default))
    return int(found < FOUND or false > FALSE)


class Verdicts:
    """What the gate says of texts under their declarations."""

    def __init__(self, declared: Declared, model: Path) -> None:
        extra = [json.dumps({"lang": said}) for said, _ in declared]
        columns = {
            **identify_language({"text": pa.array([text for _, text in declared])}, LanguageParams(), model),
            **read_declared({"extra": pa.array(extra)}, ReadDeclaredParams(), model),
        }
        self._rows = {
            name: values.to_numpy(zero_copy_only=False) if pa.types.is_floating(values.type) else values
            for name, values in columns.items()
        }

    def rejected(self, bound: float) -> float:
        """The share of what is judged."""
        rule = check_declared(self._rows, CheckDeclaredParams(doubt=bound))["declared_otherwise"]
        return float(np.count_nonzero(rule.broken) / np.count_nonzero(rule.judged))


def medium(folder: Path) -> Declared:
    documents = []
    for language in LANGUAGES:
        with gzip.open(folder / f"{language}.jsonl.gz", "rt") as lines:
            own: Sequence[str] = [json.loads(line)["text"] for line in lines]
        share = -(-DOCUMENTS // len(LANGUAGES))
        documents += [(language, text) for text in own[:: max(1, len(own) // share)][:share]]
    return documents[:DOCUMENTS]


def another(place: int, language: str) -> str:
    return random.Random(place).choice([name for name in LANGUAGES if name != language])


def figure(name: str, ours: float, target: float | None = None) -> None:
    values = {"name": name, "ours": round(ours, 4), "target": target}
    print(json.dumps({**values, "unit": "share", "command": "make bench ONLY=language_declared"}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    data = os.environ.get("DATA")  # from `make bench ... DATA=FOLDER`
    parser.add_argument("--data", type=Path, default=data, required=data is None, help="The folder of medium and eval.")
    parser.add_argument("--model", type=Path, default=cache_folder() / "lid.176.ftz")
    arguments = parser.parse_args()
    arguments.data = Path(arguments.data)
    return arguments


if __name__ == "__main__":
    raise SystemExit(main())
