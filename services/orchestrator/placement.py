"""Stages, and the pairs and routes that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Mapping, Tuple

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

    @property
    def servers(self) -> Tuple[StageAddress, StageAddress]:
        """Both, in the order in which a frame comes to them."""
        return self.backbone, self.transformer

    def uses(self, address: StageAddress) -> bool:
        """Whether frames on this route go through a server."""
        return address in self.servers


def configured_pairs(addresses: Iterable[StageAddress]) -> Tuple[NodePair, ...]:
    """Every pair of nodes that has both stages: the four placements first, then by name."""
    addresses = tuple(addresses)
    nodes = {stage: {each.node for each in addresses if each.stage is stage} for stage in Stage}
    pairs = {
        NodePair(backbone, transformer)
        for backbone in nodes[Stage.BACKBONE]
        for transformer in nodes[Stage.TRANSFORMER]
    }
    named = [placement.node_pair for placement in Placement if placement.node_pair in pairs]
    others = sorted(pairs.difference(named), key=lambda pair: pair.name)
    return (*named, *others)
