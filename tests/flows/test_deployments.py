"""What `prefect.yaml` deploys exists, is spelled right and fits the flow's form; where a server is looked for."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel, WorkPoolConfig
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.workers.process import ProcessJobConfiguration
from pydantic import ValidationError

from polylm.flows.deployed import RunRequest
from polylm.flows.recipes import all_recipes

ROOT = Path(__file__).resolve().parents[2]
DEPLOYED = yaml.safe_load((ROOT / "prefect.yaml").read_text())
RECIPES = {"sample": "sample", "corpus": "corpus", "nightly": "corpus", "train": "polylm_1_7b"}
each_deployment = pytest.mark.parametrize("deployment", DEPLOYED["deployments"], ids=lambda entry: entry["name"])


def names(model):
    """The keys that a part of `prefect.yaml` may have; Prefect itself ignores the others without a word."""
    return {alias for name, field in model.model_fields.items() for alias in (name, field.alias) if alias}


def test_every_key_is_one_that_prefect_knows():
    assert set(DEPLOYED) <= names(PrefectYamlModel) | {"pull", "definitions"}
    for entry in DEPLOYED["deployments"]:
        assert set(entry) <= names(DeploymentConfig)
        assert set(entry["work_pool"]) <= names(WorkPoolConfig)
        assert set(entry["work_pool"]["job_variables"]) <= names(ProcessJobConfiguration)


@each_deployment
def test_the_entry_point_is_a_flow_in_a_module(deployment):
    assert ":" not in deployment["entrypoint"]  # a file's functions would have other module names in workers
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    assert isinstance(flow, Flow)
    assert flow.name == DEPLOYED["name"]


@each_deployment
def test_the_parameters_fit_the_form(deployment):
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    request = flow.validate_parameters(deployment["parameters"])["request"]
    assert request.recipe == RECIPES[deployment["name"]]


def test_a_slip_in_a_parameter_is_an_error():
    flow = load_flow_from_entrypoint("polylm.flows.deployed.polylm")
    with pytest.raises(Exception, match="recipes"):
        flow.validate_parameters({"request": {"recipes": "sample"}})
    with pytest.raises(ValidationError, match="workers"):
        RunRequest(workers=-1)


def test_the_form_offers_every_recipe():
    assert set(get_args(RunRequest.model_fields["recipe"].annotation)) == set(all_recipes())


@pytest.mark.parametrize(
    ("profile", "variables", "named"),
    [
        ("", {}, "False False"),  # and Prefect, which takes seconds, is not imported to find that out
        ("", {"PREFECT_API_URL": "http://127.0.0.1:4200/api"}, "True True"),
        ('active = "lab"\n[profiles.lab]\nPREFECT_API_URL = "http://lab:4200/api"\n', {}, "True True"),
        ('active = "lab"\n[profiles.lab]\n[profiles.far]\nPREFECT_API_URL = "http://far/api"\n', {}, "False True"),
    ],
    ids=["nowhere", "variable", "active profile", "another profile"],
)
def test_a_server_is_named_by_prefects_own_settings(tmp_path, profile, variables, named):
    if profile:
        (tmp_path / "profiles.toml").write_text(profile)
    code = "import sys; from polylm.flows.prefect_server import server_named; print(server_named(), 'prefect' in sys.modules)"
    environment = {"HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", **variables}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == named
