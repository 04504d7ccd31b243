"""Where the threshold of every text rule in a language comes from: the recipe, the language's clean text, or a rule set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from polylm.dashboard.gates import extras_of
from polylm.dashboard.view import count, number, words
from polylm.tasks.build import Job
from polylm.tasks.corpus.rule_sets import DERIVING, OTHERS, rule_set, rules_of
from polylm.tasks.corpus.text import TextParams, thresholds_of

RECIPE, DERIVED, PUBLISHED = "recipe", "derived", "rule set"
_REST = "for languages without own thresholds"
_NOT_SANE = (
    "is not sane"  # ends the note of `fit_thresholds` on a threshold that it moved to a bound of what is believed
)


@dataclass(frozen=True)
class Origin:
    """A threshold (None: the rule is off), which of the three kinds it is, and the same in a sentence."""

    threshold: float | None
    kind: str
    told: str


def origins_of(job: Job, language: str | None) -> dict[str, Origin]:
    """The origins of a gate's thresholds in a language by rule; of other gates than `filter_text` none."""
    if not isinstance(job.params, TextParams) or not language:
        return {}
    return origins(job.params, next(iter(extras_of(job)), None), language)


def origins(params: TextParams, derived: pa.Table | None, language: str) -> dict[str, Origin]:
    """As the gate chooses: a language's own threshold, else the derived one, else that of all other languages."""
    own, fitted = params.thresholds.get(language, {}), chosen_rows(params, derived, language)
    published, found = thresholds_of(params.rules), {}
    for rule in rules_of(params.rules):
        if rule in own:
            found[rule] = _stated(params, published, language, rule)
        elif rule in fitted:
            found[rule] = Origin(fitted[rule]["threshold"], DERIVED, derivation(fitted[rule]))
        else:
            found[rule] = _stated(params, published, OTHERS, rule)
    return found


def chosen_rows(params: TextParams, derived: pa.Table | None, language: str) -> dict[str, Mapping[str, Any]]:
    """The rows of `fit_thresholds` that the gate would take in a language, by rule."""
    deriving = [name for name in params.rules if name in DERIVING]
    if derived is None or not params.derive or not deriving:
        return {}
    wanted = set(rules_of(deriving))
    rows = (row for row in derived.to_pylist() if row["language"] == language and row["chosen"])
    return {row["rule"]: row for row in rows if row["rule"] in wanted}


def derivation(row: Mapping[str, Any]) -> str:
    """From how many documents by which method a threshold was derived, and what was done to it."""
    method = "stated for all languages" if row["method"] == "fixed" else f"by {words(row['method'])}"
    note = row["note"] if not row["note"].endswith(_NOT_SANE) else f"{row['note']}: the nearest that is"
    told = f"derived from {count(row['references'])} reference documents, {method}"
    return f"{told} ({note})" if note else told


def summary(found: Mapping[str, Origin]) -> list[tuple[str, int]]:
    """How many thresholds are of each kind."""
    counts = {kind: sum(origin.kind == kind for origin in found.values()) for kind in (DERIVED, RECIPE, PUBLISHED)}
    return [(kind, n) for kind, n in counts.items() if n]


def _stated(params: TextParams, published: Mapping[str, Mapping[str, float | None]], entry: str, rule: str) -> Origin:
    """A threshold of the recipe: of a rule set that it names where it has the same, else its own."""
    where = f", {_REST}" if entry == OTHERS else ""
    if rule not in params.thresholds.get(entry, {}):
        return Origin(None, RECIPE, "off: the recipe has no threshold")
    threshold, theirs = params.thresholds[entry][rule], published.get(entry, {})
    if rule in theirs and theirs[rule] == threshold:
        return Origin(threshold, PUBLISHED, f"{_source(params, entry, rule, threshold)}{where}")
    instead = f" instead of {_told(theirs[rule])}" if rule in theirs else ""
    return Origin(threshold, RECIPE, f"stated in the recipe{instead}{where}")


def _source(params: TextParams, entry: str, rule: str, threshold: float | None) -> str:
    """The rule set with this threshold, the first of several, and where it has it from."""
    sets = (rule_set(name, entry) for name in params.rules)
    chosen = next(one for one in sets if rule in one.thresholds and one.thresholds[rule] == threshold)
    return f"rule set {chosen.name}: {chosen.sources[rule]}"


def _told(threshold: float | None) -> str:
    return "off" if threshold is None else number(threshold)
