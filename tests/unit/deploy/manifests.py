"""Kubernetes' manifests as `kubectl kustomize` renders them, and what they say."""

import json
import shutil
import subprocess
from functools import cache

import yaml

from tests.harness import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("one-node", "edge-and-workstations")
# Kinds of Prometheus' operator, whose schemas are not those of Kubernetes.
FOREIGN = "monitoring.coreos.com"
_OLDEST_KUBECTL = 22


@cache
def why_not_rendered():
    """Why nothing can be rendered here; empty if it can."""
    if shutil.which("kubectl") is None:
        return "kubectl is not here (Debian's kubernetes-client)"
    told = json.loads(kubectl("version", "--client", "--output=json"))["clientVersion"]
    minor = int("".join(filter(str.isdigit, told["minor"])))
    if minor < _OLDEST_KUBECTL:
        return f"kubectl 1.{minor} is too old: its kustomize knows no components"
    return ""


def kubectl(*arguments):
    done = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    # Of anything deprecated it tells here.
    assert not done.stderr, done.stderr
    return done.stdout


@cache
def rendered(folder):
    return tuple(yaml.safe_load_all(kubectl("kustomize", str(folder))))


def overlay(name):
    return rendered(FOLDER / "overlays" / name)


def of_kind(manifests, *kinds):
    return [each for each in manifests if each["kind"] in kinds]


def workloads(manifests):
    return of_kind(manifests, "Deployment", "DaemonSet")


def pod(workload):
    return workload["spec"]["template"]["spec"]


def containers(manifests):
    """Each container of Tandem's, with its pod and the settings in its file."""
    files = {
        each["metadata"]["name"]: each["data"]["settings.yaml"]
        for each in of_kind(manifests, "ConfigMap")
        if "settings.yaml" in each["data"]
    }
    for workload in workloads(manifests):
        spec = pod(workload)
        volumes = {each["name"]: each for each in spec["volumes"]}
        for container in spec["containers"]:
            mount = next(
                each for each in container["volumeMounts"] if each["mountPath"] == "/etc/tandem"
            )
            yield workload, container, files[volumes[mount["name"]]["configMap"]["name"]]


def is_selected(selector, labels):
    """Whether a selector of labels matches; an empty one matches all."""
    matches = all(
        labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()
    )
    for each in selector.get("matchExpressions", ()):
        assert each["operator"] == "In"
        matches = matches and labels.get(each["key"]) in each["values"]
    return matches


class Network:
    """Who may connect to whom, as the policies of a rendered overlay say."""

    def __init__(self, manifests):
        self._policies = of_kind(manifests, "NetworkPolicy")

    def allows(self, source, target, port, name):
        """Whether pods of these labels may connect.

        Args:
            source: labels of who connects; for one of another namespace `{"namespace": NAME}`;
                None: somebody beyond the cluster.
            target: labels of the pod, or None: somebody beyond the cluster.
            port: that is connected to.
            name: of that port.
        """
        leaves = (
            source is None
            or "namespace" in source
            or self._any("Egress", source, target, port, name)
        )
        return leaves and (target is None or self._any("Ingress", target, source, port, name))

    def _any(self, direction, own, other, port, name):
        side, ends = ("egress", "to") if direction == "Egress" else ("ingress", "from")
        applying = [
            each["spec"]
            for each in self._policies
            if direction in each["spec"]["policyTypes"]
            and is_selected(each["spec"]["podSelector"], own)
        ]
        # A pod that no policy selects may do anything.
        return not applying or any(
            self._has_end(rule.get(ends), other)
            and any(each["port"] in (port, name) for each in rule["ports"])
            for spec in applying
            for rule in spec.get(side, ())
        )

    @staticmethod
    def _has_end(ends, other):
        if ends is None:
            return True
        if other is None:
            return False
        if "namespace" in other:
            namespace = {"kubernetes.io/metadata.name": other["namespace"]}
            return any(
                is_selected(each["namespaceSelector"], namespace)
                for each in ends
                if "namespaceSelector" in each
            )
        return any(
            is_selected(each["podSelector"], other) for each in ends if "podSelector" in each
        )
