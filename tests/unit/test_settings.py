"""Settings: command line over environment over file over default; unknown keys by name."""

import pytest

from common.domain.errors import ConfigurationError
from common.stage.settings import BackboneSettings, TransformerSettings, load_settings
from services.orchestrator.settings import OrchestratorSettings

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


def test_unknown_environment_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("TANDEM_NOPE", "1")
    with pytest.raises(ConfigurationError, match="TANDEM_NOPE"):
        load(REQUIRED)


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
