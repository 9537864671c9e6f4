"""Why a node pair cannot serve, by the servers of its stages; no I/O, no clock."""

from __future__ import annotations

from typing import Iterator, List

from common.domain.errors import PreconditionError, UnavailableError
from common.domain.placement import NodePair, Stage
from services.orchestrator.routing.routes import StageHealth
from services.orchestrator.routing.served_models import told_model


def check_configured(
    node_pair: NodePair, backbones: List[StageHealth], transformers: List[StageHealth]
) -> None:
    """Check that both stages have a server.

    Raises:
        PreconditionError: one has none; the message names each.
    """
    missing = _missing(node_pair, backbones, transformers)
    if missing:
        raise PreconditionError(
            f"placement {node_pair.name} needs {' and '.join(missing)}, not configured here"
        )


def check_served(
    node_pair: NodePair,
    backbones: List[StageHealth],
    transformers: List[StageHealth],
    model: str,
) -> None:
    """Check that both stages have a server that serves a model, by those that may.

    Raises:
        PreconditionError: one has none; the message names each.
    """
    missing = _missing(node_pair, backbones, transformers)
    if missing:
        raise PreconditionError(
            f"placement {node_pair.name} cannot serve {told_model(model)}, which "
            f"the {' and the '.join(missing)} does not have"
        )


def check_healthy(node_pair: NodePair, *stages: List[StageHealth]) -> None:
    """Check that each stage has a healthy server.

    Raises:
        UnavailableError: one has none; the message names each of its servers.
    """
    unavailable = [reason for servers in stages for reason in _unhealthy(servers)]
    if unavailable:
        raise UnavailableError(f"placement {node_pair.name} cannot serve: {'; '.join(unavailable)}")


def _missing(
    node_pair: NodePair, backbones: List[StageHealth], transformers: List[StageHealth]
) -> List[str]:
    """The stages of a pair that have no server, in words."""
    missing = []
    if not backbones:
        missing.append(f"{Stage.BACKBONE.value} on {node_pair.backbone}")
    if not transformers:
        missing.append(f"{Stage.TRANSFORMER.value} on {node_pair.transformer}")
    return missing


def _unhealthy(servers: List[StageHealth]) -> Iterator[str]:
    """Why none of a stage's servers is healthy; nothing if one is."""
    if any(server.healthy for server in servers):
        return
    for server in servers:
        yield f"{server.address.name} is unavailable ({server.reason})"
