"""compose.yaml, without Docker: every image, volume, service, variable, module and pool in it is one that exists."""

import importlib.util
import re

import pytest
import yaml
from prefect.settings.legacy import _get_valid_setting_names
from prefect.settings.models.root import Settings as PrefectSettings
from samples import ROOT

from polylm.deployments.settings import Placement, Settings

FOLDER = ROOT / "deployments"
SETTINGS = {f"POLYLM_{name.upper()}" for model in (Settings, Placement) for name in model.model_fields}
OWN_VARIABLES = {"PWD", "POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"}  # of the shell, and of Postgres's image


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


SERVICE_KEYS = {
    "image",
    "restart",
    "working_dir",
    "command",
    "environment",
    "volumes",
    "healthcheck",
    "ports",
    "depends_on",
    "init",
    "stop_grace_period",
    "shm_size",
    "network_mode",
    "read_only",
    "tmpfs",
}


def test_compose_has_the_four_services_and_only_keys_that_compose_knows(compose):
    assert set(compose) <= {"name", "services", "volumes", "x-polylm", "x-client"}
    assert {"database", "prefect", "worker", "dashboard"} <= set(compose["services"])
    for name, service in compose["services"].items():
        assert set(service) <= SERVICE_KEYS, name
        assert not (set(service.get("ports", [])) and service.get("network_mode") == "host"), name


def test_images_are_pinned(compose):
    for service in compose["services"].values():
        assert re.fullmatch(r"(\$\{POLYLM_IMAGE:-)?[a-z]+:\d+\.\d+[a-z0-9.-]*\}?", service["image"]), service["image"]


def test_volumes_and_services_that_are_named_exist_and_what_is_awaited_is_checked(compose):
    services = compose["services"]
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume.rsplit(":", 2 if volume.endswith(":ro") else 1)[0]
            assert source in compose["volumes"] or source.startswith(("${", "./", "/")), (name, volume)
        for other, how in service.get("depends_on", {}).items():
            assert other in services
            if how["condition"] == "service_healthy":
                assert services[other]["healthcheck"]["test"][0] == "CMD"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert services[other]["restart"] == "no"
    mounted = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert set(compose["volumes"]) <= mounted


def test_environment_variables_are_fields_of_ours_or_of_prefect(compose):
    known = SETTINGS | _get_valid_setting_names(PrefectSettings) | OWN_VARIABLES
    used = {name for service in compose["services"].values() for name in service.get("environment", {})}
    assert {"POLYLM_STORE", "PREFECT_API_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL"} <= used
    assert used <= known
    values = [v for service in compose["services"].values() for v in service.get("environment", {}).values()]
    assert all(isinstance(value, str) for value in values)  # YAML's false is not "false"


def test_only_this_machine_reaches_what_is_published(compose):
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_no_password_stands_in_the_file(compose):
    text = (FOLDER / "compose.yaml").read_text()
    assert re.findall(r"PASSWORD: (\S+)", text) == ["${POSTGRES_PASSWORD:?choose"]
    assert re.findall(r"://\w+:([^@\s]+)@", text) == ["${POSTGRES_PASSWORD}"]


def test_modules_and_pools_of_commands_exist(compose):
    pools = {
        deployment["work_pool"]["name"]
        for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    }
    words = [" ".join(service["command"]) for service in compose["services"].values() if "command" in service]
    for module in re.findall(r"-m (polylm\S+)", " ".join(words)):
        assert importlib.util.find_spec(f"{module}.__main__"), module
    made = set(re.findall(r"work-pool create (\w+)", " ".join(words)))
    assert pools <= made
    assert set(re.findall(r"--pool (\w+)", " ".join(words))) <= made
