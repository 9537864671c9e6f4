"""Fixtures: real services over a toy bundle."""

import pytest

from tests.harness import Cluster


@pytest.fixture(scope="module")
def cluster():
    """Two nodes and an orchestrator that a module's tests share; none of them may harm it."""
    running = Cluster()
    yield running
    running.close()


@pytest.fixture
def own_cluster():
    """Two nodes and an orchestrator that one test may kill."""
    running = Cluster()
    yield running
    running.close()
