import pytest
from pydantic import ValidationError

from polylm.tasks.evaluation.byte_models import ByteModelParams, train_byte_models
from polylm.tasks.evaluation.evaluate import EvaluateParams, evaluate
from polylm.tasks.evaluation.languages import EvaluationError
from polylm.tasks.evaluation.table import EVALUATION, NOT_RUN

SMALL = EvaluateParams(
    models=("base", "tuned"), languages=("en", "th"), items=2, paragraphs=3, continuations=2, directions=("en-de",),
    translations=2, max_new_tokens=8, resamples=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def byte_folders(tmp_path_factory, make_workspace, make_corpus):
    """Without text, so that no lmplz is needed: every byte is guessed."""
    folders = {}
    for code in SMALL.languages:
        work = make_workspace(tmp_path_factory.mktemp("bytes") / code)
        train_byte_models(make_corpus({"fr": ["rien"]}), ByteModelParams(languages=(code,)), work=work, job=code)
        folders[code] = work.out
    return folders


@pytest.mark.parametrize("job", ["bits", "understanding", "knowledge", "translation"])
def test_every_task_gives_rows_of_one_schema_for_both_models(job, exported, byte_folders, tmp_path):
    table = evaluate(SMALL, byte_folders, tmp_path / "no-identifier", exported, exported, job=job)
    assert table.schema == EVALUATION
    rows = table.to_pylist()
    base = [row | {"model": ""} for row in rows if row["model"] == "base"]
    tuned = [row | {"model": ""} for row in rows if row["model"] == "tuned"]
    assert len(base) == len(tuned) > 0
    if job != "translation":  # where the tuned one is asked in its chat form
        assert base == tuned
    assert all(row["value"] is not None and row["chance"] is not None and row["n"] for row in rows)


def test_bits_stand_beside_those_of_byte_models(exported, byte_folders, tmp_path):
    table = evaluate(SMALL, byte_folders, tmp_path, exported, exported, job="bits").to_pylist()
    values = {(row["model"], row["language"]): row["value"] for row in table}
    assert values["byte unigram", "mean"] == values["byte 5-gram", "th"] == pytest.approx(8)
    assert ("base", "en") in values


def test_the_number_of_exports_must_be_that_of_the_models(exported, byte_folders, tmp_path):
    with pytest.raises(EvaluationError, match=r"1 exported folders for the models base, tuned"):
        evaluate(SMALL, byte_folders, tmp_path, exported, job="bits")


def test_a_language_without_byte_model_is_named(exported, byte_folders, tmp_path):
    with pytest.raises(EvaluationError, match=r"no byte model of th"):
        evaluate(SMALL, {"en": byte_folders["en"]}, tmp_path, exported, exported, job="bits")


def test_a_chat_model_must_be_among_the_models():
    with pytest.raises(ValidationError, match=r"chat: sft is not among the models base"):
        EvaluateParams(models=("base",), chat=("sft",))


def test_a_language_without_texts_is_refused_before_anything_runs():
    with pytest.raises(ValidationError, match=r"'xx' has no evaluation texts"):
        EvaluateParams(languages=("xx",))


def test_categories_that_were_not_run_are_those_of_the_paper():
    assert {task for _, task, _ in NOT_RUN} == {"XNLI", "PAWS-X", "XWinograd", "TyDiQA-GoldP", "MTG", "WMT20"}
