"""The experiment's configuration file."""

from pathlib import Path

import pytest
import yaml

from common.domain.codec import Codec
from common.domain.errors import ConfigurationError
from common.domain.placement import Placement
from experiments.placements.config import load_config

SHIPPED = sorted((Path(__file__).parents[3] / "experiments" / "configs").glob("*.yaml"))
LEAST = {
    "name": "try",
    "title": "A try",
    "nodes": {"kind": "local"},
    "models": [{"name": "R18", "architecture": {"backbone": "resnet18"}}],
    "input": {"height": 96, "width": 128},
}
TIMES = {"name": "a device", "source": "made up", "milliseconds": {"R18": {"backbone": 1}}}


def written(folder, **changes):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**LEAST, **changes}))
    return path


def test_defaults_are_every_placement_on_this_machine_without_a_shaped_link(tmp_path):
    config = load_config(written(tmp_path))
    assert config.placements == tuple(Placement)
    assert config.codecs == (Codec.INT8,)
    assert config.links == ("unshaped",)
    assert config.simulated() == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_are_valid_and_named_as_their_files(path):
    config = load_config(path)
    assert config.name == path.stem
    assert bool(config.simulated()) == (path.stem == "simulated-tx2")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"placements": ["both"]}, "placements.0"),
        ({"links": [0]}, "links.0"),
        ({"repeat": 3}, "repeat: Extra inputs are not permitted"),
        ({"models": [{"name": "R18"}]}, "model R18 needs a bundle or an architecture"),
        ({"models": LEAST["models"] * 2}, "two models have the same name"),
        ({"nodes": {"kind": "local", "engine": "none"}}, "both nodes have to be simulated"),
        (
            {"nodes": {"kind": "local", "edge": {"core": 0, "simulates": TIMES}}},
            "milliseconds.R18.transformer: Field required",
        ),
        (
            {"nodes": {"kind": "remote", "edge": "a", "workstation": "b", "systems": {}}},
            "no remote system runs R18",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, said):
    with pytest.raises(ConfigurationError, match="config.yaml") as raised:
        load_config(written(tmp_path, **changes))
    assert said in str(raised.value)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_config(tmp_path / "none.yaml")


def test_the_documented_configuration_of_remote_nodes_is_valid(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "experiments.md").read_text()
    path = tmp_path / "tx2.yaml"
    path.write_text(page.partition("```yaml\n")[2].partition("```")[0])
    config = load_config(path)
    assert config.nodes.kind == "remote"
    assert config.simulated() == []
