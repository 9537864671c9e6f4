"""Settings: command line over environment over file over default; unknown keys by name."""

from pathlib import Path
from typing import Optional

import pytest

from common.domain.errors import ConfigurationError
from common.server.settings import load_settings
from services.backbone.settings import BackboneSettings
from services.orchestrator.settings import OrchestratorSettings
from services.pipeline.waiting_frames import BatchLimits
from services.transformer.service import TransformerSettings

REQUIRED = ["--bundle", "b", "--node", "edge"]


def load(arguments, kind=TransformerSettings):
    return load_settings(kind, arguments, "test")


def test_each_source_goes_over_the_next(monkeypatch, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("node: of-file\nengine: of-file\nport: 1\nbundle: of-file\n")
    arguments = ["--config", str(path)]
    assert load(arguments).node == "of-file"
    assert load(arguments).metrics_port == 9152
    monkeypatch.setenv("TANDEM_ENGINE", "of-environment")
    monkeypatch.setenv("TANDEM_PORT", "2")
    settings = load([*arguments, "--port", "3"])
    assert (settings.node, settings.engine, settings.port) == ("of-file", "of-environment", 3)
    monkeypatch.setenv("TANDEM_CONFIG", str(path))
    assert load([]).node == "of-file"


def test_default_ports_are_those_of_the_contract():
    transformers = ["--transformers", "edge=host:1"]
    settings = [
        load([*REQUIRED, *transformers], BackboneSettings),
        load(REQUIRED),
        load(["--nodes", '{"edge": {}}'], OrchestratorSettings),
    ]
    ports = [(each.port, each.metrics_port) for each in settings]
    assert ports == [(50051, 9151), (50052, 9152), (50050, 9150)]


@pytest.mark.parametrize("text", ["nope: 1\n", "nodes:\n  edge: {nope: 'h:1'}\n"])
def test_unknown_keys_of_a_file_are_refused_by_name(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="nope"):
        load(["--config", str(path)], OrchestratorSettings)


def test_what_is_wrong_of_several_settings_together_is_told_in_our_words_alone():
    with pytest.raises(ConfigurationError) as raised:
        load([*REQUIRED, "--tls-certificate", "a.crt"])
    assert str(raised.value) == "TLS needs tls_certificate, tls_key and tls_peers_ca together"


@pytest.mark.parametrize(
    ("kind", "required"),
    [
        (BackboneSettings, [*REQUIRED, "--transformers", "edge=host:1"]),
        (OrchestratorSettings, ["--nodes", '{"edge": {}}']),
    ],
)
def test_a_path_that_the_environment_leaves_empty_is_none(monkeypatch, kind, required):
    require_empty_paths_are_none(monkeypatch, kind, required)


def require_empty_paths_are_none(monkeypatch, kind, required):
    path = Optional[Path]
    names = [name for name, field in kind.model_fields.items() if field.annotation == path]
    assert len(names) > 6
    for name in names:
        monkeypatch.setenv(f"TANDEM_{name.upper()}", "")
    settings = load(required, kind)
    assert {name: getattr(settings, name) for name in names} == dict.fromkeys(names)


def test_an_empty_path_does_not_hide_that_of_the_file(monkeypatch, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("node: edge\nbundle: of-file\n")
    monkeypatch.setenv("TANDEM_BUNDLE", "")
    assert load(["--config", str(path)]).bundle == Path("of-file")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [([*REQUIRED, "--tls-revoked", ""], "tls_revoked"), (["--bundle=", "--node=edge"], "bundle")],
)
def test_an_empty_path_that_somebody_gives_is_refused_by_name(arguments, name):
    with pytest.raises(ConfigurationError, match=f"^{name}: a path is expected here$"):
        load(arguments)


@pytest.mark.parametrize("line", ["port: on", "token_port: yes", "grace_seconds: true"])
def test_a_switch_of_a_file_is_no_number(tmp_path, line):
    path = tmp_path / "settings.yaml"
    path.write_text(line)
    with pytest.raises(ConfigurationError, match=f"{line.split(':')[0]}: a number is expected"):
        load([*REQUIRED, "--config", str(path)])


def test_what_is_no_json_is_told_without_names_of_classes(monkeypatch):
    monkeypatch.setenv("TANDEM_MODELS", "")
    with pytest.raises(ConfigurationError, match='field "models"$'):
        load(REQUIRED)


def test_unknown_environment_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("TANDEM_NOPE", "1")
    with pytest.raises(ConfigurationError, match="TANDEM_NOPE"):
        load(REQUIRED)


@pytest.mark.parametrize(
    "injected",
    [
        # Kubernetes, for services called tandem-backbone, tandem and tandem-metrics.
        {
            "TANDEM_BACKBONE_SERVICE_HOST": "10.0.0.1",
            "TANDEM_BACKBONE_SERVICE_PORT": "50051",
            "TANDEM_BACKBONE_SERVICE_PORT_GRPC": "50051",
            "TANDEM_BACKBONE_PORT": "tcp://10.0.0.1:50051",
            "TANDEM_BACKBONE_PORT_50051_TCP": "tcp://10.0.0.1:50051",
            "TANDEM_BACKBONE_PORT_50051_TCP_PROTO": "tcp",
            "TANDEM_BACKBONE_PORT_50051_TCP_PORT": "50051",
            "TANDEM_BACKBONE_PORT_50051_TCP_ADDR": "10.0.0.1",
        },
        {
            "TANDEM_SERVICE_HOST": "10.0.0.1",
            "TANDEM_SERVICE_PORT": "50050",
            "TANDEM_PORT": "tcp://10.0.0.1:50050",
            "TANDEM_PORT_50050_TCP_ADDR": "10.0.0.1",
        },
        {"TANDEM_METRICS_PORT": "tcp://[fd00::1]:9150", "TANDEM_METRICS_SERVICE_HOST": "fd00::1"},
        # Docker's links.
        {
            "TANDEM_EDGE_1_NAME": "/orchestrator/tandem-edge-1",
            "TANDEM_EDGE_1_PORT": "udp://172.17.0.5:50051",
            "TANDEM_EDGE_1_PORT_50051_UDP_PORT": "50051",
            "TANDEM_EDGE_1_ENV_PATH": "/usr/bin",
        },
    ],
)
def test_what_a_scheduler_injects_is_passed_over(monkeypatch, injected):
    for name, value in injected.items():
        monkeypatch.setenv(name, value)
    settings = load(REQUIRED)
    assert (settings.port, settings.metrics_port) == (50052, 9152)
    assert settings.node == "edge"
    # What somebody did set counts beside it.
    monkeypatch.setenv("TANDEM_ENGINE_THREADS", "3")
    assert load(REQUIRED).engine_threads == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TANDEM_BUNDEL", "models/demo-r50"),
        ("TANDEM_METRIC_PORT", "9150"),
        ("TANDEM_BACKBONE_PORT", "50051"),
        ("TANDEM_NODE_NAME", "edge"),
        ("TANDEM_BUNDLE_NAME", "/models/demo-r50"),
        ("TANDEM_EDGE_ENV_PATH", "/usr/bin"),
        ("TANDEM_PORT_50051", "tcp://10.0.0.1:50051"),
    ],
)
def test_a_misspelt_setting_is_no_schedulers(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"unknown environment variable {name}"):
        load(REQUIRED)


