"""Every rule for texts by name: its value as counts divided, the side of its bound, and what it means.

Rules of Gopher, FineWeb and C4 are named by datatrove's reasons, and their values compare exactly as datatrove's do: both
divide the same integers in float64, and every one of its drops is a strict < or >. Which threshold a rule has, and in
which language, is in `rule_sets`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Columns = Mapping[str, Numbers]
Side = Literal["min", "max"]
Judged = tuple[Numbers, Side, Numbers]  # value, side, bound: broken where value < bound (min) or value > bound (max)


@dataclass(frozen=True)
class TextRule:
    """`value` is of every row, from counts as float64; NaN only where a count is."""

    side: Side
    says: str
    value: Callable[[Columns], Numbers]
    derived: bool = False  # whether a language may have a threshold of its own, derived from clean text

    @property
    def most(self) -> float:
        """The largest value that a text can have."""
        return 1.0 if isinstance(self.value, _Share) or self.value is _repeated_nonblank else math.inf

    def is_void(self, threshold: float) -> bool:
        """Whether no text can break the threshold: a count or share under 0, a mean word of under one character."""
        return self.side == "min" and threshold <= (1 if self.value is _mean_word else 0)


def value_of(rule: str, columns: Columns) -> Numbers:
    """The rule's value in every row."""
    return RULES[rule].value(columns)


def bound(rule: str, threshold: float | None) -> float:
    """The number that the rule's value is held against; for a rule that is off, one that nothing breaks."""
    if threshold is None:
        return -math.inf if RULES[rule].side == "min" else math.inf
    return float(threshold)


def judged(columns: Columns, thresholds: Columns, names: Iterable[str]) -> dict[str, Judged]:
    """Some rules as (value, side, bound), from counts and each row's thresholds; NaN thresholds are off."""
    return {
        rule: (value_of(rule, columns), RULES[rule].side, _open(rule, thresholds[rule]))
        for rule in RULES
        if rule in set(names)
    }


def _open(rule: str, thresholds: Numbers) -> Numbers:
    return np.where(np.isnan(thresholds), bound(rule, None), thresholds)


@dataclass(frozen=True)
class _Share:
    """A part of a whole, from 0 to 1."""

    part: str
    whole: str

    def __call__(self, columns: Columns) -> Numbers:
        return _divided(columns[self.part], columns[self.whole])


def _for_each(whole: str, part: str) -> Callable[[Columns], Numbers]:
    return lambda columns: _divided(columns[part], columns[whole])


def _count(name: str) -> Callable[[Columns], Numbers]:
    return lambda columns: columns[name]


