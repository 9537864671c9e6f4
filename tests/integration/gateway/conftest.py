"""A gateway with the doors for single pictures, before two nodes and an orchestrator."""

import pytest

from tests.harness import TOY_TENSORS, Cluster
from tests.picture_doors import Caller, gateway_of


@pytest.fixture(scope="package")
def system():
    """A cluster that no test may harm."""
    running = Cluster(stage_arguments=("--models", f"levels={TOY_TENSORS}"))
    yield running
    running.close()


@pytest.fixture(scope="package")
def gateway(system):
    """A gateway that no test may harm."""
    doors = ("--detection-api", "--open-inference", "--detection-api-max-kibibytes", "512")
    with gateway_of(system.address, *doors) as running:
        yield running


@pytest.fixture(scope="package")
def caller(gateway):
    """Calls the gateway that no test may harm."""
    return Caller(gateway)