def test_a_port_of_the_environment_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("TANDEM_PORT", "50051/tcp")
    with pytest.raises(ConfigurationError, match="port"):
        load(REQUIRED)


NODES = """
nodes:
  edge: {backbone: "::1", transformer: "ipv6:[::1]:50052"}
  workstation: {backbone: ["ws.local:1", "fd00::5:50051"], transformer: "unix:///run/t"}
"""


def test_addresses_are_taken_in_every_spelling(tmp_path):
    path = tmp_path / "nodes.yaml"
    path.write_text(NODES)
    nodes = load(["--config", str(path)], OrchestratorSettings).nodes
    assert nodes["edge"].backbone == "[::1]:50051"
    assert nodes["edge"].transformer == "[::1]:50052"
    assert nodes["workstation"].backbone == ["ws.local:1", "[fd00::5]:50051"]
    assert nodes["workstation"].transformer == "unix:/run/t"
    settings = load([*REQUIRED, "--transformers", "a=::1,b=[::1]:7"], BackboneSettings)
    assert settings.transformer_replicas == {"a": ("[::1]:50052",), "b": ("[::1]:7",)}


@pytest.mark.parametrize("address", ["ws local", "http://ws.local:50051", "[ws.local]:1", "h:0"])
def test_an_address_that_is_none_is_refused_by_name(tmp_path, address):
    path = tmp_path / "nodes.yaml"
    path.write_text(f"nodes:\n  attic: {{backbone: '{address}'}}\n")
    with pytest.raises(ConfigurationError, match=r"nodes\.attic\.backbone.* is not host:port"):
        load(["--config", str(path)], OrchestratorSettings)
    with pytest.raises(ConfigurationError, match="transformers.* is not host:port"):
        load([*REQUIRED, "--transformers", f"a={address}"], BackboneSettings)


