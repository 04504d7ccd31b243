"""How many documents each language has: as labelled, and after every gate. What alarms, plans and `status` look at."""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from polylm.tasks.stage import Corpus, NoParams, files

COUNTS = {"language": pa.string(), "documents": pa.int64()}


@files(reads=["language"], writes=COUNTS, cheap=True)
def count_labels(corpus: Corpus, params: NoParams) -> pa.Table:
    """Count the documents of every language as identified, before any gate. Memory: one part's labels."""
    documents: Counter[str] = Counter()
    for rows in corpus:
        for entry in pc.value_counts(rows["language"].drop_null()).to_pylist():
            documents[entry["values"]] += entry["counts"]
    return _table(documents=documents)


@files(reads=["language", "bytes"], writes={**COUNTS, "bytes": pa.int64()}, cheap=True, version=2)
def count_survivors(corpus: Corpus, params: NoParams) -> pa.Table:
    """Count the documents of every language that no gate rejected, and their cleaned texts' bytes. Memory: one part's labels."""
    documents: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for rows in corpus:
        kept = pa.table({"language": rows["language"].cast(pa.string()), "bytes": rows["bytes"]})
        counted = kept.group_by("language").aggregate([([], "count_all"), ("bytes", "sum")])
        for entry in counted.to_pylist():
            if entry["language"] is not None:
                documents[entry["language"]] += entry["count_all"]
                sizes[entry["language"]] += entry["bytes_sum"] or 0  # none where nothing was measured
    return _table(documents=documents, bytes=sizes)


def _table(**counts: Counter[str]) -> pa.Table:
    """One row a language, by name."""
    names = sorted(counts["documents"])
    columns = {name: pa.array([own[of] for of in names], pa.int64()) for name, own in counts.items()}
    return pa.table({"language": pa.array(names, pa.string()), **columns})
