"""What the tests of the generator share: seeds, a language identifier, and a scripted model server."""

import importlib.util
import sys
from pathlib import Path

import pytest

from polylm.tasks.instructions.prompts import read_seeds

# Tests are no package: the stand-in server is loaded by its place, once.
_SPEC = importlib.util.spec_from_file_location("scripted_server", Path(__file__).parents[1] / "scripted_server.py")
if "scripted_server" not in sys.modules:
    sys.modules["scripted_server"] = importlib.util.module_from_spec(_SPEC)
    _SPEC.loader.exec_module(sys.modules["scripted_server"])


def identify_by_words(text):
    """A language identifier for these tests: the language with the most of its small words in the text."""
    small = {
        "en": "the a of and to is in for it with",
        "de": "der die das und ist in zu ein es sich",
        "fr": "le la les et est dans un une pour il",
    }
    words = text.lower().split()
    counts = {language: sum(word in known.split() for word in words) for language, known in small.items()}
    best = max(counts, key=counts.get)
    return best, counts[best] / max(1, sum(counts.values()))


@pytest.fixture
def identify():
    return identify_by_words


@pytest.fixture(scope="session")
def seeds():
    return read_seeds()


@pytest.fixture(scope="session")
def scripted():
    """The module of the stand-in server."""
    return sys.modules["scripted_server"]
