"""The store of a whole run on a third of the sample, made once a session."""

import pytest
from conftest import once
from whole import Whole, copy_store, load_scripted

from polylm.flows.recipes import SMOLLM2
from polylm.tasks.settings import cache_folder


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
    with once(shared_folder / "whole") as (folder, is_first):
        if is_first:
            copy_store(third_store, folder / "store")
            with scripted.ScriptedServer() as server:
                (folder / "server").write_text(server.base_url)
                Whole(third, folder / "store", server.base_url).run()
    return Whole(third, folder / "store", (folder / "server").read_text())
