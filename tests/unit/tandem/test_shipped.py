"""What a new user runs is a trained model, whichever way they begin."""

import re

import pytest

from common.bundle import load_bundle
from tandem.shipped import shipped_bundle
from tests.harness import ROOT

FILES = (
    *("docker-compose.yml", "docker-compose.edge.yml", ".env.example"),
    *("docker/workstation.Dockerfile", "docker/edge.Dockerfile"),
    *("README.md", "docs/deployment.md", "docs/edge.md"),
)
# The reader's own model, and the clip.
EXAMPLES = {"detr-r50", "demo-clip", "demo-dfine", "demo-r34", "records"}


@pytest.mark.parametrize("name", FILES)
def test_every_default_is_the_shipped_model(name):
    named = set(re.findall(r"models/([\w-]+)", (ROOT / name).read_text()))
    assert shipped_bundle().name in named
    assert named - EXAMPLES == {shipped_bundle().name}


def test_every_model_that_ships_is_trained():
    shipped = sorted((ROOT / "models").glob("*/bundle.json"))
    assert [path.parent.name for path in shipped] == [
        "demo-dfine",
        "demo-r34",
        "demo-r50",
    ]
    assert all(load_bundle(path.parent).manifest.trained for path in shipped)
