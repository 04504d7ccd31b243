"""datatrove's rule filters over one file, in its own environment: prints the CPU seconds that its pipeline took.

    python datatrove_rules.py MODE FILE CODE LIMIT

FILE is JSON lines (.gz), CODE datatrove's language code, LIMIT its first documents (0: all). The pipeline is that of
FineWeb, a dropped document goes no further: GopherRepetition, GopherQuality, C4Quality, FineWebQuality. MODE:

own    as it is
cached spaCy's cache kept: datatrove opens a `memory_zone` for each document, which throws it away
ready  words and sentences are looked up, not cut: two passes, the second is measured
"""

import contextlib
import gzip
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator

warnings.filterwarnings("ignore")

import datatrove.pipeline.filters as filters  # noqa: E402
from datatrove.data import Document  # noqa: E402
from datatrove.utils.logging import logger  # noqa: E402

logger.remove()
WARM = 50  # documents that load models and dictionaries


def main() -> None:
    mode, path, code, limit = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    texts = _texts(path, limit)
    if mode == "cached":
        import spacy

        spacy.language.Language.memory_zone = lambda self, mem=None: contextlib.nullcontext()
    elif mode == "ready":
        _remember("split_into_words")
        _remember("split_into_sentences")
    _judge(texts if mode == "ready" else texts[:WARM], code)
    begun = time.process_time()
    kept = _judge(texts, code)
    print(json.dumps({"seconds": time.process_time() - begun, "kept": kept, "documents": len(texts)}))


def _judge(texts: list[str], code: str) -> int:
    """How many documents the pipeline keeps."""
    documents: Iterator[Document] = (Document(text=text, id=str(number)) for number, text in enumerate(texts))
    for each in (
        filters.GopherRepetitionFilter(language=code),
        filters.GopherQualityFilter(language=code),
        filters.C4QualityFilter(language=code, filter_no_terminal_punct=False),
        filters.FineWebQualityFilter(language=code),
    ):
        documents = each.run(documents)
    return sum(1 for _ in documents)


def _remember(name: str) -> None:
    """Have every filter look up what a splitter answered before."""
    answers: dict[tuple[str, str], list[str]] = {}

    def looked_up(split: Callable[[str, str], list[str]]) -> Callable[[str, str], list[str]]:
        def lookup(text: str, language: str = "eng_Latn") -> list[str]:
            if (text, language) not in answers:
                answers[text, language] = split(text, language)
            return answers[text, language]

        return lookup

    for module in [module for key, module in sys.modules.items() if key.startswith("datatrove.pipeline.filters.")]:
        if hasattr(module, name):
            setattr(module, name, looked_up(getattr(module, name)))


def _texts(path: str, limit: int) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for number, line in enumerate(lines) if not limit or number < limit]


if __name__ == "__main__":
    main()
