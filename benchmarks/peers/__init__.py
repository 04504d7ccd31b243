"""What the benchmarks compare with: each peer in an environment of its own, under the cache."""

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import requires

from packaging.requirements import Requirement

from polylm.tasks.settings import cache_folder


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


def _is_of_extra(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _extras(requirement: Requirement) -> str:
    return f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
