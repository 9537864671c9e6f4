"""What is wrong with settings is told without the values that files and the environment hold."""

from __future__ import annotations

import traceback
from typing import Any, List

import pytest

from common.domain.errors import ConfigurationError
from common.server.settings import load_settings, settings_or_exit
from services.backbone.settings import BackboneSettings
from services.orchestrator.settings import OrchestratorSettings
from services.transformer.service import TransformerSettings

STAGE = ["--bundle", "b", "--node", "edge"]


def told(kind: Any, arguments: List[str]) -> str:
    """The error's sentence, and all that a traceback would show."""
    with pytest.raises(ConfigurationError) as error:
        load_settings(kind, arguments, "test")
    return "".join(traceback.format_exception(error.type, error.value, error.tb, None))


@pytest.mark.parametrize(
    ("kind", "name", "value", "words"),
    [
        (TransformerSettings, "PORT", "geHeim", "port: Input should be a valid integer"),
        (TransformerSettings, "LOG_LEVEL", "geHeim", "log_level: Input should be"),
        (
            TransformerSettings,
            "PACED_BATCH",
            "geHeim",
            'error parsing value for field "paced_batch"',
        ),
        (TransformerSettings, "PACED_DEVICE", "ge Heim!", "paced_device: String should match"),
        (BackboneSettings, "TRANSFORMERS", '{"edge":"admin:geHeim@h:1"}', "is not host:port"),
        (BackboneSettings, "TRANSFORMERS", '{"edge":["admin:ge/Heim@h:1"]}', "is not host:port"),
        (OrchestratorSettings, "NODES", '{"edge":{"password":"geHeim"}}', "nodes.edge.password"),
        (OrchestratorSettings, "NODES", '{"edge":', 'error parsing value for field "nodes"'),
    ],
)
def test_values_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, kind: Any, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"TANDEM_{name}", value)
    sentence = told(kind, [] if kind is OrchestratorSettings else STAGE)
    assert words in sentence
    assert "geHeim" not in sentence
    assert "Heim" not in sentence


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"nodes: [geHeim\n", "line 2, column 1: expected ',' or ']'"),
        (b"password: geHeim: x\n", "line 1, column 17: mapping values are not allowed here"),
        (b"a: !geHeim x", "line 1, column 4: could not determine a constructor"),
        (b"b: *geHeim", "line 1, column 4: found undefined alias '...'"),
        (b"x: %geHeim\n", "line 1, column 4: found character '%'"),
        (b"\x00geHeim", "it has control characters"),
        (b"\xff\xfegeHeim\xff", "it is no text in UTF-8"),
        (b"x: 2026-99-99 # geHeim", "it has an impossible value"),
        (b"GEHEIM", "has to hold settings by name"),
        (b"[" * 600, "it nests too deeply"),
    ],
)
def test_lines_of_a_file(tmp_path: Any, content: bytes, words: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    sentence = told(OrchestratorSettings, ["--config", str(path)])
    assert words in sentence
    assert "geHeim" not in sentence


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nope", "geHeim"], "unrecognized arguments: --nope ***"),
        (["--nope=geHeim"], "unrecognized arguments: --nope=***"),
        (["--pa=geHeim"], "--pa=***"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: List[str], words: str) -> None:
    with pytest.raises(SystemExit) as end:
        load_settings(TransformerSettings, [*STAGE, *arguments], "test")
    shown = capsys.readouterr().err
    assert end.value.code == 2
    assert words in shown
    assert shown.startswith("usage: test")
    assert "geHeim" not in shown


def test_what_cannot_be_parsed_at_all_is_a_sentence_too() -> None:
    for arguments in (["--transformers", "geHeim"], ["--transformers", "edge=admin:geHeim@h:1"]):
        assert "geHeim" not in told(BackboneSettings, [*STAGE, *arguments])


def test_help_does_not_show_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TANDEM_NODES", '{"edge": {"backbone": "geHeim:1"}}')
    with pytest.raises(SystemExit):
        load_settings(OrchestratorSettings, ["--help"], "test")
    shown = capsys.readouterr()
    assert "--nodes" in shown.out
    assert "geHeim" not in shown.out + shown.err


def test_a_refusal_does_not_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TANDEM_NODES", '{"\\u001b[2J\\u202ea": {"backbone": ":1"}}')
    monkeypatch.setattr("sys.argv", ["test"])
    with pytest.raises(SystemExit) as end:
        settings_or_exit(OrchestratorSettings, "test")
    shown = capsys.readouterr().err
    assert end.value.code == 2
    assert shown.strip().isprintable()
    assert r"nodes.\x1b[2J\u202ea.backbone" in shown
