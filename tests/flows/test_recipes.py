"""Recipes: those that there are, the paper's numbers in them, and that their parts agree."""

import pytest

from polylm.deployments.settings import Settings
from polylm.flows.everything import start
from polylm.flows.recipe_options import resolve
from polylm.flows.recipes import SAMPLE, Recipe, all_recipes

DOCUMENTS = f"mine={SAMPLE / 'documents.jsonl.gz'}"


def test_there_are_the_recipes_that_the_readme_names():
    assert set(all_recipes()) == {"sample", "corpus", "polylm_1_7b", "polylm_13b"}


@pytest.mark.parametrize(("name", "parameters"), [("polylm_1_7b", 1_737_084_928), ("polylm_13b", 13_906_790_400)])
def test_the_papers_models_have_the_papers_size(name, parameters):
    assert all_recipes()[name]().model.config(256_000).parameters() == parameters


@pytest.mark.parametrize(("name", "tokens"), [("polylm_1_7b", 639.6e9), ("polylm_13b", 639.6e9)])
def test_stage_1_reads_the_papers_number_of_tokens(name, tokens):
    recipe = all_recipes()[name]()
    read = recipe.stage1.steps * recipe.stage1.batch * recipe.model.context
    assert read == pytest.approx(tokens, rel=1e-3)


@pytest.mark.parametrize("name", ["polylm_1_7b", "polylm_13b"])
def test_the_papers_recipes_state_what_paper_and_scripts_disagree_on(name):
    stated = " ".join(all_recipes()[name]().contradictions)
    assert all(word in stated for word in ("0.0001", "6e-5", "2,500", "0.006", "255999"))


@pytest.mark.parametrize("name", sorted(all_recipes()))
def test_curriculum_steps_batches_and_contexts_agree(name):
    recipe = all_recipes()[name]()
    segments = {segment.name: segment.steps for segment in recipe.curriculum.segments}
    for stage in (recipe.stage1, recipe.stage2):
        assert (segments[stage.segment], recipe.curriculum.batch) == (stage.steps, stage.batch)
    contexts = {recipe.pack.context, recipe.pack_pairs.context, recipe.pack_instructions.context, recipe.model.context}
    assert len(contexts) == 1


@pytest.mark.parametrize("name", ["polylm_1_7b", "polylm_13b"])
def test_the_papers_recipes_are_planned_on_the_sample(name, tmp_path):
    planned = start(name, Settings(store=tmp_path / "store"), sources=[DOCUMENTS], mode="plan")
    jobs = {report.stage: report for report in planned.reports}
    assert jobs["ingest"].exact
    assert jobs["ingest"].built == ["mine:documents.jsonl.gz"]
    assert not jobs["pretrain"].exact
    assert not list((tmp_path / "store" / "runs").iterdir()), "a plan is no run"


def test_an_unknown_recipe_lists_those_there_are():
    with pytest.raises(ValueError, match="no recipe 'smaple': there are corpus, polylm_13b, polylm_1_7b, sample"):
        resolve("smaple")


def test_recipes_survive_json():
    for name, recipe in all_recipes().items():
        assert Recipe.model_validate_json(recipe().model_dump_json()) == recipe(), name
