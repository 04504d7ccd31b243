"""A recipe as a command asks for it: sources added, fields set, files adopted, and what is refused."""

import json
import re

import pytest

from polylm.deployments.settings import Settings
from polylm.flows.recipe_options import origins, resolve
from polylm.flows.recipes import SAMPLE

DOCUMENTS = f"mine={SAMPLE / 'documents.jsonl.gz'}"
FASTTEXT = b"\xba\x16\x4f\x2f"  # how its models begin


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
        ("text.thresholds.th.dup_line_frac=7", "th.dup_line_frac is 7: a number from 0 to 1 was expected"),
        ("text.thresholds.*.gopher_short_doc=-3", "*.gopher_short_doc is -3: a number from 0 on was expected"),
        ("floors.lowest=0.95", "floors: lowest is 0.95, highest 0.9; expected lowest <= highest"),
        ("cutoffs.head=0.7", "head is 0.7, middle 0.6; expected head <= middle"),
        ("classifier.seed=9223372036854775807", "classifier.seed: Input should be less than 2147483648"),
        ("bands.seed=4294967296", "bands.seed: Input should be less than 4294967296"),
        (f"split.seed={'9' * 5_000}", "5,000 characters of JSON that cannot be read"),
        (f"wanted.languages={'[' * 100_000}", "100,000 characters of JSON that cannot be read"),
        ("wanted.languages=en,zho", "'zho' is no language here; labels say 'zh'"),
        ("wanted.languages=EN", "'EN' is no language here; labels say 'en'"),
        ("floors.own.zh-Hant=0.5", "'zh-Hant' is no language here; labels say 'zh'"),
        ("text.thresholds.ENG.dup_line_frac=0.5", "'ENG' is no language here; labels say 'en'"),
        ("pack.split=test", "pack.split: Input should be 'train' or 'valid', found \"test\""),
    ],
)
def test_a_wrong_change_is_refused_with_what_was_found_and_expected(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        resolve("sample", changes=[change])


def test_a_table_by_language_takes_new_languages():
    changes = ["floors.own.uk=0.6", "text.thresholds.uk.dup_line_frac=0.2", "sources.sample.fields.text=content"]
    recipe = resolve("sample", changes=changes)
    assert recipe.floors.own["uk"] == 0.6
    assert recipe.text.thresholds["uk"] == {"dup_line_frac": 0.2}
    assert recipe.sources["sample"].fields == {"text": "content"}


@pytest.mark.parametrize(("text", "languages"), [("uk", ("uk",)), ("sv,uk", ("sv", "uk")), ('["sv"]', ("sv",))])
def test_a_list_may_be_given_as_words_with_commas(text, languages):
    assert resolve("sample", changes=[f"wanted.languages={text}"]).wanted.languages == languages


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
