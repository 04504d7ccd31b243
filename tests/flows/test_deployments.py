"""What `prefect.yaml` deploys exists, is spelled right and fits the flow's form; where a server is looked for."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel, WorkPoolConfig
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.schema_tools.validation import ValidationError as Refused
from prefect.utilities.schema_tools.validation import validate
from prefect.workers.process import ProcessJobConfiguration
from pydantic import ValidationError

from polylm.flows.deployed import DATA_STAGES, NEED_SOURCES, Approval, CorpusRequest, RunRequest
from polylm.flows.recipe_options import resolve
from polylm.flows.recipes import all_recipes
from polylm.tasks.maintenance.files import read_json
from polylm.tasks.stage import all_stages

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
    assert validate(deployment["parameters"], dict(flow.parameters), ignore_required=True) == []


def test_a_slip_in_a_parameter_is_an_error():
    flow = load_flow_from_entrypoint("polylm.flows.deployed.polylm")
    with pytest.raises(Exception, match="recipes"):
        flow.validate_parameters({"request": {"recipes": "sample"}})
    with pytest.raises(ValidationError, match="workers"):
        RunRequest(workers=-1)


def test_the_form_offers_every_recipe():
    assert set(get_args(RunRequest.model_fields["recipe"].annotation)) == set(all_recipes())


def test_the_last_stage_is_chosen_among_those_of_the_deployment_in_their_order(third_store):
    enum = {model: model.model_json_schema()["properties"]["until"]["enum"] for model in (RunRequest, CorpusRequest)}
    (record,) = map(read_json, third_store.glob("runs/*.json"))
    ran = [entry["stage"] for entry in record["stages"]]
    assert [stage for stage in enum[CorpusRequest] if stage in ran] == ran
    assert enum[CorpusRequest] == ["", *DATA_STAGES] == enum[RunRequest][: len(DATA_STAGES) + 1]
    assert sorted(enum[RunRequest]) == sorted(["", *(stage.name for stage in all_stages())])


def test_white_space_around_names_and_paths_is_left_out():
    request = RunRequest(sources=[" mine = a b/c \n"], languages=["en\n"], changes=["text.rules = c4\t"], store=" s\n")
    assert (request.sources, request.languages, request.changes) == (["mine=a b/c"], ["en"], ["text.rules=c4"])
    assert request.store == "s"


def is_taken(form, **values):
    try:
        return validate({**values}, form.model_json_schema(), raise_on_error=True) == []
    except Refused:
        return False


@pytest.mark.parametrize("recipe", sorted(all_recipes()))
def test_the_form_asks_for_a_source_where_the_recipe_needs_one(recipe):
    try:
        resolve(recipe)
    except ValueError:
        assert recipe in NEED_SOURCES
    else:
        assert recipe not in NEED_SOURCES
    assert (
        is_taken(RunRequest, recipe=recipe) == is_taken(RunRequest, recipe=recipe, sources=[]) == (recipe == "sample")
    )
    assert is_taken(RunRequest, recipe=recipe, sources=["mine=folder"])
    assert is_taken(RunRequest, recipe=recipe, changes=["sources.mine.path=folder"])
    assert is_taken(CorpusRequest, recipe=recipe, sources=["mine=folder"]) == (recipe == "corpus")
    assert not is_taken(CorpusRequest)


@pytest.mark.parametrize("reason", ["", "...", "\u200b\u200b\u200b", "\0\0\0a", "a test\x1b[2J"])
def test_an_approval_needs_a_reason_in_words(reason):
    assert not is_taken(Approval, approve=True, reason=reason)
    with pytest.raises(ValidationError, match="reason"):
        Approval(approve=True, reason=reason)


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
