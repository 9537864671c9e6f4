"""The command lines by which services on one machine become one system. Runs on Python 3.8.

The `tandem` command, the benchmarks and the tests start services in ways of their own; what a
service is told is the same for all of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

from common.domain.placement import Stage
from common.security.identity import Identity

StageAddresses = Mapping[Tuple[str, Stage], Sequence[str]]
"""`HOST:PORT` of every replica of a stage, by the node's name and the stage."""


def stage_arguments(
    bundle: Path, node: str, stage: Stage, address: str, addresses: StageAddresses
) -> List[str]:
    """Arguments of `python -m services.backbone` or `services.transformer`.

    Args:
        bundle: folder of the model.
        node: that the service runs on.
        stage: which of the two it is.
        address: that it listens on; port 0 picks a free one.
        addresses: of the transformers, as this node reaches them; others are left out.
    """
    arguments = ["--bundle", str(bundle.absolute()), "--node", node, *_listening(address)]
    if stage is Stage.BACKBONE:
        transformers = {
            name: list(replicas)
            for (name, kind), replicas in addresses.items()
            if kind is Stage.TRANSFORMER
        }
        arguments += ["--transformers", json.dumps(transformers)]
    return arguments


def orchestrator_arguments(address: str, addresses: StageAddresses) -> List[str]:
    """Arguments of `python -m services.orchestrator`.

    Args:
        address: that it listens on; port 0 picks a free one.
        addresses: of all stages, as the orchestrator reaches them.
    """
    nodes: Dict[str, Dict[str, List[str]]] = {}
    for (node, stage), replicas in addresses.items():
        nodes.setdefault(node, {})[stage.value] = list(replicas)
    return ["--nodes", json.dumps(nodes), *_listening(address)]


def tls_arguments(certificates: Path, identity: Identity) -> List[str]:
    """What gives a service its certificate, and the authorities of its peers and its callers.

    Args:
        certificates: folder of an authority with a certificate for the identity.
        identity: of the service.
    """
    own = certificates / identity.name
    return [
        *("--tls-certificate", str(own / f"{identity.role.value}.crt")),
        *("--tls-key", str(own / f"{identity.role.value}.key")),
        *("--tls-peers-ca", str(own / "peers-ca.crt")),
        *("--tls-clients-ca", str(own / "clients-ca.crt")),
    ]


def _listening(address: str) -> List[str]:
    host, _, port = address.rpartition(":")
    return ["--host", host, "--port", port, "--metrics-port", "0"]
