"""Every address that is configured is checked at start, wherever it is set."""

from __future__ import annotations

import json
from typing import Any, List

import pytest

from common.domain.errors import ConfigurationError
from common.server.settings import load_settings
from services.backbone.settings import BackboneSettings
from services.orchestrator.settings import OrchestratorSettings
from services.transformer.service import TransformerSettings

STAGE = ["--bundle", "b", "--node", "edge"]
NO_ADDRESSES = [
    *("", ":50051", "h:0", "h:65536", "h:-1", "h:1e3", "h:port", "http://h:50051", "h:50051/x"),
    *("u:p@h:50051", "unix:", "h h:1", "h\n:1"),
]
NO_HOSTS = ["", ":1", "h:50051", "http://h", "h/x", "u@h", "[::1", "unix:", "h h", "h\x1b"]


def sentence(kind: Any, arguments: List[str]) -> str:
    with pytest.raises(ConfigurationError) as told:
        load_settings(kind, arguments, "test")
    return str(told.value)


@pytest.mark.parametrize("address", NO_ADDRESSES)
@pytest.mark.parametrize("stage", ["backbone", "transformer"])
def test_stages_of_the_orchestrators_nodes(stage: str, address: str) -> None:
    for told in (address, [address], ["h:1", address]):
        nodes = json.dumps({"attic": {stage: told}})
        words = sentence(OrchestratorSettings, ["--nodes", nodes])
        assert words.startswith(f"nodes.attic.{stage}: ")


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_transformers_of_a_backbone(address: str) -> None:
    words = sentence(BackboneSettings, [*STAGE, "--transformers", json.dumps({"attic": [address]})])
    assert words.startswith("transformers: ")


@pytest.mark.parametrize("host", NO_HOSTS)
@pytest.mark.parametrize("kind", [BackboneSettings, TransformerSettings, OrchestratorSettings])
def test_where_a_service_listens(monkeypatch: pytest.MonkeyPatch, kind: Any, host: str) -> None:
    required = ["--nodes", "{}"] if kind is OrchestratorSettings else STAGE
    required = [*required, *(["--transformers", "{}"] if kind is BackboneSettings else [])]
    monkeypatch.setenv("TANDEM_HOST", host)
    assert sentence(kind, required).startswith("host: ")


@pytest.mark.parametrize("name", ["port", "metrics_port"])
@pytest.mark.parametrize("port", ["-1", "65536", "x", "1.5", ""])
def test_ports(monkeypatch: pytest.MonkeyPatch, name: str, port: str) -> None:
    monkeypatch.setenv(f"TANDEM_{name.upper()}", port)
    assert sentence(TransformerSettings, STAGE).startswith(f"{name}: ")


@pytest.mark.parametrize("host", ["0.0.0.0", "::1", "[::1]", "tx2.local", "tandem_edge", "unix:/a"])
def test_hosts_that_are_some(host: str) -> None:
    assert load_settings(TransformerSettings, [*STAGE, "--host", host], "test").host == host.strip(
        "[]"
    )
