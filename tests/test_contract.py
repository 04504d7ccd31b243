"""What every stage promises, checked on all that are found: nobody adds a stage without being asked these questions."""

import inspect
import re

import pyarrow as pa
import pytest
from pydantic_core import PydanticUndefined

from polylm.tasks.rules import Rules
from polylm.tasks.stage import DOC, REASON, Params, Stage, all_stages

STAGES = {stage.name: stage for stage in all_stages()}
PARAMS = {stage.params.__name__: stage.params for stage in STAGES.values()}
each_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
each_params = pytest.mark.parametrize("params", PARAMS.values(), ids=PARAMS)


@each_stage
def test_its_summary_is_a_sentence(stage: Stage):
    assert re.fullmatch(r"[A-Z].*\.", stage.summary)
    assert len(stage.summary) <= 120
    assert stage.version >= 1


@each_stage
def test_it_has_one_name_and_is_found_where_it_was_written(stage: Stage):
    assert [other.name for other in all_stages()].count(stage.name) == 1
    assert re.fullmatch(r"[a-z][a-z0-9_]*", stage.name)
    assert stage.function.__module__.count(".") >= 3, "stages live in phase folders, machinery beside them"


@each_stage
def test_it_reads_each_column_once_and_writes_none_that_it_may_not(stage: Stage):
    assert len(set(stage.reads)) == len(stage.reads)
    if stage.writes is None:
        assert stage.kind == "files"
        return
    assert len(set(stage.writes.names)) == len(stage.writes.names)
    if stage.kind == "gate":
        assert stage.writes.names == [REASON]
    if stage.kind == "measure":
        assert REASON not in stage.writes.names, "a measure looks at no verdict, and gives none"
        assert stage.reads, "a measure reads the rows that it annotates"
        assert DOC not in stage.writes.names, "a document's number is its place"


@each_stage
def test_its_first_argument_is_what_it_reads_and_then_come_the_params(stage: Stage):
    names = list(inspect.signature(stage.function).parameters)
    assert names.index("params") == (1 if stage.reads or stage.each == "file" else 0)
    expected = {"measure": "rows", "gate": "rows"}.get(stage.kind, "rows" if stage.each == "part" else "corpus")
    if stage.reads:
        assert names[0] == expected
    if stage.each == "band":
        assert "job" in names
    if stage.writes is None:
        assert "work" in names


@each_stage
def test_a_gate_gives_rules_and_reads_no_verdict(stage: Stage):
    if stage.kind == "gate":
        assert inspect.signature(stage.function).return_annotation in (Rules, "Rules")
        assert REASON not in stage.reads
        assert stage.each == "part"


@each_stage
def test_only_what_may_differ_between_machines_is_not_reproducible(stage: Stage):
    if not stage.reproducible:
        assert stage.kind == "files"


@each_stage
def test_library_versions_are_known(stage: Stage):
    assert stage.library_versions().keys() == set(stage.libraries)


def test_every_measured_column_is_written_by_one_measure_only():
    """But the text, which `ingest` writes and `clean` cuts."""
    writers: dict[str, list[str]] = {}
    for stage in STAGES.values():
        if stage.kind == "measure" and stage.writes is not None:
            for name in stage.writes.names:
                writers.setdefault(name, []).append(stage.name)
    assert {name: stages for name, stages in writers.items() if len(stages) > 1} == {}


@each_params
def test_params_are_complete_and_frozen_and_refuse_unknown_names(params: type[Params]):
    made = params()
    assert params.model_config["frozen"]
    assert params.model_config["extra"] == "forbid"
    assert params.model_validate_json(made.model_dump_json()) == made
    assert params.model_validate(made.model_dump(mode="json")).model_dump_json() == made.model_dump_json()
    with pytest.raises(ValueError, match="Extra inputs"):
        params(no_such_field=1)


@each_params
def test_every_field_is_explained_and_has_a_default_within_its_bounds(params: type[Params]):
    for name, field in params.model_fields.items():
        assert field.description, f"{params.__name__}.{name} has no description"
        assert field.description.endswith("."), f"{params.__name__}.{name}: a description is a sentence"
        assert field.default is not PydanticUndefined or field.default_factory is not None
    params.model_validate(params().model_dump())


@each_params
def test_no_field_is_a_set_or_a_path(params: type[Params]):
    for name, field in params.model_fields.items():
        assert "set[" not in str(field.annotation), f"{name}: a set has no order, so its JSON has no key"
        assert "Path" not in str(field.annotation), f"{name}: what comes by path is adopted or ingested"


def test_small_integers_code_labels():
    """Labels are dictionary-encoded with signed indices, which every reader of Parquet gives back."""
    for stage in STAGES.values():
        for field in stage.writes or ():
            if pa.types.is_dictionary(field.type):
                assert field.type.index_type in (pa.int8(), pa.int16(), pa.int32()), f"{stage.name}.{field.name}"
