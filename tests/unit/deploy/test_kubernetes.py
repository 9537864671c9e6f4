"""Kubernetes' manifests are valid, keep containers in their walls, and say what services know."""

import itertools
import re
import subprocess

import kubernetes_validate
import pytest
import yaml

from common.domain.address import parse_address
from common.security.identity import Identity, Role
from common.server.settings import load_settings
from common.telemetry.metrics import Metrics
from common.telemetry.sensors import find_sensors
from services.backbone.settings import BackboneSettings
from services.gateway.settings import GatewaySettings
from services.orchestrator.settings import OrchestratorSettings
from services.transformer.service import TransformerSettings
from tests.unit.deploy.manifests import (
    FOLDER,
    FOREIGN,
    OVERLAYS,
    Network,
    containers,
    kubectl,
    of_kind,
    overlay,
    pod,
    rendered,
    why_not_rendered,
    workloads,
)

pytestmark = pytest.mark.skipif(bool(why_not_rendered()), reason=why_not_rendered())

SETTINGS = {
    "services.orchestrator": OrchestratorSettings,
    "services.backbone": BackboneSettings,
    "services.transformer": TransformerSettings,
    "services.gateway": GatewaySettings,
}
# The oldest release that has all kinds that are used, and the newest that the validator knows.
RELEASES = ("1.25", "latest")
KIBI, MEBI = 1 << 10, 1 << 20
# What a service takes beside messages: libraries, the demo model, sessions.
BESIDE_BYTES = 512 * MEBI


@pytest.fixture(params=OVERLAYS)
def manifests(request):
    return overlay(request.param)


def variables(container):
    return {each["name"]: each for each in container["env"]}


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Reads a container's settings as the service does: its variables, and its file."""

    def read(container, text):
        (module,) = container["args"]
        file = tmp_path / "settings.yaml"
        file.write_text(text)
        values = {name: each.get("value", "2") for name, each in variables(container).items()}
        for name, value in {**values, "TANDEM_CONFIG": str(file)}.items():
            monkeypatch.setenv(name, value)
        settings = load_settings(SETTINGS[module], [], module)
        for name in values:
            monkeypatch.delenv(name)
        return settings

    return read


@pytest.mark.parametrize("release", RELEASES)
def test_every_manifest_is_what_its_kind_asks_for(manifests, release):
    version = kubernetes_validate.latest_version() if release == "latest" else release
    for each in manifests:
        if not each["apiVersion"].startswith(FOREIGN):
            kubernetes_validate.validate(each, version, strict=True)