def _divided(part: Numbers, whole: Numbers) -> Numbers:
    """part / whole, and 0 of nothing, where datatrove raises ZeroDivisionError or compares NaN.

    Such a text has no word or no filled line, so `empty` or `gopher_short_doc` stands before every rule that the 0
    could break; above its bound it never is.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.asarray(part / whole)
    nothing = whole == 0
    if nothing.any():  # of few rows; over all of them it would take longer than the division
        shares[nothing] = 0.0 * part[nothing]
    return shares


def _mean_word(columns: Columns) -> Numbers:
    return _divided(columns["nonsymbol_word_chars"], columns["nonsymbol_words"])


def _repeated_nonblank(columns: Columns) -> Numbers:
    return _divided(columns["duplicate_nonblank_line_chars"], columns["chars"] - columns["newlines"])


def _symbols(columns: Columns) -> Numbers:
    return _divided(columns["hashes"] + columns["ellipses"], columns["words"])


def _invisible(columns: Columns) -> Numbers:
    return _divided(columns["invisible_chars"], columns["chars"] + columns["invisible_chars"])


RULES: dict[str, TextRule] = {
    "dup_para_frac": TextRule(
        "max", "Paragraphs that repeat an earlier one, of all.", _Share("duplicate_paragraphs", "paragraphs")
    ),
    "dup_para_char_frac": TextRule("max", "Their characters, of all.", _Share("duplicate_paragraph_chars", "chars")),
    "dup_line_frac": TextRule(
        "max", "Lines that repeat an earlier one, of all.", _Share("duplicate_lines", "lines"), derived=True
    ),
    "dup_line_char_frac": TextRule("max", "Their characters, of all.", _Share("duplicate_line_chars", "chars")),
    **{
        f"top_{n}_gram": TextRule(
            "max",
            f"Characters under the most frequent {n} words in a row, of all.",
            _Share(f"top_{n}_gram_chars", "chars"),
            derived=True,
        )
        for n in range(2, 5)
    },
    **{
        f"duplicated_{n}_n_grams": TextRule(
            "max",
            f"Characters in {n} words in a row that stood earlier, of all.",
            _Share(f"duplicate_{n}_gram_chars", "chars"),
            derived=True,
        )
        for n in range(5, 11)
    },
    "empty": TextRule("min", "Lines that are not blank.", _count("nonblank_lines")),
    "line_punct_ratio": TextRule(
        "min", "Lines that end in a sentence's mark, of those not blank.", _Share("punctuated_lines", "nonblank_lines"),
        derived=True,
    ),
    "short_line_ratio": TextRule("max", "Lines of at most 30 characters, the same.", _Share("short_lines", "nonblank_lines")),
    "char_dup_ratio": TextRule("max", "Characters in lines that repeat an earlier one, newlines aside.", _repeated_nonblank),
    "list_ratio": TextRule("max", "Newlines for each word.", _for_each("words", "newlines"), derived=True),
    "gopher_short_doc": TextRule("min", "Words that are not only marks.", _count("nonsymbol_words")),
    "gopher_long_doc": TextRule("max", "The same.", _count("nonsymbol_words")),
    "gopher_below_avg_threshold": TextRule("min", "Mean length of these words in characters.", _mean_word, derived=True),
    "gopher_above_avg_threshold": TextRule("max", "The same.", _mean_word, derived=True),
    "gopher_too_many_hashes": TextRule("max", "Signs # for each word.", _for_each("words", "hashes")),
    "gopher_too_many_ellipsis": TextRule("max", "Ellipses (... and …) for each word.", _for_each("words", "ellipses")),
    "gopher_too_many_bullets": TextRule("max", "Lines that begin with • or -, of all.", _Share("bullet_lines", "split_lines")),
    "gopher_too_many_end_ellipsis": TextRule(
        "max", "Lines that end in an ellipsis, of all.", _Share("ellipsis_lines", "split_lines")
    ),
    "gopher_below_alpha_threshold": TextRule(
        "min", "Words with a letter, of all.", _Share("alpha_words", "words"), derived=True
    ),
    "gopher_enough_stop_words": TextRule("min", "Distinct stop words.", _count("stop_words")),
    "lorem_ipsum": TextRule("max", "Lines with lorem ipsum, of those that end as a sentence does.", _count("c4_lorem_lines")),
    "curly_bracket": TextRule("max", "Lines with {, of the same.", _count("c4_bracket_lines")),
    "too_few_sentences": TextRule("min", "Sentences in the lines that C4 leaves.", _count("c4_sentences")),
    "any_lorem_ipsum": TextRule("max", "Lines with lorem ipsum, of all of three words.", _count("c4_any_lorem_lines")),
    "any_curly_bracket": TextRule("max", "Lines with {, of the same.", _count("c4_any_bracket_lines")),
    "any_too_few_sentences": TextRule(
        "min", "Sentences in the lines that C4 leaves where lines may end in anything.", _count("c4_any_sentences")
    ),
    "< 3 paragraphs": TextRule("min", "Lines of at least 200 characters.", _count("c4_paragraphs")),
    "roots_few_words": TextRule("min", "Words that are not only marks.", _count("nonsymbol_words")),
    "roots_many_words": TextRule("max", "The same.", _count("nonsymbol_words")),
    "roots_char_repetition": TextRule(
        "max", "Of all 10 characters in a row (3 in Chinese), the commonest sqrt(distinct).",
        _Share("repeated_char_grams", "char_grams"),
    ),
    "roots_word_repetition": TextRule(
        "max", "Of all 5 words in a row (7 in Urdu), those that stand more than once.",
        _Share("repeated_word_grams", "word_grams"),
    ),
    "roots_special_chars": TextRule(
        "max", "Characters that are neither letters nor marks, of all.", _Share("special_chars", "chars")
    ),
    "roots_stop_words": TextRule("min", "Stop words, of all words.", _Share("stop_word_occurrences", "words")),
    "ccnet_short_doc": TextRule("min", "Characters.", _count("chars")),
    "paper_symbol_to_word": TextRule("max", "Signs # and ellipses for each word.", _symbols, derived=True),
    "paper_ellipsis": TextRule(
        "max", "Lines that end in an ellipsis, of all.", _Share("ellipsis_lines", "split_lines"), derived=True
    ),
    "paper_invisible": TextRule("max", "Invisible characters that cleaning took, of all.", _invisible, derived=True),
    "paper_numbers": TextRule("max", "Digits, of all characters.", _Share("digits", "chars"), derived=True),
    "paper_dates": TextRule("max", "Dates in digits for each word.", _for_each("words", "dates"), derived=True),
    "paper_others": TextRule(
        "max", "Characters that are neither letters nor marks, of all: the paper's \"etc.\".",
        _Share("special_chars", "chars"), derived=True,
    ),
}  # fmt: skip
"""Every rule in the order in which the first broken one is the reason."""

_NAMES = list(RULES)
REPETITION = _NAMES[: _NAMES.index("empty")]  # datatrove's GopherRepetitionFilter
FINEWEB_QUALITY = _NAMES[_NAMES.index("empty") : _NAMES.index("gopher_short_doc")]  # its FineWebQualityFilter
GOPHER_QUALITY = _NAMES[_NAMES.index("gopher_short_doc") : _NAMES.index("lorem_ipsum")]  # its GopherQualityFilter
C4_QUALITY = ["lorem_ipsum", "curly_bracket", "too_few_sentences"]  # its C4QualityFilter
C4_ANY = [f"any_{rule}" for rule in C4_QUALITY]  # the same with filter_no_terminal_punct=False, as FineWeb has it
C4_PARAGRAPH = ["< 3 paragraphs"]  # its C4ParagraphFilter, by its own name for the reason
ROOTS = [rule for rule in _NAMES if rule.startswith("roots_")]
PAPER = [rule for rule in _NAMES if rule.startswith("paper_")]
