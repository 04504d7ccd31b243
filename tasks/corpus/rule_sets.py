"""Which threshold every rule has in every language, where it comes from, and the rules as values and bounds.

English has FineWeb's thresholds (datatrove's defaults of Gopher repetition, FineWeb quality and Gopher quality, without
C4's rules); 17 more languages have FineWeb2's; any other language has FineWeb's without stop words. Rules are named by
datatrove's reasons and stand in FineWeb2's order of filters. All numbers are in `data/rule_sets.json`.
"""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Columns = Mapping[str, Numbers]
Side = Literal["min", "max"]
Rule = tuple[Numbers, Side, Numbers]  # value, side, bound: broken where value < bound (min) or value > bound (max)

SIDES: dict[str, Side] = {
    "dup_para_frac": "max",
    "dup_para_char_frac": "max",
    "dup_line_frac": "max",
    "dup_line_char_frac": "max",
    "top_2_gram": "max",
    "top_3_gram": "max",
    "top_4_gram": "max",
    "duplicated_5_n_grams": "max",
    "duplicated_6_n_grams": "max",
    "duplicated_7_n_grams": "max",
    "duplicated_8_n_grams": "max",
    "duplicated_9_n_grams": "max",
    "duplicated_10_n_grams": "max",
    "empty": "min",
    "line_punct_ratio": "min",
    "short_line_ratio": "max",
    "char_dup_ratio": "max",
    "list_ratio": "max",
    "gopher_short_doc": "min",
    "gopher_long_doc": "max",
    "gopher_below_avg_threshold": "min",
    "gopher_above_avg_threshold": "max",
    "gopher_too_many_hashes": "max",
    "gopher_too_many_ellipsis": "max",
    "gopher_too_many_bullets": "max",
    "gopher_too_many_end_ellipsis": "max",
    "gopher_below_alpha_threshold": "min",
    "gopher_enough_stop_words": "min",
}
"""Every rule in the order in which the first broken one is the reason, and the side of its bound."""

_NAMES = list(SIDES)
REPETITION = _NAMES[: _NAMES.index("empty")]  # datatrove's GopherRepetitionFilter
FINEWEB_QUALITY = _NAMES[_NAMES.index("empty") : _NAMES.index("gopher_short_doc")]  # its FineWebQualityFilter
GOPHER_QUALITY = _NAMES[_NAMES.index("gopher_short_doc") :]  # its GopherQualityFilter

C4_SIDES: dict[str, Side] = {
    "lorem_ipsum": "max",
    "curly_bracket": "max",
    "too_few_sentences": "min",
    "< 3 paragraphs": "min",
}
"""The rules of C4 and mC4 for documents, which stand in no language's rule set; `kernels.c4_lines` drops the lines."""
C4_QUALITY = ["lorem_ipsum", "curly_bracket", "too_few_sentences"]  # datatrove's C4QualityFilter
C4_PARAGRAPH = ["< 3 paragraphs"]  # its C4ParagraphFilter, by its own name for the reason


@dataclass(frozen=True)
class RuleSet:
    """The thresholds of one language: None where a rule is off, and for every rule the source of its threshold."""

    name: str
    thresholds: dict[str, float | None]
    sources: dict[str, str]
    stop_words: list[str]


@functools.cache
def rule_set(language: str, *, published: bool = False) -> RuleSet:
    """The rules of a language code such as `en`; an unknown one gets FineWeb's without stop words.

    Three of Korean's thresholds are ours, because FineWeb2's count Kiwi's morphemes and we count what stands between
    white space; `published` leaves them as FineWeb2 has them, for agreement on its words.
    """
    data = _data()
    thresholds = dict(data["fineweb"]["thresholds"])
    if language == "en":
        return _named("fineweb", thresholds, data["fineweb"]["english_stop_words"])
    if language not in data["fineweb2"]["languages"]:
        thresholds["gopher_enough_stop_words"] = [None, "off: no list of stop words for this language"]
        return _named("fineweb", thresholds, [])
    own = data["fineweb2"]["languages"][language]
    thresholds |= data["fineweb2"]["fixed"]
    for rule, value in own["thresholds"].items():
        field = data["fineweb2"]["fields"][rule]
        thresholds[rule] = [value, data["fineweb2"]["source"].format(config=own["config"], field=field)]
    ours = {} if published else own.get("ours", {})
    return _named("fineweb2", thresholds | ours, own["stop_words"])


def languages() -> list[str]:
    """The languages with thresholds of their own."""
    return ["en", *_data()["fineweb2"]["languages"]]


def bound(rule: str, threshold: float | None) -> float:
    """The number that the rule's value is held against; for a rule that is off, one that nothing breaks."""
    if threshold is None:
        return -math.inf if SIDES[rule] == "min" else math.inf
    return float(threshold)


