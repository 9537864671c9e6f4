import json
from pathlib import Path

from common.domain.placement import Stage
from common.server.settings import load_settings
from services.arguments import orchestrator_arguments, stage_arguments
from services.backbone.settings import BackboneSettings
from services.orchestrator.settings import OrchestratorSettings

ADDRESSES = {
    ("edge", Stage.BACKBONE): ["127.0.0.1:1"],
    ("edge", Stage.TRANSFORMER): ["127.0.0.1:2"],
    ("workstation", Stage.TRANSFORMER): ["127.0.0.1:4", "127.0.0.1:5"],
}


def test_a_backbone_knows_every_transformer():
    arguments = stage_arguments(Path("bundle"), "edge", Stage.BACKBONE, "127.0.0.1:1", ADDRESSES)
    settings = load_settings(BackboneSettings, arguments, "backbone")
    assert settings.transformer_replicas == {
        "edge": ("127.0.0.1:2",),
        "workstation": ("127.0.0.1:4", "127.0.0.1:5"),
    }
    assert (settings.host, settings.port, settings.node) == ("127.0.0.1", 1, "edge")
    assert settings.bundle.is_absolute()


def test_a_transformer_knows_nobody():
    address = "[::1]:4"
    arguments = stage_arguments(
        Path("bundle"), "workstation", Stage.TRANSFORMER, address, ADDRESSES
    )
    assert arguments[arguments.index("--host") + 1] == "[::1]"
    assert arguments[arguments.index("--port") + 1] == "4"
    assert "--transformers" not in arguments


def test_the_orchestrator_knows_every_stage_that_there_is():
    arguments = orchestrator_arguments("0.0.0.0:50050", ADDRESSES)
    assert json.loads(arguments[arguments.index("--nodes") + 1]) == {
        "edge": {"backbone": ["127.0.0.1:1"], "transformer": ["127.0.0.1:2"]},
        "workstation": {"transformer": ["127.0.0.1:4", "127.0.0.1:5"]},
    }
    settings = load_settings(OrchestratorSettings, arguments, "orchestrator")
    assert (settings.host, settings.port) == ("0.0.0.0", 50050)
    assert set(settings.nodes) == {"edge", "workstation"}
