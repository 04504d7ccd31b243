"""Changes of a stage's params as the recipe's options."""

import shlex

from polylm.dashboard.recipe_fields import changed, command_line, field_of, leaves, set_words
from polylm.flows.recipe_options import resolve


def made(here, run, stage):
    return here.manifest(here.entry(run, stage))


def test_a_gates_params_are_a_field_of_the_recipe(here, run):
    fields = {entry.stage: field_of(run, here.manifest(entry)) for entry in run.stages}
    assert fields["filter_text"] == "text"
    assert fields["want_languages"] == "wanted"
    assert fields["fit_language_floors"] == "floors"
    assert fields["fit_quality_cutoffs"] == "cutoffs"
    assert fields["sign"] == fields["join_bands"] == "bands"
    assert fields["drop_empty"] == fields["drop_duplicates"] == ""


def test_the_words_set_the_recipe_as_the_command_line_does(here, run):
    text, wanted = made(here, run, "filter_text"), made(here, run, "want_languages")
    words = set_words(run, text, {"thresholds.th.dup_line_frac": 0.25, "thresholds.*.top_2_gram": None})
    words += set_words(run, wanted, {"languages": ["en", "sv"]})
    recipe = resolve("sample", changes=words)
    assert recipe.text.thresholds["th"]["dup_line_frac"] == 0.25
    assert recipe.text.thresholds["*"]["top_2_gram"] is None
    assert recipe.wanted.languages == ("en", "sv")
    assert shlex.split(command_line(words))[1::2] == words


def test_no_words_where_the_recipe_has_no_field(here, run):
    assert set_words(run, made(here, run, "drop_empty"), {}) == []


def test_changes_leave_the_params_as_they_were(here, run):
    params = made(here, run, "filter_text").params
    before = dict(leaves(params))
    after = dict(leaves(changed(params, {"thresholds.en.gopher_short_doc": 5})))
    assert {path for path in after if after[path] != before[path]} == {"thresholds.en.gopher_short_doc"}
    assert dict(leaves(params)) == before
