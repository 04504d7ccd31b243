"""Pure functions on arrays; nothing here knows of a pipeline.

Numba's cache of compiled functions notices a change of a function's own file, but not of a function that it calls in
another one. So each state of this folder has a cache of its own, under `NUMBA_CACHE_DIR` or the user's cache.
"""

import hashlib
import os
from pathlib import Path

_PREFIX = "kernels-"


def _cache_folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polylm" / "numba"
    base = Path(os.environ.get("NUMBA_CACHE_DIR") or cache)
    if base.name.startswith(_PREFIX):  # set by the process that started this one
        base = base.parent
    sources = sorted(Path(__file__).resolve().parent.glob("*.py"))
    state = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    return base / f"{_PREFIX}{state}"


os.environ["NUMBA_CACHE_DIR"] = str(_cache_folder())  # before numba is imported: it reads this once
