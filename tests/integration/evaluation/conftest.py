"""Sets made of the shipped clip, and the trained model as services."""

import pytest

from tests.harness import ROOT, Cluster
from tests.integration.evaluation.clip_set import write_clip_set, write_network_set

BUNDLE = ROOT / "models/demo-r50"


@pytest.fixture(scope="session")
def clip_set(tmp_path_factory):
    """24 frames of 480 x 360."""
    return write_clip_set(tmp_path_factory.mktemp("clip") / "set")


@pytest.fixture(scope="session")
def network_set(tmp_path_factory):
    """The same frames at the network's size, some of them cropped."""
    return write_network_set(tmp_path_factory.mktemp("network") / "set")


@pytest.fixture(scope="package")
def trained_cluster():
    """The trained model on two nodes."""
    running = Cluster(BUNDLE, stage_arguments=("--engine-threads", "1"))
    yield running
    running.close()
