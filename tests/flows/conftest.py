"""One Prefect server, one worker a pool and one dashboard serve all tests of `polylm up`, which are the last to run."""

import pytest
from samples import third_options
from upped import upped


def pytest_collection_modifyitems(items):
    """Tests that ask the servers go last, so that no other test has them beside it."""
    items.sort(key=lambda item: "up" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def up(tmp_path_factory):
    with upped(tmp_path_factory.mktemp("up")) as running:
        yield running


@pytest.fixture(scope="session")
def changes(third):
    """The data stages over the third, as changes in the form."""
    return [word for word in third_options(third) if word != "--set"]
