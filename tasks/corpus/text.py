"""The counts that all text rules share, and the gate that judges them by each language's thresholds."""

from typing import Any

import numpy as np
import pyarrow as pa

from polylm.kernels import text_statistics
from polylm.tasks.corpus.language import batches_by_language
from polylm.tasks.corpus.rule_sets import SIDES, languages, rule_set, rules
from polylm.tasks.rules import Rules, at_least, at_most, lookup
from polylm.tasks.stage import Columns, Field, Params, Rows, gate, measure

COUNTS = {name: kind for name, (kind, _) in text_statistics.COLUMNS.items() if name != "chars"}  # `clean` counts those
OTHERS = "*"  # stands for every language without thresholds of its own
KNOWN = (*languages(), OTHERS)


class StatisticsParams(Params):
    stop_words: dict[str, tuple[str, ...]] = Field(
        {language: tuple(rule_set(language).stop_words) for language in languages()},
        description="Words of which a text holds some, by language.",
        source="FineWeb2's configs; datatrove for English",
    )


class TextParams(Params):
    thresholds: dict[str, dict[str, float | None]] = Field(
        {language: rule_set(language).thresholds for language in KNOWN},
        description="Threshold of every rule by language (`*`: all others); null is off.",
        source="FineWeb for en and *, FineWeb2 elsewhere: one source a number in tasks/corpus/data/rule_sets.json",
    )


@measure(
    reads=["text", "language"],
    writes=COUNTS,
    version=1,
    libraries=["rjieba", "nlpo3", "mecab-python3", "ipadic", "unicodedata"],
)
def measure_text(rows: Rows, params: StatisticsParams) -> Columns:
    """Count what the rules of Gopher, FineWeb and FineWeb2 compare, in one pass over words of each language.

    Memory: one part, its texts by language, and 40 times `BATCH_BYTES` for the words of a batch.
    """
    counts = {name: np.zeros(len(rows["text"]), np.uint32) for name in COUNTS}
    for language, places, texts in batches_by_language(rows["text"], rows["language"]):
        found = text_statistics.measure_language(texts, language, list(params.stop_words.get(language, ())))
        for name, values in counts.items():
            values[places] = found[name]
    return counts


@gate(reads=["language", "chars", *COUNTS])
def filter_text(rows: Rows, params: TextParams) -> Rules:
    """Reject repetitive, short, symbol-laden or unfinished text by Gopher's and FineWeb2's rules."""
    thresholds = {rule: _of_language(rows["language"], params, rule) for rule in SIDES}
    judged = rules(rows, thresholds)
    sides = {"min": at_least, "max": at_most}
    return {rule: sides[side](value, bound) for rule, (value, side, bound) in judged.items()}


def _of_language(labels: pa.DictionaryArray, params: TextParams, rule: str) -> Any:
    table = {language: _number(own.get(rule)) for language, own in params.thresholds.items()}
    return lookup(labels, table, table.get(OTHERS, np.nan))


def _number(threshold: float | None) -> float:
    return np.nan if threshold is None else threshold
