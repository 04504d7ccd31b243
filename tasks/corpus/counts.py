"""How many documents each language has: as labelled, and after every gate. What alarms and `status` look at."""

import pyarrow as pa
import pyarrow.compute as pc

from polylm.tasks.stage import Corpus, NoParams, files

COUNTS = {"language": pa.string(), "documents": pa.int64()}


@files(reads=["language"], writes=COUNTS, cheap=True)
def count_labels(corpus: Corpus, params: NoParams) -> pa.Table:
    """Count the documents of every language as identified, before any gate. Memory: one part's labels."""
    return _counted(corpus)


@files(reads=["language"], writes=COUNTS, cheap=True)
def count_survivors(corpus: Corpus, params: NoParams) -> pa.Table:
    """Count the documents of every language that no gate rejected. Memory: one part's labels."""
    return _counted(corpus)


def _counted(corpus: Corpus) -> pa.Table:
    counts: dict[str, int] = {}
    for rows in corpus:
        for entry in pc.value_counts(rows["language"].drop_null()).to_pylist():
            counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
    names = sorted(counts)
    return pa.table(
        {"language": pa.array(names, pa.string()), "documents": pa.array([counts[n] for n in names], pa.int64())}
    )
