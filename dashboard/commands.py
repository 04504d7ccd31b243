"""Commands as a reader can run them: with the store that the dashboard shows, where that is not the one they take by themselves."""

import shlex
from pathlib import Path

from polylm.deployments.settings import store_option


def polylm(store: Path, *words: str) -> str:
    """`polylm WORDS` for the store at `store`, quoted for a shell."""
    return shlex.join(["polylm", *words, *store_option(store)])
