"""Shapes and jobs."""

import pytest
from pydantic import ValidationError

from polylm.model.config import ModelConfig, Placement, TrainJob, write_job
from polylm.model.network import Network


@pytest.mark.parametrize(
    ("layers", "width", "heads", "parameters"), [(24, 2048, 16, 1_737_084_928), (40, 5120, 40, 13_906_790_400)]
)
def test_counts_the_parameters_of_the_papers_models(layers, width, heads, parameters):
    config = ModelConfig(
        layers=layers, width=width, heads=heads, feed_forward=4 * width, vocabulary=256_000, context=2048
    )
    assert config.parameters() == parameters


def test_the_count_is_that_of_the_network(tiny):
    assert sum(value.numel() for value in Network(tiny).parameters()) == tiny.parameters()


def test_a_job_survives_its_json(make_job, tmp_path):
    job = make_job(skip=[(2, 3)])
    path = write_job(job, tmp_path / "new" / "job.json")
    assert TrainJob.model_validate_json(path.read_text()) == job


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 6, "placement": Placement(micro_batch=4)}, "6 rows do not divide into micro_batch 4"),
        ({"batch": 6, "placement": Placement(micro_batch=2, tensor_parallel=3)}, "3 does not divide heads = 4"),
        ({"skip": [(4, 3)]}, "0 <= first <= last"),
        ({"rank": 1}, "Extra inputs are not permitted"),
        ({"segments": []}, "at least 1 item"),
    ],
)
def test_a_job_that_cannot_run_says_why(make_job, changes, message):
    with pytest.raises(ValidationError, match=message):
        make_job(**changes)


def test_heads_must_divide_the_width():
    with pytest.raises(ValidationError, match="3 heads do not divide a width of 32"):
        ModelConfig(layers=1, width=32, heads=3, feed_forward=8, vocabulary=16, context=8)
