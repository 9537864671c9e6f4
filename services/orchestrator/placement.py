"""Where a frame can go: pure functions from what is known of the stages to a route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, List, Mapping, Tuple

from common.domain.errors import PreconditionError, UnavailableError
from common.domain.placement import NodePair, Placement, Stage, StageAddress

# Kinds of faults, to count by.
DIED = "died"
SILENT = "silent"
NOT_SERVING = "not serving"


@dataclass(frozen=True)
class StageHealth:
    """What is known of one stage's server.

    Attributes:
        address: where it listens.
        healthy: whether it answers, and its health service says SERVING.
        reason: why not; empty when healthy.
        fault: the kind of `reason`; empty when healthy.
        since: when it became so; `time.monotonic`.
        lapsed: whether it was healthy before and lost since, so that it has to prove itself.
    """

    address: StageAddress
    healthy: bool
    reason: str = ""
    fault: str = ""
    since: float = 0.0
    lapsed: bool = False

    @property
    def silent(self) -> bool:
        """Whether it does not answer at all, so that nothing more will come from it."""
        return self.fault == SILENT

    def settled(self, now: float, recovery_seconds: float) -> bool:
        """Whether it is healthy, and has been for a while if it was lost before."""
        return self.healthy and (not self.lapsed or now - self.since >= recovery_seconds)


StageStates = Mapping[StageAddress, StageHealth]


@dataclass(frozen=True)
class Route:
    """A pair of nodes resolved to the servers that a frame goes through."""

    backbone: StageAddress
    transformer: StageAddress

    @property
    def pair(self) -> NodePair:
        """The nodes."""
        return NodePair(self.backbone.node, self.transformer.node)

    def uses(self, address: StageAddress) -> bool:
        """Whether frames on this route go through a server."""
        return address in (self.backbone, self.transformer)


@dataclass(frozen=True)
class Impasse:
    """Why a route is not to be taken although both of its stages are healthy."""

    reason: str
    until: float


Impasses = Mapping[Route, Impasse]


def configured_pairs(addresses: Iterable[StageAddress]) -> Tuple[NodePair, ...]:
    """Every pair of nodes that has both stages: the four placements first, then by name."""
    addresses = tuple(addresses)
    nodes = {stage: {each.node for each in addresses if each.stage is stage} for stage in Stage}
    pairs = {
        NodePair(backbone, transformer)
        for backbone in nodes[Stage.BACKBONE]
        for transformer in nodes[Stage.TRANSFORMER]
    }
    named = [placement.pair for placement in Placement if placement.pair in pairs]
    others = sorted(pairs.difference(named), key=lambda pair: pair.name)
    return (*named, *others)


def routes_of(pair: NodePair, states: StageStates, impasses: Impasses) -> Tuple[Route, ...]:
    """Every route of a pair that can serve now; at least one.

    Raises:
        PreconditionError: a node that it needs is not configured.
        UnavailableError: a stage that it needs is down; the message names each.
    """
    backbones = _servers(pair.backbone, Stage.BACKBONE, states)
    transformers = _servers(pair.transformer, Stage.TRANSFORMER, states)
    missing = [
        f"{stage.value} on {node}"
        for node, stage, found in (
            (pair.backbone, Stage.BACKBONE, backbones),
            (pair.transformer, Stage.TRANSFORMER, transformers),
        )
        if not found
    ]
    if missing:
        raise PreconditionError(
            f"placement {pair.name} needs {' and '.join(missing)}, not configured here"
        )
    down = [
        f"{state.address.name} is down ({state.reason})"
        for group in (backbones, transformers)
        if not any(state.healthy for state in group)
        for state in group
    ]
    if down:
        raise UnavailableError(f"placement {pair.name} cannot serve: {'; '.join(down)}")
    routes = [
        Route(backbone.address, transformer.address)
        for backbone in backbones
        for transformer in transformers
        if backbone.healthy and transformer.healthy
    ]
    passable = tuple(route for route in routes if route not in impasses)
    if not passable:
        reasons = "; ".join(sorted({impasses[route].reason for route in routes}))
        raise UnavailableError(f"placement {pair.name} cannot serve: {reasons}")
    return passable


def obstacle(pair: NodePair, states: StageStates, impasses: Impasses) -> str:
    """Why a pair of nodes cannot serve; empty when it can."""
    try:
        routes_of(pair, states, impasses)
    except (PreconditionError, UnavailableError) as error:
        return str(error)
    return ""


def settled(pair: NodePair, states: StageStates, now: float, recovery_seconds: float) -> bool:
    """Whether each stage of a pair has a server that is healthy, and has been for a while."""
    return all(
        any(state.settled(now, recovery_seconds) for state in _servers(node, stage, states))
        for node, stage in (
            (pair.backbone, Stage.BACKBONE),
            (pair.transformer, Stage.TRANSFORMER),
        )
    )


def nothing_serves(states: StageStates, impasses: Impasses) -> UnavailableError:
    """The error for a frame that may go anywhere, when it can go nowhere."""
    down = [state.address.name for state in states.values() if not state.healthy]
    reasons = [f"down: {', '.join(down)}"] if down else []
    reasons += sorted({impasse.reason for impasse in impasses.values()})
    return UnavailableError(f"no placement can serve; {'; '.join(reasons) or 'down: nothing'}")


def _servers(node: str, stage: Stage, states: StageStates) -> List[StageHealth]:
    return [
        state
        for address, state in states.items()
        if address.node == node and address.stage is stage
    ]
