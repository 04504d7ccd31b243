"""The store of a whole run on a third of the sample, made once a session."""

import pytest
from samples import call
from whole import Whole, copy_store, load_scripted, made_once

from polylm.deployments.settings import cache_folder
from polylm.flows.recipes import SMOLLM2


@pytest.fixture(scope="session")
def scripted():
    """The module of the stand-in server."""
    return load_scripted()


@pytest.fixture(scope="session")
def whole(third, third_store, shared_folder, scripted):
    """A run of everything, with two workers, on the store of the data stages. Copy it before changing it."""
    for needed in (cache_folder() / SMOLLM2.name, cache_folder() / "bin" / "lmplz"):
        if not needed.exists():
            pytest.skip(f"{needed} is not there: `make install` gets it")

    def make(folder):
        copy_store(third_store, folder / "store")
        with scripted.ScriptedServer() as server:
            (folder / "server").write_text(server.base_url)
            whole = Whole(third, folder / "store", server.base_url)
            (folder / "said").write_text(call(whole.words("--json")))

    folder = made_once(shared_folder / "whole", make)
    return Whole(third, folder / "store", (folder / "server").read_text())