def rules(columns: Columns, thresholds: Columns) -> dict[str, Rule]:
    """Every rule as (value, side, bound), in order, from counts and each row's thresholds; NaN thresholds are off.

    `columns` are those of `kernels.text_statistics` as float64. A value is NaN only where a count is. Ratios compare
    exactly as datatrove's do: both divide the same integers in float64, and every one of its drops is a strict < or >.
    """
    values = rule_values(columns)
    bounds = {rule: _open(rule, thresholds[rule]) for rule in SIDES}
    return {rule: (values[rule], side, bounds[rule]) for rule, side in SIDES.items()}


def c4_rules(columns: Columns) -> dict[str, Rule]:
    """C4's rules in order, from the counts of `kernels.c4_lines` as float64 and `c4_sentences` of the lines that are left."""
    values = {
        "lorem_ipsum": columns["c4_lorem_lines"],
        "curly_bracket": columns["c4_bracket_lines"],
        "too_few_sentences": columns["c4_sentences"],
        "< 3 paragraphs": columns["c4_paragraphs"],
    }
    thresholds = {rule: float(value) for rule, (value, _) in _data()["c4"]["thresholds"].items()}
    return {rule: (values[rule], side, np.full_like(values[rule], thresholds[rule])) for rule, side in C4_SIDES.items()}


def rule_values(columns: Columns) -> dict[str, Numbers]:
    """The value of each rule; see `_share` for what stands where nothing can be divided."""
    chars, words, split_lines = columns["chars"], columns["words"], columns["split_lines"]
    nonblank, nonsymbol = columns["nonblank_lines"], columns["nonsymbol_words"]
    mean_length = _share(columns["nonsymbol_word_chars"], nonsymbol)
    repeated = {f"duplicated_{n}_n_grams": columns[f"duplicate_{n}_gram_chars"] for n in range(5, 11)}
    values = {
        "dup_para_frac": _share(columns["duplicate_paragraphs"], columns["paragraphs"]),
        "dup_para_char_frac": _share(columns["duplicate_paragraph_chars"], chars),
        "dup_line_frac": _share(columns["duplicate_lines"], columns["lines"]),
        "dup_line_char_frac": _share(columns["duplicate_line_chars"], chars),
        **{f"top_{n}_gram": _share(columns[f"top_{n}_gram_chars"], chars) for n in range(2, 5)},
        **{rule: _share(count, chars) for rule, count in repeated.items()},
        "empty": nonblank,
        "line_punct_ratio": _share(columns["punctuated_lines"], nonblank),
        "short_line_ratio": _share(columns["short_lines"], nonblank),
        "char_dup_ratio": _share(columns["duplicate_nonblank_line_chars"], chars - columns["newlines"]),
        "list_ratio": _share(columns["newlines"], words),
        "gopher_short_doc": nonsymbol,
        "gopher_long_doc": nonsymbol,
        "gopher_below_avg_threshold": mean_length,
        "gopher_above_avg_threshold": mean_length,
        "gopher_too_many_hashes": _share(columns["hashes"], words),
        "gopher_too_many_ellipsis": _share(columns["ellipses"], words),
        "gopher_too_many_bullets": _share(columns["bullet_lines"], split_lines),
        "gopher_too_many_end_ellipsis": _share(columns["ellipsis_lines"], split_lines),
        "gopher_below_alpha_threshold": _share(columns["alpha_words"], words),
        "gopher_enough_stop_words": columns["stop_words"],
    }
    assert list(values) == list(SIDES)
    return values


def _share(part: Numbers, whole: Numbers) -> Numbers:
    """part / whole, and 0 of nothing, where datatrove raises ZeroDivisionError or compares NaN.

    Such a text has no word or no filled line, so `empty` or `gopher_short_doc` stands before every rule that the 0
    could break; above its bound it never is.
    """
    return np.where(whole == 0, 0.0 * part, part / np.where(whole == 0, 1.0, whole))


def _open(rule: str, thresholds: Numbers) -> Numbers:
    return np.where(np.isnan(thresholds), bound(rule, None), thresholds)


def _named(name: str, thresholds: dict[str, list[Any]], stop_words: list[str]) -> RuleSet:
    """A rule set in the order of SIDES, with the rules off that their threshold cannot break."""
    off = {rule for rule, (value, _) in thresholds.items() if value is not None and _is_void(rule, value)}
    return RuleSet(
        name,
        {rule: None if rule in off else thresholds[rule][0] for rule in SIDES},
        {rule: thresholds[rule][1] + (" (void: off)" if rule in off else "") for rule in SIDES},
        stop_words,
    )


def _is_void(rule: str, value: float) -> bool:
    """Whether no text can break the threshold: a share under 0, or a mean word of under one character."""
    return SIDES[rule] == "min" and value <= (1 if rule == "gopher_below_avg_threshold" else 0)


@functools.cache
def _data() -> dict[str, Any]:
    path = Path(__file__).with_name("data") / "rule_sets.json"
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data
