"""Fixtures: real services over a toy bundle."""

import gc
import os

import pytest

import common  # noqa: F401 - before gRPC
from tests.harness import Cluster

# The tests' own channels and requests stay on this machine, whatever proxy there is.
for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = ",".join(
        filter(None, (os.environ.get(_name), "127.0.0.1,localhost,::1,[::1]"))
    )


def pytest_addoption(parser):
    parser.addoption("--chaos-seconds", type=float, default=30.0, help="of faults; see test_chaos")
    parser.addoption("--chaos-seed", type=int, default=1, help="of the course of faults")


def pytest_collection_finish():
    """What all tests have imported, torch among it, is no garbage: look for none in it any more."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def cluster():
    """Two nodes and an orchestrator that a module's tests share; none of them may harm it."""
    running = Cluster()
    yield running
    running.close()


@pytest.fixture
def own_cluster():
    """Two nodes and an orchestrator that one test may kill; frames do not wait for it long."""
    running = Cluster(orchestrator_arguments=("--unavailable-after", "0.5"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The folder of an authority, with all that a pair of machines needs; nobody changes it."""
    from common.certificates.folder import AuthorityFolder, set_up

    folder = tmp_path_factory.mktemp("authority") / "certificates"
    set_up(AuthorityFolder.create(folder), {"edge": ["tx2.example", "[fd00::5]", "192.168.1.20"]})
    return folder
