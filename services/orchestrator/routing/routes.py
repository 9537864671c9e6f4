"""The servers that a frame can go through, and what is known of their health."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Iterable, NamedTuple, Sequence, Tuple

from common.domain.hashed_once import hashed_once
from common.domain.placement import NodePair, Placement, Stage, StageAddress

# Kinds of faults, as the metric `tandem_failovers_total` names them.
DIED = "died"
SILENT = "silent"
NOT_SERVING = "not serving"
NO_PROGRESS = "stalled"
# No fault, and not counted as one: the name that led to the server does not any more.
LEFT = "left"

# What a replica is doing, as the metric `tandem_replicas` names it.
SERVING = "serving"
UNAVAILABLE = "unavailable"
LEAVING = "leaving"


@dataclass(frozen=True)
class StageHealth:
    """What is known of one stage's server.

    Attributes:
        address: where it listens.
        healthy: whether it answers, and its health service says SERVING.
        reason: why it is not healthy; empty when it is.
        fault: the kind of `reason`; empty when the server is healthy.
        changed_at: when it became healthy or unhealthy; seconds, by `time.monotonic`.
        interrupted: whether it was healthy before and became unhealthy since, so that it has to
            prove itself.
    """

    address: StageAddress
    healthy: bool
    reason: str = ""
    fault: str = ""
    changed_at: float = 0.0
    interrupted: bool = False

    @classmethod
    def unknown(cls, address: StageAddress) -> StageHealth:
        """The health of a server that nobody has looked at yet."""
        return cls(address, False, "not reached yet", DIED)

    @property
    def state(self) -> str:
        """What it is doing, as the metric `tandem_replicas` names it."""
        if self.healthy:
            return SERVING
        return LEAVING if self.fault == LEFT else UNAVAILABLE

    @property
    def in_good_order(self) -> bool:
        """Whether it serves no more because it was told so, which says nothing of any frame."""
        return self.fault in (NOT_SERVING, LEFT)

    @property
    def silent(self) -> bool:
        """Whether it does not answer at all, so that nothing more will come from it."""
        return self.fault == SILENT

    def has_recovered(self, now: float, recovery_seconds: float) -> bool:
        """Whether it is healthy, and has been for so long if it was interrupted before."""
        return self.healthy and (not self.interrupted or now - self.changed_at >= recovery_seconds)


@hashed_once
@dataclass(frozen=True)
class Route:
    """A node pair resolved to the servers that a frame goes through."""

    backbone: StageAddress
    transformer: StageAddress

    @cached_property
    def node_pair(self) -> NodePair:
        """The nodes of its servers."""
        return NodePair(self.backbone.node, self.transformer.node)

    @property
    def servers(self) -> Tuple[StageAddress, StageAddress]:
        """Both servers, in the order in which a frame reaches them."""
        return self.backbone, self.transformer

    def uses(self, server: StageAddress) -> bool:
        """Whether frames on this route go through a server."""
        return server in self.servers


class AvailableRoutes(NamedTuple):
    """The routes of a node pair that are available, as every frame needs them.

    Attributes:
        servers: that they go through.
        routes: each with the places of its backbone and its transformer among the servers.
    """

    servers: Sequence[StageAddress]
    routes: Sequence[Tuple[Route, int, int]]

    @classmethod
    def of(cls, routes: Sequence[Route]) -> AvailableRoutes:
        """Take in the routes; their servers are in the order of their coming."""
        servers = list(dict.fromkeys(server for route in routes for server in route.servers))
        places = {server: place for place, server in enumerate(servers)}
        return cls(
            servers,
            [(route, places[route.backbone], places[route.transformer]) for route in routes],
        )


def configured_pairs(servers: Iterable[StageAddress]) -> Tuple[NodePair, ...]:
    """Every node pair that has both stages: the four named placements first, then by name."""
    servers = tuple(servers)
    nodes = {stage: {each.node for each in servers if each.stage is stage} for stage in Stage}
    pairs = {
        NodePair(backbone, transformer)
        for backbone in nodes[Stage.BACKBONE]
        for transformer in nodes[Stage.TRANSFORMER]
    }
    named = [each.node_pair for each in Placement if each.node_pair in pairs]
    others = sorted(pairs.difference(named), key=lambda node_pair: node_pair.name)
    return (*named, *others)
