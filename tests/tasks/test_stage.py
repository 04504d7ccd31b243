"""Declaring a stage: what its author must write, and what the declaration gives."""

import pickle

import pyarrow as pa
import pytest
import toy_stages

from polylm.tasks.stage import Field, NoParams, Params, StageError, all_stages, files, measure


def test_a_stage_is_called_as_the_pure_function_that_it_is():
    assert toy_stages.count({"text": pa.array(["aé"])}, NoParams()) == {"chars": [2], "vowels": [1]}


def test_a_stage_crosses_to_another_process_as_itself():
    assert pickle.loads(pickle.dumps(toy_stages.count)) is toy_stages.count


def test_a_stage_without_a_sentence_is_refused():
    with pytest.raises(StageError, match="no_sentence: its docstring begins with a sentence"):

        @measure(reads=[], writes={})
        def no_sentence(rows, params: NoParams):
            """no full stop"""


def test_a_stage_without_annotated_params_is_refused():
    with pytest.raises(StageError, match="bare: annotate `params` with a subclass of Params"):

        @files()
        def bare(params):
            """Take anything."""


def test_params_are_frozen_and_know_their_names():
    class Threshold(Params):
        floor: float = Field(0.5, ge=0, le=1, description="Lowest share.", source="ours", unit="share")

    with pytest.raises(ValueError, match="frozen"):
        Threshold().floor = 0.1
    with pytest.raises(ValueError, match="flor"):
        Threshold(flor=0.1)
    with pytest.raises(ValueError, match="less than or equal to 1"):
        Threshold(floor=2)
    schema = Threshold.model_json_schema()["properties"]["floor"]
    assert (schema["description"], schema["source"], schema["unit"]) == ("Lowest share.", "ours", "share")


def test_stages_are_found_by_looking_and_each_once():
    found = list(all_stages())
    assert len(found) == len(set(found))
    names = [stage.name for stage in found]
    assert len(names) == len(set(names))
    assert {"ingest", "clean", "drop_empty", "filter_text", "select"} <= set(names)


def test_only_gates_and_cheap_fits_run_in_a_plan():
    assert [s.name for s in vars(toy_stages).values() if hasattr(s, "runs_in_plan") and s.runs_in_plan] == [
        *("keep_labels", "fit_floors", "keep_long", "judge_maybe", "divide")
    ]
