"""The Compose files keep containers apart from the machine, and keys from all but their owners."""

import shutil
import subprocess

import pytest
import yaml

from tests.harness import ROOT

FILES = ("docker-compose.yml", "docker-compose.edge.yml")
OVERRIDES = (
    "docker-compose.gpu.yml",
    *(
        f"deploy/compose/{name}.yml"
        for name in ("jtop", "node", "node-elsewhere", "stages", "stages-published")
    ),
)
SERVICES = [
    (file, name) for file in FILES for name in yaml.safe_load((ROOT / file).read_text())["services"]
]
TANDEM = [each for each in SERVICES if each[1] not in ("certificates", "prometheus", "grafana")]
# What lifts the walls around a container.
LOOSENING = {"privileged", "cap_add", "devices", "ipc", "pid", "userns_mode", "network_mode"}


def service(file, name):
    return yaml.safe_load((ROOT / file).read_text())["services"][name]


def sources(told):
    """What is mounted, as the short form names it."""
    return [volume.partition(":")[0] for volume in told.get("volumes", [])]


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_a_container_has_no_more_rights_than_it_needs(file, name):
    told = service(file, name)
    assert told["read_only"] is True
    assert told["cap_drop"] == ["ALL"]
    # Docker's own seccomp profile applies wherever no other is named.
    assert told["security_opt"] == ["no-new-privileges:true"]
    loosened = {key: told[key] for key in LOOSENING & set(told)}
    allowed = {}
    if name == "certificates":
        allowed = {"network_mode": "none"}
        if file == "docker-compose.edge.yml":
            allowed["cap_add"] = ["CHOWN", "DAC_OVERRIDE"]
    assert loosened == allowed
    assert not any("docker.sock" in source for source in sources(told))


@pytest.mark.parametrize("file", OVERRIDES)
def test_what_is_added_to_a_container_takes_no_wall_away(file):
    for told in yaml.safe_load((ROOT / file).read_text())["services"].values():
        assert not (LOOSENING | {"read_only", "cap_drop", "security_opt"}) & set(told)


@pytest.mark.parametrize(("file", "name"), TANDEM)
def test_a_service_has_an_identity_of_its_own_before_it_starts(file, name):
    told = service(file, name)
    role = name.rpartition("-")[2]
    variables = told["environment"]
    assert told["depends_on"] == {"certificates": {"condition": "service_completed_successfully"}}
    assert variables["TANDEM_TLS_CERTIFICATE"] == f"/tls/{role}.crt"
    assert variables["TANDEM_TLS_KEY"] == f"/tls/{role}.key"
    assert variables["TANDEM_TLS_PEERS_CA"] == "/tls/peers-ca.crt"
    assert variables["TANDEM_TLS_CLIENTS_CA"] == "/tls/clients-ca.crt"
    assert "TANDEM_INSECURE" not in variables
    assert told["command"] == [f"services.{role}"]


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_keys_are_mounted_where_they_are_needed_alone(file, name):
    mounted = [
        volume
        for volume in service(file, name).get("volumes", [])
        if "certificates" in volume or "authority" in volume
    ]
    if name == "certificates":
        return
    node = "edge" if name.startswith("edge-") else "workstation"
    expected = {
        "prometheus": ["prometheus-certificates:/etc/prometheus/tls:ro"],
        "grafana": [],
    }.get(name, [f"{node}-certificates:/tls:ro"])
    assert mounted == (["certificates:/tls:ro"] if file == "docker-compose.edge.yml" else expected)


def test_folders_of_the_image_give_each_volume_of_certificates_an_owner():
    recipe = (ROOT / "docker/workstation.Dockerfile").read_text()
    targets = [volume.split(":")[1] for volume in service(FILES[0], "certificates")["volumes"]]
    assert len(targets) == 6
    assert not [target for target in targets if target not in recipe]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here")
def test_prometheus_takes_its_configuration(made, tmp_path):
    text = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
    (tmp_path / "targets.yml").write_text('[{"targets": ["backbone:9151"]}]')
    text = text.replace("/etc/prometheus/tls", str(made / "prometheus"))
    text = text.replace("/tmp/targets.yml", str(tmp_path / "targets.yml"))
    text = text.replace("/etc/prometheus", str(ROOT / "deploy/prometheus"))
    (tmp_path / "prometheus.yml").write_text(text)
    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
