"""How many documents each language has: as labelled, and after every gate. What alarms, plans and `status` look at."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polylm.tasks.corpus.language import encode_labels
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
        labels = encode_labels(rows["language"])
        names = labels.dictionary.to_pylist()
        codes = labels.indices.fill_null(len(names)).to_numpy()  # the last one: without a language
        measured = rows["bytes"].fill_null(0).to_numpy()
        counts = np.bincount(codes, minlength=len(names) + 1).tolist()
        sums = np.bincount(codes, measured, len(names) + 1).tolist()  # exact: a part has far less than 2^53 bytes
        for name, count, size in zip(names, counts[:-1], sums[:-1], strict=True):
            if count:
                documents[name] += count
                sizes[name] += int(size)
    return _table(documents=documents, bytes=sizes)


def _table(**counts: Counter[str]) -> pa.Table:
    """One row a language, by name."""
    names = sorted(counts["documents"])
    columns = {name: pa.array([own[of] for of in names], pa.int64()) for name, own in counts.items()}
    return pa.table({"language": pa.array(names, pa.string()), **columns})
