"""The work pools' templates: Prefect takes them, and what a deployment sets arrives in the job."""

import importlib.util
import json
import re
from pathlib import Path

import jsonschema
import pytest
from prefect.client.schemas.actions import DeploymentCreate
from prefect.server.schemas.actions import WorkPoolCreate
from prefect.utilities.templating import apply_values
from prefect.workers.process import ProcessWorker
from samples import ROOT

from polylm.deployments.settings import Placement, Settings

FOLDER = ROOT / "deployments"
TEMPLATES = sorted((FOLDER / "work-pools").glob("*.json"))
SETTINGS = {f"POLYLM_{name.upper()}" for model in (Settings, Placement) for name in model.model_fields}
each_template = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)


def test_there_is_a_template_for_each_kind_of_pool():
    assert [path.stem for path in TEMPLATES] == ["docker", "kubernetes", "process"]


def fields_of(kind):
    """What a worker of this kind takes, as Prefect's server knows it."""
    if kind == "process":
        return set(ProcessWorker.get_default_base_job_template()["job_configuration"])
    spec = importlib.util.find_spec("prefect.server.api.collections_data")
    views = Path(next(iter(spec.submodule_search_locations))) / "views" / "aggregate-worker-metadata.json"
    worker = json.loads(views.read_text())[f"prefect-{kind}"][kind]
    # Younger than the server's list, and in prefect-docker's DockerWorkerJobConfiguration.
    later = {"container_create_kwargs"} if kind == "docker" else set()
    return set(worker["default_base_job_configuration"]["job_configuration"]) | later


@each_template
def test_a_template_is_one_that_the_server_takes_and_the_worker_knows(path):
    template = json.loads(path.read_text())
    WorkPoolCreate(name="pool", type=path.stem, base_job_template=template)  # refuses variables that are not declared
    assert set(template["job_configuration"]) <= fields_of(path.stem)


@each_template
def test_every_variable_is_used_and_explained_and_its_default_is_valid(path):
    template = json.loads(path.read_text())
    variables = template["variables"]
    jsonschema.Draft202012Validator.check_schema(variables)
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    assert set(variables["properties"]) == used
    for name, schema in variables["properties"].items():
        assert schema["description"].endswith("."), name
        if "default" in schema:
            jsonschema.validate(schema["default"], schema)
    for name in variables["properties"]["env"]["default"]:
        assert name in SETTINGS


@each_template
def test_a_deployment_sets_the_image_the_store_and_the_gpus(path):
    """What our deployments give is taken, a slip is refused where it has a wrong type, and values arrive in the job."""
    template = json.loads(path.read_text())
    given = {"process": {"working_dir": "/data"}}.get(path.stem, {"image": "ours:1.2.3", "store": "big", "gpus": 2})
    DeploymentCreate(
        name="d", flow_id="0" * 8 + "-0000-0000-0000-" + "0" * 12, job_variables=given
    ).check_valid_configuration(template)
    defaults = {name: s["default"] for name, s in template["variables"]["properties"].items() if "default" in s}
    job = apply_values(template["job_configuration"], defaults | given)
    if path.stem == "process":
        assert job["working_dir"] == "/data"
    elif path.stem == "docker":
        assert job["image"] == "ours:1.2.3"
        assert job["volumes"] == ["big:/data/store"]
        assert job["container_create_kwargs"]["device_requests"][0]["count"] == 2
    else:
        pod = job["job_manifest"]["spec"]["template"]["spec"]
        assert pod["containers"][0]["image"] == "ours:1.2.3"
        assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 2
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "big"
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
