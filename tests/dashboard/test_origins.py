"""Where a threshold comes from is told as the gate chooses it."""

import numpy as np
import pyarrow as pa
import pytest

from polylm.dashboard.origins import DERIVED, PUBLISHED, RECIPE, chosen_rows, origins, summary
from polylm.dashboard.stages.knobs import changes_of, knobs_of, moved, read_moves
from polylm.tasks.corpus.rule_sets import rules_of
from polylm.tasks.corpus.text import JUDGED, TextParams, filter_text
from polylm.tasks.corpus.thresholds import THRESHOLDS

LANGUAGES = ("sv", "en", "th", "uk")


def row(language, rule, threshold, *, chosen=True, method="quantile", note=""):
    counts = {"references": 140, "references_removed": 7, "others": 45, "others_removed": 9}
    own = {"language": language, "rule": rule, "method": method, "threshold": threshold}
    return own | {"chosen": chosen, "note": note} | counts


def table(*rows):
    return pa.Table.from_pylist(list(rows), pa.schema(list(THRESHOLDS.items())))


DERIVATIONS = table(
    row("sv", "list_ratio", 0.0515, note="0.02554 is not sane"),
    row("sv", "list_ratio", 0.3, chosen=False, method="english"),
    row("sv", "top_2_gram", None, note="off: the method has nothing to go by"),
    row("sv", "gopher_enough_stop_words", 2.0, method="fixed"),
    row("sv", "paper_numbers", 0.02),
    row("sv", "dup_line_frac", 0.1205),
    row("th", "dup_line_frac", 0.5),
)
STATED = {
    "sets": TextParams(),
    "two sets": TextParams(rules=("polylm", "roots")),
    "one number": moved(TextParams(), {knobs_of(TextParams(), ["sv"], "sv")[0]: 0.01}),
    "none derived": TextParams(derive=False),
    "a set that derives nothing": TextParams(rules=("fineweb",)),
    "the paper's": TextParams(rules=("paper",)),
}


def bounds_of_the_gate(params, language):
    rows = {name: np.ones(1) for name in JUDGED} | {"language": pa.array([language]).dictionary_encode()}
    rules = filter_text(rows, params, DERIVATIONS)
    return {rule: float(np.ravel(one.bound)[0]) for rule, one in rules.items()}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("params", STATED.values(), ids=STATED)
def test_every_threshold_is_that_of_the_gate(params, language):
    found = origins(params, DERIVATIONS, language)
    judged = bounds_of_the_gate(params, language)
    assert list(found) == list(judged)
    told = {rule: one.threshold for rule, one in found.items()}
    assert told == {rule: bound if np.isfinite(bound) else None for rule, bound in judged.items()}


def test_a_derived_one_names_the_documents_and_the_method():
    found = origins(TextParams(), DERIVATIONS, "sv")
    said = "derived from 140 reference documents, by quantile (0.02554 is not sane: the nearest that is)"
    assert (found["list_ratio"].kind, found["list_ratio"].told) == (DERIVED, said)
    assert "nothing to go by" in found["top_2_gram"].told
    assert found["gopher_short_doc"].kind == PUBLISHED
    assert "rule set polylm" in found["gopher_short_doc"].told
    assert summary(found) == [(DERIVED, 4), (PUBLISHED, len(found) - 4)]
    assert "paper_numbers" not in chosen_rows(TextParams(), DERIVATIONS, "sv")


def test_one_that_the_recipe_states_says_what_it_replaces():
    params = TextParams(thresholds={**TextParams().thresholds, "th": {"dup_line_frac": 0.9}})
    found = origins(params, DERIVATIONS, "th")["dup_line_frac"]
    theirs = TextParams().thresholds["th"]["dup_line_frac"]
    assert (found.threshold, found.kind) == (0.9, RECIPE)
    assert found.told == f"stated in the recipe instead of {theirs:.4g}"
    assert origins(TextParams(), DERIVATIONS, "th")["dup_line_frac"].kind == PUBLISHED


def test_moving_a_threshold_of_all_others_moves_that_of_one_language():
    params = TextParams()
    knobs = knobs_of(params, list(LANGUAGES), "sv")
    assert {knob.path[:2] for knob in knobs} == {("thresholds", "sv")}
    assert [knob.path[2] for knob in knobs] == rules_of(params.rules)
    moves = read_moves(knobs, {"p.thresholds.sv.list_ratio": "0.04"})
    assert changes_of(moves) == {"thresholds.sv.list_ratio": 0.04}
    after = moved(params, moves)
    assert bounds_of_the_gate(after, "sv") == bounds_of_the_gate(params, "sv") | {"list_ratio": 0.04}
    assert bounds_of_the_gate(after, "uk") == bounds_of_the_gate(params, "uk")


def test_a_page_of_all_languages_moves_no_language():
    assert knobs_of(TextParams(), ["sv"], "") == []
