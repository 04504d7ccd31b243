"""Rule sets by name: which rules, which threshold each has in every language, and where that comes from.

A set answers for every language; one that it does not know gets the entry of all others. Published numbers are in
`data/rule_sets.json`; a threshold that nothing can break is off there, whoever published it. `polylm` is FineWeb2's in its
17 languages and FineWeb's, without C4's rules, in English and all others, where `fit_thresholds` derives better ones from
clean text.
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polylm.tasks.corpus.text_rules import (
    C4_ANY,
    C4_PARAGRAPH,
    C4_QUALITY,
    FINEWEB_QUALITY,
    GOPHER_QUALITY,
    PAPER,
    REPETITION,
    ROOTS,
    RULES,
)

OTHERS = "*"  # stands for every language without thresholds of its own
DEFAULT = "polylm"
DERIVING = ("polylm", "paper")  # sets whose languages without own thresholds get derived ones

_FINEWEB2 = [*REPETITION, *FINEWEB_QUALITY, *GOPHER_QUALITY]
SETS: dict[str, tuple[list[str], str]] = {
    "polylm": (
        _FINEWEB2,
        "Ours, the default: FineWeb2's and FineWeb's thresholds where they are sane, derived ones elsewhere.",
    ),
    "fineweb": ([*_FINEWEB2, *C4_ANY], "FineWeb (arXiv 2406.17557): English thresholds for every language."),
    "fineweb2": (_FINEWEB2, "FineWeb2 (arXiv 2506.20920): 17 languages; FineWeb's thresholds elsewhere."),
    "gopher": ([*REPETITION, *GOPHER_QUALITY], "Gopher (arXiv 2112.11446): one threshold for all languages."),
    "c4": (C4_QUALITY, "C4 (arXiv 1910.10683): documents by what its line rules leave; the lines themselves stay."),
    "mc4": (C4_PARAGRAPH, "mC4 (arXiv 2010.11934): documents with few long lines."),
    "roots": (ROOTS, "ROOTS (arXiv 2303.03915), BLOOM's corpus: 13 languages tuned by speakers, and a default."),
    "ccnet": (["ccnet_short_doc"], "CCNet (arXiv 1911.00359): short documents; its perplexity is in filter_quality."),
    "paper": (
        [*REPETITION, "gopher_short_doc", "gopher_long_doc", *PAPER],
        "PolyLM (arXiv 2307.06018, 3.1), which names rules and no thresholds: Gopher's, derived, or ours.",
    ),
}
"""Every set by name: its rules, and a sentence."""


@dataclass(frozen=True)
class RuleSet:
    """The thresholds of one language: None where a rule is off, and for every rule the source of its threshold."""

    name: str
    thresholds: dict[str, float | None]
    sources: dict[str, str]
    stop_words: list[str]


@functools.cache
def rule_set(name: str, language: str) -> RuleSet:
    """The rules of a set for a language code such as `en`; ValueError names a set that does not exist."""
    if name not in SETS:
        raise ValueError(f"no rule set {name!r}: there are {', '.join(SETS)}")
    rules, _ = SETS[name]
    thresholds = _thresholds(name, language)
    off = {r for r in rules if thresholds[r][0] is not None and RULES[r].is_void(thresholds[r][0])}
    return RuleSet(
        name,
        {rule: None if rule in off else thresholds[rule][0] for rule in RULES if rule in rules},
        {rule: thresholds[rule][1] + (" (void: off)" if rule in off else "") for rule in RULES if rule in rules},
        stop_words(language),
    )


def languages(name: str = DEFAULT) -> list[str]:
    """The languages with thresholds of their own in a set."""
    if name == "roots":
        return [language for language in _data()["roots"]["languages"] if language != OTHERS]
    return ["en", *_data()["fineweb2"]["languages"]] if name in ("polylm", "fineweb2", "gopher", "fineweb") else []


def stop_words(language: str) -> list[str]:
    """The published stop words of a language; none where nobody published any."""
    if language == "en":
        return list(_data()["fineweb"]["english_stop_words"])
    return list(_data()["fineweb2"]["languages"].get(language, {}).get("stop_words", []))


def configs() -> dict[str, str]:
    """The name of FineWeb2's file for each of its languages here, such as `deu_Latn`."""
    return {language: own["config"] for language, own in _data()["fineweb2"]["languages"].items()}


