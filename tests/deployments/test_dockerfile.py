"""The Dockerfile, without Docker: bases, sources and variables are there, and what it runs parses."""

import re
import shlex
import subprocess

from samples import ROOT

FOLDER = ROOT / "deployments"


def instructions():
    """The Dockerfile's instructions in order: name and rest, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line.strip() for line in re.sub(r"\\\n", " ", text).splitlines()]
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines if line]


def test_the_dockerfile_has_no_unknown_instruction_and_no_variable_that_it_does_not_declare():
    found = instructions()
    assert {name for name, _ in found} <= set(["ARG", "FROM", "ENV", "SHELL", "RUN", "WORKDIR", "COPY", "USER", "CMD"])
    declared = {rest.partition("=")[0] for name, rest in found if name == "ARG"} | {"PATH", "HOME"}
    declared |= {word.partition("=")[0] for name, rest in found if name == "ENV" for word in shlex.split(rest)}
    used = {variable for _, rest in found for variable in re.findall(r"\$\{?([A-Za-z_]+)", rest)}
    assert used <= declared


def test_base_images_are_pinned_and_each_device_has_one():
    stages, images = set(), []
    for rest in (rest for name, rest in instructions() if name == "FROM"):
        image, _, stage = rest.partition(" AS ")
        images += [] if image == "${DEVICE}" else [image]
        stages.add(stage)
    assert stages == {"cpu", "cuda", "polylm"}
    assert len(images) == 2
    for image in images:
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+-[a-z0-9.-]+", image), image


def test_every_file_that_is_copied_is_in_the_repository_and_not_ignored():
    kept = [line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"]
    copied = [source for name, rest in instructions() if name == "COPY" for source in rest.split()[:-1]]
    assert len(copied) >= 10
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert sorted(copied) == sorted(kept)


def test_every_link_of_the_package_leads_to_a_folder_that_is_copied():
    copied = {source for name, rest in instructions() if name == "COPY" for source in rest.split()[:-1]}
    links = {path.name for path in (ROOT / "polylm").iterdir() if path.is_symlink()}
    assert links
    assert links <= copied


def test_the_image_does_not_run_as_root_and_is_built_by_targets_of_the_makefile():
    found = instructions()
    assert [rest for name, rest in found if name == "USER"] == ["1000"]
    targets = set(re.findall(r"\bmake ([a-z]+)\b", " ".join(rest for name, rest in found if name == "RUN")))
    makefile = (ROOT / "Makefile").read_text()
    assert {"packages", "cache"} <= targets
    assert [target for target in targets - {"install"} if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_its_shell_commands_parse():
    for script in (rest for name, rest in instructions() if name == "RUN"):
        subprocess.run(["sh", "-n", "-c", script], check=True)
