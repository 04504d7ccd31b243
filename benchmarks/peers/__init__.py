"""What the benchmarks compare with: each peer in an environment of its own, under the cache."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

from polylm.deployments.settings import cache_folder

NO_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
# What datatrove calls our languages.
CODES = {"ar": "arb_Arab", "de": "deu_Latn", "en": "eng_Latn", "es": "spa_Latn", "fr": "fra_Latn", "he": "heb_Hebr",
         "id": "ind_Latn", "it": "ita_Latn", "ja": "jpn_Jpan", "ko": "kor_Hang", "nl": "nld_Latn", "pl": "pol_Latn",
         "pt": "por_Latn", "ru": "rus_Cyrl", "th": "tha_Thai", "tr": "tur_Latn", "vi": "vie_Latn", "zh": "cmn_Hani"}  # fmt: skip


def environment(name: str, requirements: Sequence[str]) -> str:
    """The interpreter of an environment that holds a peer; made at the first call, which takes minutes."""
    folder = cache_folder() / "peers" / name
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", *requirements], check=True)
        (folder / "ready").touch()
    return str(folder / "bin" / "python")


def datatrove() -> str:
    """The interpreter of datatrove and of its segmenters, as the extra `polylm[datatrove]` pins them."""
    wanted = [Requirement(line) for line in requires("polylm") or ()]
    pinned = [f"{each.name}{_extras(each)}{each.specifier}" for each in wanted if _is_of_extra(each, "datatrove")]
    assert pinned, "polylm is installed without the list of its extra: make install"
    return environment("datatrove-0.10.1-segmenters", pinned)


def dolma() -> str:
    """The interpreter of dolma 1.2.1; the other pins are what its own lead to, which pip looks for for ten minutes."""
    pins = ("dolma==1.2.1", "aiobotocore[boto3]==2.5.4", "fsspec==2023.6.0", "numpy<2", "urllib3<2")
    return environment("dolma-1.2.1", pins)


def measure(words: Sequence[str | Path]) -> dict[str, float]:
    """What a process of one thread printed as its last line, JSON; its error ends this one."""
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **NO_THREADS})
    if done.returncode:
        sys.exit(f"{words[0]}: {done.stderr[-2_000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _is_of_extra(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _extras(requirement: Requirement) -> str:
    return f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
