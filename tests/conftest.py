"""Fixtures: real services over a toy bundle."""

import pytest

from tests.harness import Cluster


def pytest_addoption(parser):
    parser.addoption("--chaos-seconds", type=float, default=30.0, help="of faults; see test_chaos")
    parser.addoption("--chaos-seed", type=int, default=1, help="of the course of faults")


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
