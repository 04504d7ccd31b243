"""A language that nobody named in the code has its own 5-grams, percentiles and classifier; another one has none, and why."""

import random

import numpy as np
import pyarrow as pa
import pytest

from polylm.flows.recipes import Recipe
from polylm.tasks.corpus.classifier import ClassifierParams, train_classifier
from polylm.tasks.corpus.perplexity import QualityModelParams, train_quality_models
from polylm.tasks.corpus.quality import CutoffParams, filter_quality, fit_quality_cutoffs, score_quality
from polylm.tasks.keys import file_digest
from polylm.tasks.stage import NoParams, Workspace

WHO = ["Kungen", "Flickan", "Läraren", "Båten", "Grannen", "Hunden", "Älgen", "Bonden"]
DOES = ["ser", "köper", "målar", "söker", "glömmer", "bär", "hör", "väljer"]
WHAT = [
    "en röd stuga",
    "det gamla trädet",
    "många böcker",
    "ett långt brev",
    "sin bror",
    "den blå bilen",
    "havets vågor",
    "ingenting alls",
]
WHERE = ["vid sjön", "i skogen", "på torget", "under bron", "efter skolan", "före middagen", "varje morgon", "år 1987"]
SHOP = [
    "köp",
    "billigt",
    "nu",
    "klicka",
    "här",
    "gratis",
    "frakt",
    "rabatt",
    "erbjudande",
    "logga",
    "in",
    "varukorg",
    "cookies",
    "läs",
    "mer",
]
MODELS = QualityModelParams(min_reference_bytes=10_000, memory="32M")


def prose(draw):
    return " ".join(
        f"{draw.choice(WHO)} {draw.choice(DOES)} {draw.choice(WHAT)} {draw.choice(WHERE)}."
        for _ in range(draw.randrange(4, 9))
    )


def advert(draw):
    return " ".join(draw.choices(SHOP, k=draw.randrange(20, 60)))


@pytest.fixture(scope="module")
def swedish():
    """Parts of a corpus: 400 pages of prose, 400 of adverts, and a few lines in a language with no reference."""
    draw = random.Random(5)
    pages = [(prose(draw), "doc") for _ in range(400)] + [(advert(draw), "web") for _ in range(400)]
    draw.shuffle(pages)
    pages += [(f"bonjour {i}", "web") for i in range(5)]
    texts, kinds = zip(*pages, strict=True)
    languages = ["sv"] * 800 + ["fr"] * 5
    columns = {"text": texts, "kind": kinds, "language": languages}
    return [{name: pa.array(values[i : i + 100]) for name, values in columns.items()} for i in range(0, 805, 100)]


def made(stage, corpus, params, folder, language):
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True)
    return folder / "out", stage(corpus, params, Workspace(folder / "out", folder / "scratch", folder), language)


@pytest.fixture(scope="module")
def models(swedish, programs, tmp_path_factory):
    folder, metrics = made(train_quality_models, swedish, MODELS, tmp_path_factory.mktemp("sv") / "a", "sv")
    assert metrics["has_model"]
    return folder


@pytest.fixture(scope="module")
def scores(swedish, models, tmp_path_factory):
    folder, metrics = made(train_classifier, swedish, ClassifierParams(), tmp_path_factory.mktemp("sv") / "c", "sv")
    assert metrics["held_out_auc"] == [1.0, 1.0]
    return [score_quality(rows, NoParams(), {"sv": models}, {"sv": folder}) for rows in swedish]


def test_the_languages_are_those_that_the_recipe_wants_unless_it_names_its_own():
    recipe = Recipe()
    assert list(recipe.quality_models.covering(("en", "sv")).jobs()) == ["en", "sv"]
    assert list(ClassifierParams(languages=("th",)).covering(("en", "sv")).jobs()) == ["th"]


