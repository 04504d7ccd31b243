"""datatrove from a folder of JSONL to what its filters keep, in its own environment: prints wall and CPU seconds.

    python datatrove_pipeline.py FOLDER LID OUT TASKS CODE...

FOLDER has a file a language, NAME.jsonl.gz for each CODE=NAME; LID is the path of a fastText model. A file is a task, TASKS
of them run at once, the largest first. The steps of each: JsonlReader, LanguageFilter (lid.176), GopherRepetition,
GopherQuality, C4Quality and FineWebQuality of the language, JsonlWriter of what is left. A dropped document goes no further
and its reason is not kept. Nothing is scored: there is no perplexity and no classifier on this side.
"""

import json
import multiprocessing
import resource
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

warnings.filterwarnings("ignore")

import datatrove.pipeline.filters as filters  # noqa: E402
from datatrove.data import Document  # noqa: E402
from datatrove.pipeline.readers import JsonlReader  # noqa: E402
from datatrove.pipeline.writers import JsonlWriter  # noqa: E402
from datatrove.utils import lid  # noqa: E402
from datatrove.utils.logging import logger  # noqa: E402

logger.remove()


def main() -> None:
    folder, model, out, tasks = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    pairs = [pair.split("=") for pair in sys.argv[5:]]
    pairs.sort(key=lambda pair: -(folder / f"{pair[1]}.jsonl.gz").stat().st_size)
    begun = time.perf_counter()
    with multiprocessing.Pool(tasks) as pool:
        counts = pool.starmap(_judge, [(str(folder), name, code, model, out) for code, name in pairs], chunksize=1)
        pool.close()
        pool.join()
    wall = time.perf_counter() - begun
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    read, kept = (sum(column) for column in zip(*counts, strict=True))
    print(json.dumps({"wall": wall, "cpu": used.ru_utime + used.ru_stime, "documents": read, "kept": kept}))


def _judge(folder: str, name: str, code: str, model: str, out: str) -> tuple[int, int]:
    """Documents read and kept of one file."""
    lid.FT176LID.MODEL_URL = model
    read = 0

    def counted(documents: Iterable[Document]) -> Iterator[Document]:
        nonlocal read
        for document in documents:
            read += 1
            yield document

    documents = counted(JsonlReader(folder, glob_pattern=f"{name}.jsonl.gz").run(None, 0, 1))
    for step in (
        filters.LanguageFilter(languages=[name]),
        filters.GopherRepetitionFilter(language=code),
        filters.GopherQualityFilter(language=code),
        filters.C4QualityFilter(language=code, filter_no_terminal_punct=False),
        filters.FineWebQualityFilter(language=code),
        JsonlWriter(f"{out}/{name}"),
    ):
        documents = step.run(documents, 0, 1)
    kept = sum(1 for _ in documents)
    return read, kept


if __name__ == "__main__":
    main()