def test_a_wrong_manifest_is_told():
    service = {"apiVersion": "v1", "kind": "Service", "spec": {"portz": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, RELEASES[0], strict=True)


def test_a_pod_has_no_more_rights_than_it_needs(manifests):
    (namespace,) = of_kind(manifests, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert workloads(manifests)
    for workload in workloads(manifests):
        spec = pod(workload)
        assert workload["metadata"]["namespace"] == "tandem"
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        walls = spec["securityContext"]
        assert walls["runAsNonRoot"] is True
        assert (walls["runAsUser"], walls["fsGroup"]) == (10001, 10001)
        assert walls["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert not [each for each in spec["volumes"] if "hostPath" in each]
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]


def test_services_know_their_settings_and_are_secured(manifests, told):
    for _, container, text in containers(manifests):
        settings = told(container, text)
        assert settings.has_tls
        assert not settings.insecure
        assert settings.host == "0.0.0.0"


def test_ports_are_those_that_services_listen_on(manifests, told):
    for workload, container, text in containers(manifests):
        settings = told(container, text)
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        own = settings.token_port, getattr(settings, "http_port", None)
        expected = {settings.port, settings.metrics_port, *filter(None, own)}
        assert set(ports.values()) == expected, workload["metadata"]["name"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            command = container[kind]["exec"]["command"]
            assert command == ["python", "-m", "common.server.probe", f"127.0.0.1:{settings.port}"]


def test_addresses_lead_to_a_port_of_a_service(manifests, told):
    ports = {
        each["metadata"]["name"]: {
            port["port"]: port["targetPort"] for port in each["spec"]["ports"]
        }
        for each in of_kind(manifests, "Service")
    }
    named = set()
    for workload, container, text in containers(manifests):
        settings = told(container, text)
        found = re.findall(r"[\w./:-]+:50\d\d\d\b", text)
        assert found or isinstance(settings, TransformerSettings)
        for each in found:
            address = parse_address(each.replace("dns:///", ""))
            named.add(each)
            if address.host == "127.0.0.1":
                others = pod(workload)["containers"]
                assert address.port in {p["containerPort"] for c in others for p in c["ports"]}
            else:
                assert address.port in ports[address.host]
    assert {"dns:///backbone:50051", "dns:///transformer:50052", "orchestrator:50060"} <= named


def test_names_that_lead_to_several_are_those_of_headless_services(manifests):
    headless = {
        each["metadata"]["name"]
        for each in of_kind(manifests, "Service")
        if each["spec"].get("clusterIP") == "None"
    }
    for _, _, text in containers(manifests):
        assert set(re.findall(r"dns:///([\w-]+):", text)) <= headless


def test_services_find_their_pods(manifests):
    for service in of_kind(manifests, "Service"):
        selector = service["spec"]["selector"].items()
        (workload,) = [
            each
            for each in workloads(manifests)
            if selector <= each["spec"]["template"]["metadata"]["labels"].items()
        ]
        names = {port["name"] for each in pod(workload)["containers"] for port in each["ports"]}
        assert {each["targetPort"] for each in service["spec"]["ports"]} <= names


def test_frames_in_flight_are_answered_before_a_pod_is_killed(manifests, told):
    for workload, container, text in containers(manifests):
        (_, pause) = container["lifecycle"]["preStop"]["exec"]["command"]
        grace = told(container, text).grace_seconds
        assert pod(workload)["terminationGracePeriodSeconds"] >= int(pause) + grace + 2


def test_an_engine_may_recover_before_its_pod_is_taken_for_dead(manifests):
    for _, container, _ in containers(manifests):
        probe = container["livenessProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 300


def test_what_a_service_may_hold_of_messages_fits_into_its_memory(manifests, told):
    for _, container, text in containers(manifests):
        number, unit = re.fullmatch(
            r"(\d+)(Mi|Gi)", container["resources"]["limits"]["memory"]
        ).groups()
        limit_bytes = int(number) * (MEBI if unit == "Mi" else KIBI * MEBI)
        settings = told(container, text)
        assert limit_bytes >= settings.max_buffered_bytes + BESIDE_BYTES
        # What one accepts, the next one has to accept.
        assert settings.max_message_mebibytes == 8


def test_secrets_are_those_that_the_script_makes(manifests, made, tmp_path):
    folder = tmp_path / "certificates"
    subprocess.run(["cp", "-r", made, folder], check=True)
    (folder / "workstation" / "tokens.yaml").write_text("tokens: []\n")
    cameras = tmp_path / "cameras.yml"
    cameras.write_text("cameras: []\n")
    done = subprocess.run(
        [FOLDER / "secrets.sh", folder, cameras], capture_output=True, text=True, check=True
    )
    secrets = {
        each["metadata"]["name"]: set(each["data"])
        for each in yaml.safe_load_all(done.stdout)
        if each
    }
    assert {each["kind"] for each in yaml.safe_load_all(done.stdout) if each} == {"Secret"}
    authority = (made / "authority" / "peers-ca.key").read_text()
    assert authority not in done.stdout
    for _, container, text in containers(manifests):
        volumes = {each["name"]: each for each in pod_of(manifests, container)["volumes"]}
        for mount in container["volumeMounts"]:
            volume = volumes[mount["name"]].get("secret")
            if volume is None:
                continue
            paths = [each.get("value", "") for each in container["env"]] + text.split()
            asked = {
                each[len(mount["mountPath"]) + 1 :]
                for each in paths
                if each.startswith(mount["mountPath"] + "/")
            }
            assert asked <= secrets[volume["secretName"]], container["name"]
    for monitor in of_kind(manifests, "ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            tls = endpoint["tlsConfig"]
            for each in (tls["ca"]["secret"], tls["cert"]["secret"], tls["keySecret"]):
                assert each["key"] in secrets[each["name"]]


def pod_of(manifests, container):
    return next(pod(each) for each in workloads(manifests) if container in pod(each)["containers"])


def test_a_folder_without_tokens_is_refused_in_a_sentence(made):
    done = subprocess.run([FOLDER / "secrets.sh", made], capture_output=True, text=True)
    assert done.returncode == 2
    assert "tokens.yaml is missing" in done.stderr
    assert not done.stdout


EDGES = {
    ("gateway", "orchestrator", 50050),
    ("gateway", "orchestrator", 50060),
    ("client", "orchestrator", 50050),
    ("client", "orchestrator", 50060),
    ("orchestrator", "backbone", 50051),
    ("orchestrator", "transformer", 50052),
    ("backbone", "transformer", 50052),
    ("orchestrator", "edge", 50051),
    ("orchestrator", "edge", 50052),
    ("backbone", "edge", 50052),
    ("edge", "transformer", 50052),
    ("monitoring", "orchestrator", 9150),
    ("monitoring", "gateway", 9153),
    ("monitoring", "backbone", 9151),
    ("monitoring", "transformer", 9152),
    ("monitoring", "edge", 9151),
    ("monitoring", "edge", 9152),
}


def test_only_who_has_to_may_talk_to_whom(manifests):
    network, ports, pods = Network(manifests), {}, {}
    for workload in workloads(manifests):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        name = labels["app.kubernetes.io/component"]
        pods[name] = labels
        ports[name] = [
            (port["containerPort"], port["name"])
            for each in pod(workload)["containers"]
            for port in each["ports"]
        ]
    sources = {
        **pods,
        "client": {"tandem-client": "true"},
        "monitoring": {"namespace": "monitoring"},
        "elsewhere": {"namespace": "default"},
        "stranger": {"app": "other"},
        "beyond": None,
    }
    open_edges = {
        (source, target, port)
        for source, target in itertools.product(sources, pods)
        if source != target
        for port, name in ports[target]
        if network.allows(sources[source], pods[target], port, name)
    }
    page = {(name, "gateway", 8080) for name in ("monitoring", "elsewhere", "beyond")}
    expected = {each for each in EDGES if {each[0], each[1]} <= {*pods, "client", "monitoring"}}
    assert open_edges == expected | page
    beyond = {
        (name, port)
        for name, labels in pods.items()
        for port in (53, 80, 443, 554, 8554)
        if network.allows(labels, None, port, "")
    }
    assert beyond == {*((name, 53) for name in pods), ("gateway", 554), ("gateway", 8554)}


def test_metrics_are_asked_of_whom_the_certificate_names():
    manifests = overlay("edge-and-workstations")
    monitors = of_kind(manifests, "ServiceMonitor")
    services = of_kind(manifests, "Service")
    seen = set()
    for monitor in monitors:
        (endpoint,) = monitor["spec"]["endpoints"]
        (service,) = [
            each
            for each in services
            if monitor["spec"]["selector"]["matchLabels"].items()
            <= each["metadata"]["labels"].items()
        ]
        assert endpoint["port"] in {each["name"] for each in service["spec"]["ports"]}
        labels = {each["targetLabel"]: each["replacement"] for each in endpoint["relabelings"]}
        identity = Identity(Role(labels["job"]), labels["node"])
        assert endpoint["tlsConfig"]["serverName"] == identity.server_name
        # Or the node that `tandem_node_up` tells of would be the one that was scraped.
        assert endpoint["honorLabels"] is True
        seen.add((labels["node"], labels["job"]))
    assert len(seen) == len(monitors) == 6


def test_autoscalers_ask_for_what_services_tell():
    manifests = overlay("edge-and-workstations")
    deployments = {each["metadata"]["name"]: each for each in of_kind(manifests, "Deployment")}
    rules = yaml.safe_load((FOLDER / "components/monitoring/prometheus-adapter.yaml").read_text())
    (rule,) = rules["rules"]["custom"]
    families = {each.name for each in Metrics(find_sensors()).registry.collect()}
    scalers = of_kind(manifests, "HorizontalPodAutoscaler")
    assert len(scalers) == 2
    for each in scalers:
        (metric,) = each["spec"]["metrics"]
        name = metric["pods"]["metric"]["name"]
        assert name == rule["name"]["as"]
        assert name in families
        assert rule["seriesQuery"].startswith(name + "{")
        # A number of replicas in the manifest would be set again with every change.
        assert "replicas" not in deployments[each["spec"]["scaleTargetRef"]["name"]]["spec"]


def with_components(folder, name, *components, more=""):
    """What an overlay becomes by components, as an overlay of one's own names them."""
    folder.mkdir()
    up = "../" * len(folder.resolve().parts)
    resource, *parts = (
        f"{up}{(FOLDER / each).relative_to('/')}" for each in (f"overlays/{name}", *components)
    )
    (folder / "kustomization.yaml").write_text(
        f"resources: [{resource}]\ncomponents: [{', '.join(parts)}]\n{more}"
    )
    return rendered(folder)


def stages_of(found, name):
    stages = [
        (workload, container)
        for workload, container, _ in containers(found)
        if container["args"][0] in ("services.backbone", "services.transformer")
    ]
    assert len(stages) == (2 if name == "one-node" else 4)
    return stages


def test_a_model_of_ones_own_takes_the_place_of_the_demo_in_both_halves(tmp_path):
    for name in OVERLAYS:
        found = with_components(tmp_path / name, name, "components/own-model")
        stages = stages_of(found, name)
        for workload, container in stages:
            assert variables(container)["TANDEM_BUNDLE"]["value"] == "/bundle"
            (init,) = pod(workload)["initContainers"]
            assert init["volumeMounts"][0]["name"] in {
                each["name"] for each in container["volumeMounts"]
            }
        for each in found:
            if not each["apiVersion"].startswith(FOREIGN):
                kubernetes_validate.validate(each, "1.25", strict=True)


FURTHER = """
namespace: tandem
images: [{name: tandem-further-models, newName: registry.example/models, newTag: "7"}]
configMapGenerator:
  - name: further-models
    literals: ['models={"fast": "/models/fast", "large": "/models/large"}']
"""


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("name", OVERLAYS)
def test_further_models_are_served_beside_ones_own_by_their_names(tmp_path, told, name, order):
    components = ("components/own-model", "components/further-models")[::order]
    found = with_components(tmp_path / "mine", name, *components, more=FURTHER)
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(found, "ConfigMap")}
    texts = {container["args"][0]: text for _, container, text in containers(found)}
    for workload, container in stages_of(found, name):
        reference = variables(container)["TANDEM_MODELS"]["valueFrom"]["configMapKeyRef"]
        # The name has a hash of the content, so that a change replaces the pods.
        assert reference["name"] != "further-models"
        value = maps[reference["name"]][reference["key"]]
        resolved = [*container["env"], {"name": "TANDEM_MODELS", "value": value}]
        settings = told({**container, "env": resolved}, texts[container["args"][0]])
        mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
        assert {"/bundle", "/models"} <= set(mounts)
        for path in settings.models.values():
            assert path.is_relative_to("/models")
        assert set(settings.models) == {"fast", "large"}
        inits = {each["name"]: each for each in pod(workload)["initContainers"]}
        assert set(inits) == {"model", "further-models"}
        further = inits["further-models"]
        assert further["image"] == "registry.example/models:7"
        assert further["securityContext"] == container["securityContext"]
        assert further["volumeMounts"][0]["name"] == mounts["/models"]["name"]
        volumes = {each["name"] for each in pod(workload)["volumes"]}
        assert {"model", "further-models", *(each["name"] for each in mounts.values())} <= volumes
    for each in found:
        if not each["apiVersion"].startswith(FOREIGN):
            kubernetes_validate.validate(each, "1.25", strict=True)


def test_kubectl_finds_nothing_to_warn_of():
    for name in OVERLAYS:
        assert kubectl("kustomize", str(FOLDER / "overlays" / name))
