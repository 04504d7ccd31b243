"""What the training stages ask of their inputs, before any rank starts, and how ranks are laid out."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from polylm.deployments.settings import Placement
from polylm.model.rows import packed_schema
from polylm.tasks.stage import Progress, StageError, Workspace
from polylm.tasks.tokens.curriculum import CurriculumParams, SegmentParams, plan_curriculum
from polylm.tasks.tokens.pack import Documents, pack_documents
from polylm.tasks.training.placement import find_hosts, host_names, lay_out
from polylm.tasks.training.train import ModelParams, TrainParams, finetune, initialize, pretrain

CONTEXT, BATCH = 16, 4
PARAMS = {"batch": BATCH, "precision": "fp32", "checkpoint_every": 2}


@pytest.fixture
def work(tmp_path):
    for name in ("out", "scratch", "shared"):
        (tmp_path / name).mkdir()
    return Workspace(tmp_path / "out", tmp_path / "scratch", tmp_path / "shared")


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A file of rows in two cells."""
    count = 40
    documents = Documents.of(
        tokens=pa.array([[5 + i, 6 + i, 7 + i] for i in range(count)], pa.list_(pa.int32())),
        docs=pa.array(range(count), pa.int64()),
        languages=pa.array(["en", "de"] * (count // 2)),
        cells=pa.array(["en/web", "de/web"] * (count // 2)),
    )
    path = tmp_path_factory.mktemp("packed") / "a.parquet"
    pq.write_table(pack_documents(documents, context=CONTEXT, separator=0, seed=0), path)
    return path


@pytest.fixture(scope="module")
def plan(packed):
    segments = (
        SegmentParams(name="first", steps=3, non_english=0.5),
        SegmentParams(name="second", steps=1, non_english=1),
    )
    return plan_curriculum(CurriculumParams(segments=segments, batch=BATCH), packed)


def started(work):
    """Whether anything was put where ranks would read and write."""
    return any(work.scratch.iterdir()) or any(work.out.iterdir())


def test_a_segment_that_the_curriculum_lacks_is_named_with_those_that_it_has(plan, packed, work):
    params = TrainParams(segment="third", steps=3, **PARAMS)
    with pytest.raises(StageError, match=r"^pretrain: the curriculum has no segment 'third'; it has first, second$"):
        pretrain(params, plan, {"a": packed}, {}, work.scratch, work)
    assert not started(work)


@pytest.mark.parametrize(("segment", "steps", "batch", "rows"), [("first", 4, 4, 12), ("second", 1, 8, 4)])
def test_steps_and_batch_that_are_not_the_curriculums_are_refused(plan, packed, work, segment, steps, batch, rows):
    params = TrainParams(segment=segment, steps=steps, batch=batch)
    with pytest.raises(
        StageError,
        match=rf"^pretrain {segment}: {steps} steps of {batch} rows are not the {rows} rows of the curriculum; "
        "set steps and batch alike in both$",
    ):
        pretrain(params, plan, {"a": packed}, {}, work.scratch, work)
    assert not started(work)


def test_no_packed_instruction_is_an_error_that_says_where_to_look(work, tmp_path):
    pq.write_table(packed_schema(CONTEXT).empty_table(), tmp_path / "none.parquet")
    with pytest.raises(StageError, match="there is no packed instruction; check the report of generate_instructions"):
        finetune(TrainParams(segment="finetune", **PARAMS), {"a": tmp_path / "none.parquet"}, work.scratch, work)
    assert not started(work)


def test_a_batch_that_does_not_divide_over_the_copies_names_the_setting():
    with pytest.raises(ValueError, match=r"^batch: 9 rows do not divide over POLYLM_DATA_PARALLEL=2 copies$"):
        lay_out(Placement(data_parallel=2), 9)


@given(data=st.integers(1, 8), own=st.integers(1, 64), most=st.integers(1, 64), tensor=st.integers(1, 4))
def test_the_micro_batch_is_the_largest_that_divides_what_a_copy_gets(data, own, most, tensor):
    placement = Placement(data_parallel=data, tensor_parallel=tensor, micro_batch=most, zero_stage=2, threads=3)
    layout = lay_out(placement, data * own)
    assert layout.micro_batch == max(size for size in range(1, own + 1) if own % size == 0 and size <= most)
    assert (layout.ranks, layout.zero_stage, layout.threads) == (data * tensor, 2, 3)


def test_the_devices_of_the_settings_do_not_change_the_layout():
    assert lay_out(Placement(devices=8), 32) == lay_out(Placement(), 32)


def test_a_hostfile_and_a_list_name_the_same_hosts(tmp_path):
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("node1 slots=8\n# a comment\n\nme@node2   # slots=8\n")
    assert host_names(str(hostfile)) == host_names("node1, me@node2") == ("node1", "me@node2")
    assert find_hosts(Placement(hosts="node1,node2", port=2_000, launcher="srun"), 4).launcher == "srun"
    assert find_hosts(Placement(), 4) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hosts": "a,-oProxyCommand=x"}, "'-oProxyCommand=x' is no host name"),
        ({"hosts": "a,b c"}, "'b c' is no host name"),
        ({"hosts": "a,b,a"}, "names a host twice: a, b, a"),
        ({"hosts": "/no/such/file"}, "there is no hostfile /no/such/file"),
        (
            {"hosts": "a,b,c"},
            r"4 ranks \(POLYLM_TENSOR_PARALLEL x POLYLM_DATA_PARALLEL\) are not even on 3 hosts: a, b, c",
        ),
        ({"hosts": "a,b", "devices": 1}, "2 ranks a host .* need 2 GPUs; POLYLM_DEVICES=1"),
        ({"devices": 3}, "4 ranks a host .* need 4 GPUs; POLYLM_DEVICES=3"),
    ],
)
def test_hosts_that_cannot_be_are_refused_by_name(changes, reason):
    with pytest.raises(ValueError, match=reason):
        find_hosts(Placement(**changes), 4)


def test_where_it_runs_is_no_parameter():
    assert not {"data_parallel", "tensor_parallel", "micro_batch", "devices", "threads"} & set(TrainParams.model_fields)
    with pytest.raises(ValidationError, match="micro_batch"):
        TrainParams(micro_batch=4)


@pytest.mark.ranks
def test_a_training_tells_its_steps_and_its_loss(plan, packed, work, tmp_path):
    from tokenizers import Tokenizer, models

    tokenizer = Tokenizer(models.BPE())
    tokenizer.add_special_tokens([f"<{number}>" for number in range(50)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    shape = {"layers": 1, "width": 8, "heads": 2, "feed_forward": 16, "context": CONTEXT}
    (tmp_path / "start").mkdir()
    initialize(ModelParams(**shape), tmp_path, Workspace(tmp_path / "start", work.scratch, work.shared))
    pretrain(TrainParams(segment="first", steps=3, **PARAMS), plan, {"a": packed}, {}, tmp_path / "start", work)
    told = Progress.of_job(work.scratch)
    assert (told.done, told.of) == (3, 3)
    assert re.fullmatch(r"loss \d\.\d{3}, [\d,]+ tokens/s", told.more)


@pytest.mark.ranks
def test_weights_before_the_first_step_have_the_tokenizers_vocabulary_and_follow_the_seed(work, tmp_path):
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer, models

    tokenizer = Tokenizer(models.BPE())
    tokenizer.add_special_tokens([f"<{number}>" for number in range(37)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    shape = {"layers": 2, "width": 8, "heads": 2, "feed_forward": 16, "context": CONTEXT}
    found = {}
    for place, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / place).mkdir()
        mine = Workspace(tmp_path / place, work.scratch, work.shared)
        said = initialize(ModelParams(**shape, seed=seed), tmp_path, mine)
        found[place] = (tmp_path / place / "model.safetensors").read_bytes()
        weights = load_file(tmp_path / place / "model.safetensors")
        assert weights["tokens.weight"].shape == (37, 8)
        assert sum(weight.size for weight in weights.values()) == said["parameters"]
        assert json.loads((tmp_path / place / "config.json").read_text()) == {**shape, "vocabulary": 37}
    assert found["a"] == found["b"] != found["c"]
