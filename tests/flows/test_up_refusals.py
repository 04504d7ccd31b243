"""What `polylm up` says where it cannot start: one line, before anything runs."""

import pytest
from upped import free_ports

from polylm.deployments.settings import Settings
from polylm.flows import up as module
from polylm.flows.up import up


@pytest.fixture
def start(tmp_path, monkeypatch):
    """`polylm up` in a folder of its own; what it says where it does not start."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))

    def refused(port=None, postgres=""):
        with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
            up(Settings(store=tmp_path / "store"), free_ports() if port is None else port, postgres, print, print)
        assert not list((tmp_path / "store").glob("work/*.log")), "a part was started"
        return str(error.value)

    return refused


@pytest.mark.parametrize(("port", "named"), [(-1, -1), (0, 0), (65_535, 65_536)])
def test_a_port_that_there_is_not_is_refused_before_a_store_is_made(start, tmp_path, port, named):
    """The dashboard has the next one."""
    assert start(port) == f"port {named} cannot be used (expected 1 to 65535): choose others with --port"
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_named_with_the_way_out(start, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROOM", 1 << 60)
    said = start()
    assert said.startswith(f"the disk of {tmp_path / 'store'} is full: ")
    assert said.endswith("make room there, or choose another disk with --store")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql+asyncpg://127.0.0.1:1/x", "postgresql://127.0.0.1:1/x: [Errno 111] Connect call failed"),
        ("postgres://me:hidden@127.0.0.1:1/x", "postgresql://me:***@127.0.0.1:1/x: [Errno 111] Connect call failed"),
        ("mysql://me:hidden@127.0.0.1/x", "mysql: expected postgresql://USER:PASSWORD@HOST/DATABASE"),
        ("postgresql://127.0.0.1:hidden/x", "postgresql://...: it cannot be read as an address"),
        ("127.0.0.1/x", "127.0.0.1/x: expected postgresql://"),
    ],
)
def test_a_database_that_does_not_answer_is_named_without_its_password(start, address, said):
    told = start(postgres=address)
    assert told.startswith(f"--postgres {said}")
    assert "hidden" not in told
