"""What the pages show in blocks can be typed and used: command lines parse, files are read."""

import re

import pytest
import typer
import yaml

from common.server.settings import load_settings
from detr.training.recipe import load_recipe
from services.gateway.cameras.configuration import read_cameras
from services.gateway.webhooks.targets import read_targets
from services.orchestrator.settings import OrchestratorSettings
from tandem.cli.app import build_command
from tests.harness import ROOT
from tests.unit.docs.test_docs import FENCE, PAGES, SERVICES, command_lines

NODES = {"nodes": {"edge": {"backbone": "127.0.0.1:1", "transformer": "127.0.0.1:2"}}}


def blocks(page, language):
    return [text for _, kind, text in FENCE.findall(PAGES[page]) if kind == language]


def typed(page, program):
    """The lines of a page's blocks that are whole, as a shell hands them to the program."""
    shown = "\n".join(f"```\n{text}```" for text in blocks(page, "")).replace(" > ", " | ")
    return [words for words in command_lines(shown, program) if "..." not in words]


def parsed(words):
    """The command of these words, with its arguments parsed; the words if there is none."""
    command, names, rest = build_command(), ["tandem"], list(words)
    while rest and (below := getattr(command, "commands", {}).get(rest[0])):
        command, names = below, [*names, rest.pop(0)]
    if hasattr(command, "commands"):
        return words
    try:
        return command.make_context(" ".join(names), rest)
    except typer.TyperException as error:
        return (*words, error.format_message())


@pytest.mark.parametrize("page", PAGES)
def test_the_command_takes_what_is_shown(page):
    lines = [*typed(page, "tandem"), *typed(page, "tandem-client")]
    # Of Docker and Kubernetes, `tandem` is an image, a folder or a namespace.
    calls = [words for words in lines if words and re.fullmatch("[a-z]+", words[0])]
    assert not [refused for words in calls if isinstance(refused := parsed(words), list | tuple)]


@pytest.mark.parametrize("page", PAGES)
def test_services_take_what_is_shown(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nodes.yaml").write_text(yaml.safe_dump(NODES))
    for service, settings in SERVICES.items():
        for words in typed(page, service):
            with monkeypatch.context() as environment:
                if "--tls-certificate" in words:
                    # The pages export them once for all services of a machine.
                    for name in ("PEERS", "CLIENTS"):
                        environment.setenv(f"TANDEM_TLS_{name}_CA", "certificates/ca.crt")
                load_settings(settings, words, service)


@pytest.mark.parametrize("page", ["docs/events.md", "docs/gateway.md"])
def test_the_gateway_reads_the_files_that_are_shown(page, tmp_path):
    path = tmp_path / "shown.yaml"
    (tmp_path / "alarm.secret").write_text("a secret that is long enough for a webhook")
    for text in blocks(page, "yaml"):
        path.write_text(text)
        if "webhooks:" in text:
            assert len(read_targets(path, frozenset({"Front door"}))) == 2
        else:
            assert read_cameras(path)


def test_training_reads_the_recipe_that_is_shown(tmp_path):
    (shown,) = blocks("docs/training.md", "yaml")
    (tmp_path / "bolts.yaml").write_text(shown)
    assert load_recipe(str(tmp_path / "bolts.yaml")).name == "bolts"


def test_the_orchestrator_reads_the_settings_that_are_shown(tmp_path):
    fragments = [text for text in blocks("docs/placement.md", "yaml") if "nodes:" not in text]
    assert fragments
    for text in fragments:
        (tmp_path / "nodes.yaml").write_text(yaml.safe_dump(NODES) + text)
        load_settings(OrchestratorSettings, ["--config", str(tmp_path / "nodes.yaml")], "it")


def test_compose_has_the_services_of_overrides_that_are_shown():
    composed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    shown = [yaml.safe_load(text) for text in blocks("docs/deployment.md", "yaml")]
    overrides = [content["services"] for content in shown if "services" in content]
    assert overrides
    settings = {f"TANDEM_{name.upper()}" for name in OrchestratorSettings.model_fields}
    for services in overrides:
        assert set(services) <= set(composed)
        assert set(services["orchestrator"]["environment"]) <= settings
