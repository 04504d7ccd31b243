"""Our verdicts and reasons against those that datatrove 0.10.1 gave: `make agreement GOLDENS=FILE [DATA=FOLDER] [RAW=1]`.

FILE holds JSON lines, plain or gzipped: a document's text (inline, or by `file` and `id` in a JSONL file under DATA,
../shared/data if nothing is said), datatrove's words and sentences of it, and what each of its filters answered. Our
rules get those words and sentences, so that only the rules are compared. With RAW the words are cut from the text, by
datatrove's own segmenters (the extra `polylm[datatrove]`); sentences are the recorded ones.

Prints a table, every difference, and one line of sums. Exits with 1 if anything differs that is not deliberate, with 2
if FILE cannot be read as such. Deliberate:
- documents marked `unstable`, which datatrove itself segments in more ways than one, are left out;
- where datatrove raises ZeroDivisionError over a text without words, ours has nothing to object.
"""

import argparse
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from peers import CODES

from agreement.answers import Verdict, answers
from agreement.records import Document, GoldensError, Names, batches, read_documents

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
RAISED = "!ZeroDivisionError"
KEPT = "kept"
HEAD = "| profile | filter | compared | kept | dropped | deliberate | different |\n|---|---|---:|---:|---:|---:|---:|"


def main() -> int:
    arguments = _arguments()
    tally = Tally()
    try:
        documents = read_documents(arguments.goldens, arguments.data)
        for batch in batches(map(_cut, documents) if arguments.raw else documents):
            tally.add(batch, answers(batch))
    except GoldensError as error:
        print(f"agreement: {error}", file=sys.stderr)
        return 2
    tally.report()
    return 1 if tally.differences else 0


def _cut(document: Document) -> Document:
    """The document with the words that datatrove cuts it into now."""
    try:
        from datatrove.utils.text import split_into_words
    except ImportError as error:
        raise GoldensError(f"RAW cuts words as datatrove does: pip install 'polylm[datatrove]' ({error})") from error
    return replace(document, words=split_into_words(document.text, CODES[document.language]))


class Tally:
    """What was compared, and how it came out."""

    def __init__(self) -> None:
        self.differences: list[tuple[int, str]] = []  # by line of the file
        self._documents = 0
        self._unstable = 0
        self._rows: dict[Names, Counter[str]] = defaultdict(Counter)

    def add(self, batch: list[Document], found: dict[Names, list[Verdict]]) -> None:
        self._documents += len(batch)
        for place, document in enumerate(batch):
            self._unstable += document.unstable
            for names, recorded in document.verdicts.items():
                said = found[names][place]
                outcome = _compare(document, recorded, said)
                self._rows[names][outcome] += 1
                if outcome == "different":
                    where = f"line {document.line} ({document.name}, {document.language}), {'/'.join(names)}"
                    self.differences.append(
                        (document.line, f"{where}: datatrove {recorded or KEPT}, ours {said or KEPT}")
                    )

    @property
    def compared(self) -> int:
        return sum(map(_compared, self._rows.values()))

    def report(self) -> None:
        print(HEAD)
        for names, row in sorted(self._rows.items()):
            deliberate = row["deliberate"] + row["left out"]
            shown = [_compared(row), row["kept"], row["dropped"], deliberate, row["different"]]
            print(f"| {' | '.join([*names, *map(str, shown)])} |")
        print("", *(difference for _, difference in sorted(self.differences)), sep="\n")
        deliberate = sum(row["deliberate"] for row in self._rows.values())
        print(
            f"{self._documents} documents, {self._unstable} of them unstable and left out; {self.compared} verdicts compared; "
            f"{deliberate} deliberate differences; {len(self.differences)} differences"
        )


def _compare(document: Document, recorded: Verdict, said: Verdict) -> str:
    if document.unstable:
        return "left out"
    if recorded == said:
        return "kept" if said is None else "dropped"
    return "deliberate" if recorded == RAISED and said is None and not document.words else "different"


def _compared(row: Counter[str]) -> int:
    return sum(row.values()) - row["left out"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("goldens", type=Path, help="A file of the form of ../shared/goldens/filters.jsonl.gz.")
    parser.add_argument("--data", type=Path, default=DATA, help="Where the files lie that its records name.")
    parser.add_argument("--raw", action="store_true", help="Cut the words from the text, as datatrove does.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