def test_reference_reads_better_than_adverts_in_a_new_language(swedish, scores):
    by_kind = {"doc": ([], []), "web": ([], [])}
    for rows, found in zip(swedish, scores, strict=True):
        for kind, language, *values in zip(
            rows["kind"].to_pylist(), rows["language"].to_pylist(), *(found[name].to_pylist() for name in ("perplexity", "classifier")),
            strict=True,
        ):  # fmt: skip
            assert (language == "fr") == (values[0] is None) == (values[1] is None)
            if language == "sv":
                for many, value in zip(by_kind[kind], values, strict=True):
                    many.append(value)
    assert max(by_kind["doc"][0]) < np.median(by_kind["web"][0])
    assert min(by_kind["doc"][1]) > 0.5 > max(by_kind["web"][1])


def test_a_new_language_has_its_own_percentiles_and_the_gate_keeps_their_shares(swedish, scores):
    corpus = [
        {**found, "language": rows["language"].dictionary_encode()} for rows, found in zip(swedish, scores, strict=True)
    ]
    cutoffs = fit_quality_cutoffs(corpus, CutoffParams())
    swedes = next(row for row in cutoffs.to_pylist() if row["language"] == "sv")
    values = np.array([value for found in scores for value in found["perplexity"].to_pylist() if value is not None])
    for name, share in (("head", 0.3), ("middle", 0.6), ("ceiling", 0.9)):
        assert (values <= swedes[name]).mean() == pytest.approx(share, abs=0.02)
    numbers = {
        name: corpus[0][name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in ("perplexity", "classifier")
    }
    rules = filter_quality({**corpus[0], **numbers}, NoParams(), cutoffs)
    assert 0 < rules["tail_perplexity"].broken.sum() < 30


def test_a_second_training_gives_the_same_bytes(swedish, models, tmp_path):
    again, _ = made(train_quality_models, swedish, MODELS, tmp_path / "b", "sv")
    names = sorted(path.name for path in models.iterdir())
    assert names == ["0.binary", "0.npz", "0.sp.model", "1.binary", "1.npz", "1.sp.model", "model.json"]
    assert [file_digest(again / name) for name in names] == [file_digest(models / name) for name in names]


def test_quantised_tries_score_by_their_own_numbers_and_are_another_model(swedish, models, tmp_path):
    params = MODELS.model_copy(update={"tables": "trie"})
    folder, metrics = made(train_quality_models, swedish, params, tmp_path / "t", "sv")
    assert (folder / "0.trie").stat().st_size < (models / "0.binary").stat().st_size / 2
    rows = swedish[0]
    trie, probing = (score_quality(rows, NoParams(), {"sv": where}, {}) for where in (folder, models))
    assert (
        set(trie["perplexity_model"].to_pylist()) == {metrics["model"]} != set(probing["perplexity_model"].to_pylist())
    )
    near = np.abs(np.log(trie["perplexity"].to_numpy()) - np.log(probing["perplexity"].to_numpy()))
    assert 0 < near.max() < 0.3


def test_a_language_with_too_little_text_has_no_classifier_and_the_record_says_why(swedish, tmp_path):
    folder, metrics = made(train_classifier, swedish, ClassifierParams(), tmp_path / "f", "fr")
    assert list(folder.iterdir()) == []
    assert metrics["why_none"] == "a fold has 0 examples of a class, 20 are needed"


def test_words_of_the_models_own_in_a_text_stop_no_training(tmp_path, programs):
    draw = random.Random(2)
    texts = [f"<s> {prose(draw)}</s><unk> <unk>x<s>" for _ in range(200)]
    rows = {"text": pa.array(texts), "kind": pa.array(["doc"] * 200), "language": pa.array(["sv"] * 200)}
    folder, metrics = made(train_quality_models, [rows], MODELS, tmp_path / "s", "sv")
    assert metrics["has_model"]
    assert score_quality(rows, NoParams(), {"sv": folder}, {})["perplexity"].null_count == 0
