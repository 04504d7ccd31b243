"""The store that is treated badly: the whole flow on a third of the sample's documents, small, run once undisturbed."""

import os
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samples import HELPERS, environment, third_records, write_jsonl
from whole import Whole, contents, load_scripted

Contents = Mapping[str, Mapping[str, str]]
_CLEAR_CODES = (1, 2, 4, 5, 130, 143)


@contextmanager
def undisturbed(folder: Path) -> Iterator[Whole]:
    """The whole flow in `folder`/undisturbed, and the server that writes its instructions for as long as this lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    file = write_jsonl(folder / "third.jsonl", third_records())
    with load_scripted().ScriptedServer() as server:
        whole = Whole(file, folder / "undisturbed", server.base_url)
        started = time.monotonic()
        whole.run()
        print(f"undisturbed run: {time.monotonic() - started:.0f} s, {len(contents(whole.store))} outputs", flush=True)
        yield whole


def differences(expected: Contents, store: Path, *, without: Collection[str] = ()) -> list[str]:
    """Parts and folders of a store whose content, read from the files, is not the expected one, or that lack."""
    found = contents(store)
    return sorted(
        name for name in expected.keys() | found.keys() if name not in without and expected.get(name) != found.get(name)
    )


def say(words: list[str], *, seconds: float = 600.0, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever that is; `more` are variables of its environment."""
    return subprocess.run(
        words, env=environment(**more), capture_output=True, text=True, timeout=seconds, cwd=HELPERS, errors="replace"
    )


def unclear(done: subprocess.CompletedProcess[str], *, names: str = "") -> str | None:
    """What is wrong with how a command failed: it should have, with a code of its own, a message and no trace."""
    last = done.stderr.strip().splitlines()[-1:] or [""]
    if done.returncode not in _CLEAR_CODES:
        return f"it exited with {done.returncode}: {last[0][:300]}"
    if "Traceback (most recent call last)" in done.stderr:
        return f"it ended with a trace: {last[0][:300]}"
    if not any(line.startswith("polylm: ") for line in done.stderr.splitlines()):
        return f"it did not say why: {last[0][:300]}"
    return None if names in done.stderr else f"it does not name {names}: {last[0][:300]}"


def files_of(store: Path) -> dict[str, list[Path]]:
    """Files that `verify` answers for, by what they are."""
    patterns = {
        "part": "parts/**/*.parquet",
        "model": "folders/train_*/*/*",
        "checkpoint": "folders/[pf]*t*/*/**/*",
        "export": "folders/export/*/**/*",
        "folder's manifest": "folders/*/*/manifest.json",
        "manifest": "artifacts/*/*.json",
        "run record": "runs/*.json",
        "pin": "pins/*.json",
        "digest of an input": "seen/*.json",
    }
    found = {
        kind: [path for path in sorted(store.glob(pattern)) if path.is_file()] for kind, pattern in patterns.items()
    }
    for kind in ("model", "checkpoint", "export"):
        found[kind] = [path for path in found[kind] if path.name != "manifest.json"]
    return {kind: [path for path in paths if path.stat().st_size] for kind, paths in found.items()}


def overwrite(path: Path, data: bytes) -> None:
    """Change a file of a store that was copied by hard links, and not the one that it was copied from."""
    aside = path.with_name(f"{path.name}.aside")
    aside.write_bytes(data)
    os.replace(aside, path)  # noqa: PTH105
