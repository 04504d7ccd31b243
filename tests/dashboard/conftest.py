"""A dashboard over the store of a third of the sample, and one over toy stages, asked without a network."""

from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from toy_stages import Piece, toy_flow

from polylm.dashboard.app import create_app
from polylm.deployments.settings import Settings
from polylm.tasks.session import session


@pytest.fixture(scope="session")
def settings(third_store):
    return Settings(store=third_store)


@pytest.fixture(scope="session")
def app(settings):
    return create_app(settings)


@pytest.fixture(scope="session")
def client(app):
    """Asks as a browser on this machine does."""
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def here(app):
    """What pages ask of the store."""
    return app.state.queries


@pytest.fixture(scope="session")
def run(here):
    """The run of the third of the sample."""
    return here.runs()[0]


@pytest.fixture
def toy_store(tmp_path, monkeypatch):
    """A function that runs the toy flow under a name, with pieces; the store, its queries and a client of its dashboard."""
    monkeypatch.setenv("TOY_FOLDER", str(tmp_path))
    settings = Settings(store=tmp_path / "store", workers=0)

    def made(*pieces, name="toys", mend=lambda record: None):
        with session(settings, name=name, recipe={}) as it:
            toy_flow(pieces or (Piece("toy", "toy:0", ("one", "two words", "a long text of words")),))
            mend(it.record)
        app = create_app(settings, prefect_url="http://127.0.0.1:4200")
        client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
        return SimpleNamespace(here=app.state.queries, client=client, id=it.record["id"], settings=settings)

    return made