def table(names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """The thresholds of some sets together by language: of a rule that several have, the strictest.

    What a set derives for a language is left out there: what stands for all others would keep it from being derived.
    """
    known = list(dict.fromkeys(language for name in names for language in languages(name)))
    stated = {language: [name for name in names if not _derives(name, language)] for language in known}
    return {of: _strictest([rule_set(name, of) for name in sets]) for of, sets in [*stated.items(), (OTHERS, names)]}


def _derives(name: str, language: str) -> bool:
    return name in DERIVING and language not in languages(name)


def rules_of(names: Sequence[str]) -> list[str]:
    """The rules of some sets in the order of reasons."""
    wanted = {rule for name in names for rule in rule_set(name, OTHERS).thresholds}
    return [rule for rule in RULES if rule in wanted]


@functools.cache
def sane_range(rule: str) -> tuple[float, float]:
    """Between which numbers a derived threshold is believed: half the least and twice the largest published one."""
    if rule in PAPER:
        low, high = _data()["paper"]["sane"][rule]
        return float(low), float(high)
    published = [
        value for language in languages() if (value := rule_set(DEFAULT, language).thresholds[rule]) is not None
    ]
    shares = not rule.endswith("avg_threshold")
    return min(published) / 2, min(2 * max(published), 0.95) if shares else 2 * max(published)


def _strictest(sets: Sequence[RuleSet]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for chosen in sets:
        for rule, threshold in chosen.thresholds.items():
            before = found.get(rule)
            if before is None or threshold is None:
                found[rule] = threshold if before is None else before
            else:
                found[rule] = max(before, threshold) if RULES[rule].side == "min" else min(before, threshold)
    return {rule: found[rule] for rule in RULES if rule in found}


def _thresholds(name: str, language: str) -> dict[str, Any]:
    """Pairs of number and source by rule, of all rules that the set may have."""
    data = _data()
    if name == "roots":
        source = data["roots"]["source"].format(language="default" if language not in languages("roots") else language)
        own = data["roots"]["languages"].get(language, data["roots"]["languages"][OTHERS])
        return {**{rule: [own[rule], source] for rule in own}, **data["roots"]["fixed"]}
    if name in ("c4", "mc4", "ccnet"):
        return dict(data[name]["thresholds"])
    if name in ("polylm", "fineweb2"):
        return _fineweb2(language, ours=name == "polylm")
    thresholds = dict(data["fineweb"]["thresholds"])
    if not stop_words(language):
        thresholds["gopher_enough_stop_words"] = [None, "off: no list of stop words for this language"]
    if name == "gopher" and language == "ko":
        thresholds["gopher_enough_stop_words"] = data["fineweb2"]["languages"]["ko"]["ours"]["gopher_enough_stop_words"]
    return {**thresholds, **data["paper"]["thresholds"]}


def _fineweb2(language: str, *, ours: bool) -> dict[str, Any]:
    """FineWeb2's thresholds, and FineWeb's for English and where FineWeb2 has none.

    Three of Korean's are `ours`, because FineWeb2's count Kiwi's morphemes and we count what stands between white space.
    """
    data = _data()
    if language not in data["fineweb2"]["languages"]:
        return _thresholds("fineweb", language)
    own = data["fineweb2"]["languages"][language]
    thresholds = data["fineweb"]["thresholds"] | data["fineweb2"]["fixed"]
    for rule, value in own["thresholds"].items():
        field = data["fineweb2"]["fields"][rule]
        thresholds[rule] = [value, data["fineweb2"]["source"].format(config=own["config"], field=field)]
    return {**thresholds, **(own.get("ours", {}) if ours else {})}


@functools.cache
def _data() -> dict[str, Any]:
    path = Path(__file__).with_name("data") / "rule_sets.json"
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data
