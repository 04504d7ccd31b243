"""All integer counts of all rules for texts, in one pass over bytes and word spans.

Every ratio, verdict and reason of the rule sets in `tasks/corpus/rule_sets.py` follows from these counts by division and
comparison; those of datatrove 0.10.1's GopherRepetitionFilter, FineWebQualityFilter and GopherQualityFilter exactly.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polylm.kernels import c4_documents, character_statistics, line_statistics, word_statistics
from polylm.kernels.character_statistics import CHAR_GRAM, CHAR_GRAMS
from polylm.kernels.word_statistics import WORD_GRAM, WORD_GRAMS
from polylm.kernels.words import Spans, segment, text_buffers

COLUMNS: dict[str, tuple[pa.DataType, str]] = {
    **line_statistics.COLUMNS,
    **word_statistics.COLUMNS,
    **character_statistics.COLUMNS,
    **c4_documents.COUNTS,
}


def measure(texts: pa.Array, spans: Spans, stop_words: list[str], language: str = "") -> dict[str, NDArray[np.uint32]]:
    """One array for each of COLUMNS, from texts (no nulls; sliced or not) and their words.

    `spans` may point into other bytes than those of the texts (recorded or normalised words): lines and characters are
    counted in the texts, words in the spans' own data. `language` only chooses the lengths of ROOTS' n-grams.
    """
    assert len(spans.firsts) == len(texts) + 1, f"words of {len(spans.firsts) - 1} documents for {len(texts)} texts"
    data, offsets = text_buffers(texts)
    rows = np.hstack(
        [
            line_statistics.count_lines(data, offsets),
            word_statistics.count_words(spans, stop_words, WORD_GRAMS.get(language, WORD_GRAM)),
            character_statistics.count_characters(data, offsets, CHAR_GRAMS.get(language, CHAR_GRAM)),
            c4_documents.count_lines(data, offsets),
        ]
    )
    return {name: rows[:, place].astype(np.uint32) for place, name in enumerate(COLUMNS)}


def measure_language(
    texts: pa.Array, language: str, stop_words: list[str], *, batch_bytes: int = 8_000_000
) -> dict[str, NDArray[np.uint32]]:
    """`segment`, then `measure`, in slices of about `batch_bytes`, so that memory does not grow with the array."""
    if not len(texts):
        return {name: np.empty(0, np.uint32) for name in COLUMNS}
    _, offsets = text_buffers(texts)
    bounds, at = [], 0
    while at < len(texts):
        bounds.append(at)
        at = max(at + 1, int(np.searchsorted(offsets, offsets[at] + batch_bytes, side="right")) - 1)
    slices = [texts.slice(a, b - a) for a, b in zip(bounds, [*bounds[1:], len(texts)], strict=True)]
    parts = [measure(part, segment(part, language), stop_words, language) for part in slices]
    return {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}
