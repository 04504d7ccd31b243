"""The counts that all text rules share, and the gate that judges them by each language's thresholds."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import field_validator, model_validator

from polylm.kernels import text_statistics
from polylm.tasks.corpus.labels import checked_codes
from polylm.tasks.corpus.language import batches_by_language
from polylm.tasks.corpus.rule_sets import DEFAULT, DERIVING, OTHERS, SETS, languages, rules_of, stop_words, table
from polylm.tasks.corpus.text_rules import RULES, bound, value_of
from polylm.tasks.rules import Rules, at_least, at_most, lookup
from polylm.tasks.stage import Columns, Field, Params, Rows, gate, measure

COUNTS = {name: kind for name, (kind, _) in text_statistics.COLUMNS.items() if name != "chars"}  # `clean` counts those
JUDGED = ("chars", "invisible_chars", *COUNTS)  # what the values of rules are made of

Thresholds = dict[str, dict[str, float | None]]


class StatisticsParams(Params):
    stop_words: dict[str, tuple[str, ...]] = Field(
        {language: tuple(stop_words(language)) for language in languages()},
        description="Words of which a text holds some, by language; other languages' are fitted (fit_stop_words).",
        source="FineWeb2's configs; datatrove for English",
    )


class TextParams(Params):
    rules: tuple[str, ...] = Field(
        (DEFAULT,),
        min_length=1,
        description=f"Rule sets, all of which a text must pass: {', '.join(SETS)}.",
        source="ours",
    )
    thresholds: Thresholds = Field(
        table([DEFAULT]),
        description="Threshold of every rule by language (`*`: all others), of several sets' the strictest; null is off.",
        source="those of the rule sets; docs/rules.md has one source a number",
    )
    derive: bool = Field(
        True,
        description=f"Languages without own thresholds have those derived from clean text ({', '.join(DERIVING)}).",
        source="FineWeb2 (arXiv 2506.20920)",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_thresholds(cls, values: Any) -> Any:
        """Sets that are named without thresholds bring their own."""
        if isinstance(values, Mapping) and "rules" in values and "thresholds" not in values:
            return {**values, "thresholds": thresholds_of(values["rules"])}
        return values

    @field_validator("rules", mode="before")
    @classmethod
    def _name_sets(cls, values: Any) -> Any:
        return _names(values)

    @field_validator("thresholds")
    @classmethod
    def _know_rules(cls, values: Thresholds) -> Thresholds:
        if unknown := sorted({rule for own in values.values() for rule in own} - set(RULES)):
            raise ValueError(f"no rule {unknown[0]!r}: there are {', '.join(RULES)}")
        checked_codes(values)
        for language, own in values.items():
            for rule, threshold in own.items():
                if threshold is not None and not (math.isfinite(threshold) and 0 <= threshold <= RULES[rule].most):
                    wanted = "a number from 0 to 1" if RULES[rule].most == 1 else "a number from 0 on"
                    raise ValueError(
                        f"{language}.{rule} is {threshold:g}: {wanted} was expected, or null for no threshold"
                    )
        return values


def thresholds_of(rules: Any) -> Thresholds:
    """The thresholds of rule sets by name, as a tuple of names or as `gopher,c4`; ValueError names one that is none."""
    return table(_names(rules))


@measure(
    reads=["text", "language"],
    writes=COUNTS,
    version=3,
    libraries=["rjieba", "nlpo3", "mecab-python3", "ipadic", "unicodedata"],
)
def measure_text(rows: Rows, params: StatisticsParams, fitted: pa.Table | None = None) -> Columns:
    """Count what the rules of all rule sets compare, in one pass over words of each language.

    Memory: one part, its texts by language, and 40 times `BATCH_BYTES` for the words of a batch.
    """
    stops = _stop_words(params, fitted)
    counts = {name: np.zeros(len(rows["text"]), np.uint32) for name in COUNTS}
    for language, places, texts in batches_by_language(rows["text"], rows["language"]):
        found = text_statistics.measure_language(texts, language, stops.get(language, []))
        for name, values in counts.items():
            values[places] = found[name]
    return counts


@gate(reads=["language", *JUDGED])
def filter_text(rows: Rows, params: TextParams, derived: pa.Table | None = None) -> Rules:
    """Reject repetitive, short, symbol-laden or unfinished text by the rule sets that the recipe names."""
    fitted = _derived(derived, params)
    sides = {"min": at_least, "max": at_most}
    return {
        rule: sides[RULES[rule].side](
            value_of(rule, rows), _bounds(rows["language"], params, rule, fitted.get(rule, {}))
        )
        for rule in rules_of(params.rules)
    }


def _stop_words(params: StatisticsParams, fitted: pa.Table | None) -> dict[str, list[str]]:
    """The stop words of every language: stated ones, else fitted ones."""
    found: dict[str, list[str]] = {}
    for row in fitted.to_pylist() if fitted is not None else ():
        found.setdefault(row["language"], []).append(row["word"])
    return found | {language: list(words) for language, words in params.stop_words.items()}


def _names(rules: Any) -> tuple[str, ...]:
    names = rules.split(",") if isinstance(rules, str) else rules
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"rules are {names!r}, expected names of rule sets such as gopher,c4")
    if unknown := [name for name in names if name not in SETS]:
        raise ValueError(f"no rule set {unknown[0]!r}: there are {', '.join(SETS)}")
    return tuple(names)


def _derived(fitted: pa.Table | None, params: TextParams) -> dict[str, dict[str, float]]:
    """Derived thresholds by rule and language, of the rules of sets that derive."""
    if fitted is None or not params.derive:
        return {}
    deriving = [name for name in params.rules if name in DERIVING]
    wanted = set(rules_of(deriving)) if deriving else set()
    found: dict[str, dict[str, float]] = {}
    for row in fitted.to_pylist():
        if row["chosen"] and row["rule"] in wanted:
            found.setdefault(row["rule"], {})[row["language"]] = bound(row["rule"], row["threshold"])
    return found


def _bounds(labels: pa.DictionaryArray, params: TextParams, rule: str, fitted: Mapping[str, float]) -> Any:
    """One bound a row: the language's own, else the derived one, else that of all others."""
    own = {language: bound(rule, rules[rule]) for language, rules in params.thresholds.items() if rule in rules}
    return lookup(labels, {**fitted, **own}, own.get(OTHERS, bound(rule, None)))
