"""Recipes: whole, told apart from their options, and refused in one line where something is wrong."""

import json
import re

import pytest

from polylm.flows.everything import start
from polylm.flows.recipes import SAMPLE, Recipe, all_recipes, origins, resolve
from polylm.tasks.settings import Settings

DOCUMENTS = f"mine={SAMPLE / 'documents.jsonl.gz'}"
FASTTEXT = b"\xba\x16\x4f\x2f"  # how its models begin


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


@pytest.mark.parametrize("name", ["corpus", "polylm_1_7b", "polylm_13b"])
def test_a_recipe_without_sources_says_how_to_give_one(name):
    with pytest.raises(ValueError, match=f"the recipe {name} has no sources: give --source NAME=PATH"):
        resolve(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("floors.lowest=1.5", "floors.lowest: Input should be less than or equal to 1, found 1.5"),
        ("flors.lowest=0.5", "no field 'flors'; there are flow, sources"),
        ("floors.lowst=0.5", "no field 'floors.lowst'; there are lowest, highest"),
        ("floors.lowest", "expected --set a.b=VALUE"),
        ("language_model=/nowhere/lid.bin", "/nowhere/lid.bin is no file"),
        ("floors.lowest=0.95", "floors: Value error, lowest is 0.95, highest 0.9; expected lowest <= highest"),
        ("cutoffs.head=0.7", "head is 0.7, middle 0.6; expected head <= middle"),
        ("classifier.seed=9223372036854775807", "classifier.seed: Input should be less than 2147483648"),
        ("bands.seed=4294967296", "bands.seed: Input should be less than 4294967296"),
        (f"split.seed={'9' * 5_000}", "5,000 characters of JSON that cannot be read"),
        (f"wanted.languages={'[' * 100_000}", "100,000 characters of JSON that cannot be read"),
        ("pack.split=test", "pack.split: Input should be 'train' or 'valid', found \"test\""),
    ],
)
def test_a_wrong_change_is_refused_with_what_was_found_and_expected(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        resolve("sample", changes=[change])


def test_an_unknown_recipe_lists_those_there_are():
    with pytest.raises(ValueError, match="no recipe 'smaple': there are corpus, polylm_13b, polylm_1_7b, sample"):
        resolve("smaple")


def test_sources_are_added_at_the_end():
    assert list(resolve("sample", ["b=x.jsonl", "a=y.jsonl"]).sources) == ["sample", "b", "a"]


def test_every_value_says_where_it_comes_from():
    rows = {row["field"]: row for row in origins("sample", changes=["floors.lowest=0.4"])}
    assert (rows["floors.lowest"]["origin"], rows["floors.lowest"]["value"]) == ("option", 0.4)
    assert rows["ingest.part_rows"]["origin"] == "recipe"
    assert (rows["floors.highest"]["origin"], rows["floors.highest"]["source"]) == (
        "default",
        "FineWeb2 (arXiv 2506.20920)",
    )


def test_an_adopted_file_is_known_by_its_content(tmp_path):
    model = tmp_path / "own.bin"
    model.write_bytes(FASTTEXT + b"a model")
    settings = Settings(models=tmp_path / "models")
    adopted = resolve("sample", changes=[f"language_model={model}"], settings=settings).language_model
    assert (settings.models / adopted.name).read_bytes() == FASTTEXT + b"a model"
    model.rename(tmp_path / "kept.bin")
    model.write_bytes(FASTTEXT + b"another model of that name")
    other = resolve("sample", changes=[f"language_model={model}"], settings=settings).language_model
    assert other.sha256 != adopted.sha256


def test_a_file_that_a_recipe_may_do_without_is_set_by_its_path_too(tmp_path):
    (tmp_path / "scorer.zip").write_bytes(b"PK\x03\x04 a model")
    settings = Settings(models=tmp_path / "models")
    change = f"score_model={tmp_path / 'scorer.zip'}"
    assert resolve("sample", changes=[change], settings=settings).score_model.name == "scorer.zip"
    assert resolve("sample", changes=["score_model=null"], settings=settings).score_model is None


def test_a_model_whose_old_place_is_gone_is_taken_from_the_new_one(tmp_path):
    settings = Settings(models=tmp_path / "models")
    for place in ("old", "new"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "own.bin").write_bytes(FASTTEXT)
        adopted = resolve("sample", changes=[f"language_model={tmp_path / place / 'own.bin'}"], settings=settings)
        assert (settings.models / adopted.language_model.name).read_bytes() == FASTTEXT
        (tmp_path / place / "own.bin").unlink()


def test_the_files_of_a_list_are_set_by_their_paths_too(tmp_path):
    (tmp_path / "words.txt").write_text("fie")
    settings = Settings(models=tmp_path / "models")
    change = json.dumps([{"language": "sv", "file": str(tmp_path / "words.txt")}])
    [one] = resolve("sample", changes=[f"toxicity.lists={change}"], settings=settings).toxicity.lists
    assert (settings.models / one.file.name).read_text() == "fie"
    named = json.dumps([{"language": "sv", "file": one.file.model_dump()}])
    assert resolve("sample", changes=[f"toxicity.lists={named}"], settings=settings).toxicity.lists == (one,)
    with pytest.raises(ValueError, match=r"nowhere\.txt is no file"):
        resolve("sample", changes=['toxicity.lists=[{"language": "sv", "file": "nowhere.txt"}]'], settings=settings)


def test_a_file_of_another_kind_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "own.bin").write_bytes(b"PK\x03\x04")
    settings = Settings(models=tmp_path / "models")
    for field, expected in (("language_model", "a model of fastText"), ("instruct_model", "a GGUF file")):
        with pytest.raises(ValueError, match=rf"own.bin begins with b'PK.*; {field} is {expected}"):
            resolve("sample", changes=[f"{field}={tmp_path / 'own.bin'}"], settings=settings)
    assert not settings.models.exists()


def test_recipes_survive_json():
    for name, recipe in all_recipes().items():
        assert Recipe.model_validate_json(recipe().model_dump_json()) == recipe(), name
