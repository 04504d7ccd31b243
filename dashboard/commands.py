"""Commands as a reader can run them: with the store that the dashboard shows, where that is not the one they take by themselves."""

import shlex
from pathlib import Path

from polylm.tasks.settings import Settings


def polylm(store: Path, *words: str) -> str:
    """`polylm WORDS` for the store at `store`, quoted for a shell."""
    is_default = store.absolute() == Settings().store.absolute()
    return shlex.join(["polylm", *words, *([] if is_default else ["--store", str(store.absolute())])])
