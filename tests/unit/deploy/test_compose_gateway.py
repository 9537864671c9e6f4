"""What Compose passes on to the gateway, as `docker compose config` makes it of a `.env` file."""

import json
import shutil
import subprocess

import pytest
import yaml

from services.gateway.settings import GatewaySettings
from tests.harness import ROOT

COMPOSE = shutil.which("docker")
EVENTS = [name for name in GatewaySettings.model_fields if name.startswith(("mqtt", "webhook"))]


def has_compose():
    if COMPOSE is None:
        return False
    return subprocess.run([COMPOSE, "compose", "version"], capture_output=True).returncode == 0


def test_every_setting_of_the_doors_for_events_is_passed_on_and_in_the_example():
    gateway = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["gateway"]
    example = (ROOT / ".env.example").read_text()
    for name in EVENTS:
        variable = name.upper()
        passed_on = gateway["environment"][f"TANDEM_{variable}"]
        assert passed_on.startswith(f"${{{variable}")
        default = passed_on.partition("-")[2].rstrip("}")
        assert f"\n#{variable}={default}\n" in example
        own = GatewaySettings.model_fields[name].default
        assert default == ("" if own is None else str(own).lower())


@pytest.mark.skipif(not has_compose(), reason="Docker Compose is not here")
@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            {},
            {
                "mqtt": False,
                "mqtt_password_file": "None",
                "mqtt_ca": "None",
                "webhook_targets": "None",
                "cameras": "/cameras/cameras.yml",
            },
        ),
        ({"CAMERAS_DIR": "./own", "CAMERAS_FILE": "mine.yaml"}, {"cameras": "/cameras/mine.yaml"}),
        (
            {"MQTT": "true", "MQTT_BROKER": "10.0.0.5", "EDGE_HOST": "10.0.0.7"},
            {"mqtt": True, "mqtt_broker": "10.0.0.5", "webhooks": False},
        ),
        (
            {
                "WEBHOOKS": "true",
                "WEBHOOK_TARGETS": "/cameras/webhooks.yaml",
                "GATEWAY_ADDRESS": "192.168.1.10",
                "ORCHESTRATOR_HOST": "10.0.0.7",
            },
            {"webhooks": True, "webhook_targets": "/cameras/webhooks.yaml", "mqtt": False},
        ),
        (
            {
                "MQTT": "true",
                "MQTT_BROKER": "broker.lan:8883",
                "MQTT_TLS": "true",
                "MQTT_CA": "/cameras/ca.crt",
                "MQTT_CERTIFICATE": "/cameras/mqtt.crt",
                "MQTT_KEY": "/cameras/mqtt.key",
                "MQTT_HOME_ASSISTANT": "",
                "WEBHOOKS": "true",
                "WEBHOOK_TARGETS": "/cameras/webhooks.yaml",
            },
            {"mqtt_tls": True, "mqtt_key": "/cameras/mqtt.key", "mqtt_home_assistant": ""},
        ),
    ],
)
def test_the_gateway_gets_what_the_environment_file_says(told, expected, tmp_path, monkeypatch):
    environment = tmp_path / "env"
    environment.write_text("".join(f"{name}={value}\n" for name, value in told.items()))
    files = ["--env-file", str(environment), "--file", "docker-compose.yml"]
    done = subprocess.run(
        [str(COMPOSE), "compose", *files, "config", "--format", "json"],
        cwd=ROOT,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    gateway = json.loads(done.stdout)["services"]["gateway"]
    for name, value in gateway["environment"].items():
        if name.startswith("TANDEM_"):
            monkeypatch.setenv(name, value)
    settings = GatewaySettings()
    for name, value in expected.items():
        found = getattr(settings, name)
        assert (found if isinstance(found, bool) else str(found)) == value
    sources = {mount["target"]: mount["source"] for mount in gateway["volumes"]}
    folder = told.get("CAMERAS_DIR", "./deploy/gateway")
    assert sources["/cameras"] == str(ROOT / folder)