def test_unknown_flags_are_refused_by_name(capsys):
    with pytest.raises(SystemExit) as caught:
        load([*REQUIRED, "--nope", "1"])
    assert caught.value.code == 2
    assert "--nope" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "node"),
        ([*REQUIRED, "--port", "70000"], "port"),
        ([*REQUIRED, "--engine-threads", "-1"], "engine_threads"),
        ([*REQUIRED, "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        # Of several settings together: nothing stands before the words.
        ([*REQUIRED, "--tls-key", "x"], "^TLS needs tls_certificate"),
    ],
)
def test_wrong_values_are_named(arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        load(arguments)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [\n"])
def test_a_file_that_holds_no_settings_is_refused(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"settings\.yaml"):
        load(["--config", str(path), *REQUIRED])


def test_nodes_are_read_from_yaml(tmp_path):
    path = tmp_path / "nodes.yaml"
    path.write_text("nodes:\n  edge: {backbone: 'h:1'}\nplacement: full\n")
    settings = load(["--config", str(path)], OrchestratorSettings)
    assert settings.nodes["edge"].backbone == "h:1"
    assert settings.nodes["edge"].transformer is None
    assert settings.placement == "full"


def test_only_a_paced_device_is_shared():
    paced = ["--paced-milliseconds", "20", "--paced-device", "tx2"]
    assert load([*REQUIRED, *paced]).paced_device == "tx2"
    with pytest.raises(ConfigurationError, match="needs paced_milliseconds"):
        load([*REQUIRED, "--paced-device", "tx2"])
    with pytest.raises(ConfigurationError, match="paced_device"):
        load([*REQUIRED, *paced[:3], "../tx2"])


def test_batches_and_their_pace():
    batches = ["--max-batch", "8", "--batch-wait-milliseconds", "2.5"]
    pace = ["--paced-milliseconds", "20", "--paced-batch", "2=30,8=50"]
    settings = load([*REQUIRED, *batches, *pace], TransformerSettings)
    assert settings.batch_limits == BatchLimits(frames=8, wait_seconds=0.0025)
    assert settings.paced_batch_seconds == {2: 0.03, 8: 0.05}
    assert load(REQUIRED, TransformerSettings).batch_limits == BatchLimits()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--paced-batch", "8=50"], "needs paced_milliseconds"),
        (["--paced-milliseconds", "20", "--paced-batch", "1=50"], "2 frames or more"),
        (["--paced-milliseconds", "20", "--paced-batch", "8=0"], "positive"),
        (["--max-batch", "0"], "max_batch"),
    ],
)
def test_batches_that_are_none_are_refused(arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        load([*REQUIRED, *arguments], TransformerSettings)
