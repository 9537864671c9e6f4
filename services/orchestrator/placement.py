"""Where a frame goes: pure functions from what is known of the stages to a route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from common.domain.errors import PreconditionError, UnavailableError
from common.domain.placement import Placement, Stage, StageAddress

StageKey = Tuple[str, Stage]

# `auto` takes the first that can serve: both devices at work before one alone.
AUTOMATIC_ORDER = (
    Placement.BACKBONE,
    Placement.TRANSFORMER,
    Placement.WORKSTATION,
    Placement.FULL,
)


@dataclass(frozen=True)
class StageHealth:
    """What is known of one stage of one node.

    Attributes:
        address: where it listens.
        healthy: whether its health service says SERVING.
        reason: why not; empty when healthy.
    """

    address: StageAddress
    healthy: bool
    reason: str = ""


StageStates = Mapping[StageKey, StageHealth]


@dataclass(frozen=True)
class Route:
    """A placement resolved: where frames are sent, and which node's transformer follows."""

    placement: Placement
    backbone: StageAddress
    transformer_node: str


def route_of(placement: Placement, states: StageStates) -> Route:
    """Resolve a placement.

    Raises:
        PreconditionError: a node that it needs is not configured.
        UnavailableError: a stage that it needs is down; the message names each.
    """
    keys = (
        (placement.backbone_node, Stage.BACKBONE),
        (placement.transformer_node, Stage.TRANSFORMER),
    )
    missing = [f"{stage.value} on {node}" for node, stage in keys if (node, stage) not in states]
    if missing:
        raise PreconditionError(
            f"placement {placement.value} needs {' and '.join(missing)}, not configured here"
        )
    down = [states[key] for key in keys if not states[key].healthy]
    if down:
        reasons = "; ".join(f"{name_of(state.address)} is down ({state.reason})" for state in down)
        raise UnavailableError(f"placement {placement.value} cannot serve: {reasons}")
    return Route(placement, states[keys[0]].address, placement.transformer_node)


def choose_route(wanted: Optional[Placement], states: StageStates) -> Route:
    """The route of the wanted placement, or of the best one that can serve if none is wanted.

    Raises:
        PreconditionError: a node that the wanted placement needs is not configured.
        UnavailableError: it cannot serve, or none can; the message names what is down.
    """
    if wanted is not None:
        return route_of(wanted, states)
    for placement in AUTOMATIC_ORDER:
        if obstacle(placement, states) == "":
            return route_of(placement, states)
    down = [name_of(state.address) for state in states.values() if not state.healthy]
    raise UnavailableError(f"no placement can serve; down: {', '.join(down) or 'nothing'}")


def obstacle(placement: Placement, states: StageStates) -> str:
    """Why a placement cannot serve; empty when it can."""
    try:
        route_of(placement, states)
    except (PreconditionError, UnavailableError) as error:
        return str(error)
    return ""


def name_of(address: StageAddress) -> str:
    """A stage as people call it."""
    return f"{address.stage.value} on {address.node}"
