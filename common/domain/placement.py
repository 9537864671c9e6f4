"""Stages, nodes and placements: which device runs which half of the model (thesis, table 3.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Optional

from common.domain.address import leads_to_several
from common.domain.errors import InvalidInputError
from common.domain.hashed_once import hashed_once

EDGE = "edge"
WORKSTATION = "workstation"
ORCHESTRATOR = "orchestrator"
"""What the orchestrator calls itself where nodes are named."""


class Stage(str, Enum):
    """One half of the model."""

    BACKBONE = "backbone"
    TRANSFORMER = "transformer"


class Placement(str, Enum):
    """Which node runs which stage. `full` keeps both on the edge, `workstation` both off it."""

    FULL = "full"
    BACKBONE = "backbone"
    TRANSFORMER = "transformer"
    WORKSTATION = "workstation"

    @property
    def backbone_node(self) -> str:
        """Name of the node that runs the backbone."""
        return EDGE if self in (Placement.FULL, Placement.BACKBONE) else WORKSTATION

    @property
    def transformer_node(self) -> str:
        """Name of the node that runs the transformer."""
        return EDGE if self in (Placement.FULL, Placement.TRANSFORMER) else WORKSTATION

    @property
    def node_pair(self) -> NodePair:
        """The nodes that it names."""
        return NodePair(self.backbone_node, self.transformer_node)


@hashed_once
@dataclass(frozen=True)
class NodePair:
    """Which node runs which stage, of any nodes; each `Placement` is a name for one of these.

    Attributes:
        backbone: name of the node that runs the backbone.
        transformer: name of the node that runs the transformer.
    """

    backbone: str
    transformer: str

    @classmethod
    def parse(cls, text: str) -> NodePair:
        """Read a placement's name, or `backbone=NODE,transformer=NODE`.

        Raises:
            InvalidInputError: the text is neither.
        """
        for placement in Placement:
            if text == placement.value:
                return placement.node_pair
        nodes = dict(part.partition("=")[::2] for part in text.split(","))
        if set(nodes) != {stage.value for stage in Stage} or not all(nodes.values()):
            names = ", ".join(placement.value for placement in Placement)
            raise InvalidInputError(
                f"{text!r} is no placement: give {names}, or backbone=NODE,transformer=NODE"
            )
        return cls(nodes[Stage.BACKBONE.value], nodes[Stage.TRANSFORMER.value])

    @property
    def placement(self) -> Optional[Placement]:
        """The placement that is a name for these nodes, if one is."""
        return _PLACEMENTS.get(self)

    @cached_property
    def name(self) -> str:
        """The placement's name, or `backbone=NODE,transformer=NODE`."""
        placement = self.placement
        if placement is not None:
            return placement.value
        return f"backbone={self.backbone},transformer={self.transformer}"


_PLACEMENTS = {each.node_pair: each for each in Placement}


@hashed_once
@dataclass(frozen=True)
class StageAddress:
    """Where one stage of one node listens.

    Attributes:
        node: name of the node, as in the configuration.
        stage: which half runs there.
        address: `host:port` of its gRPC server; or `dns:///name:port`, a name that leads to
            several servers, which stands for all of them until the first is found.
        replica: which of the node's configured addresses for this stage it is, from 0.
        found_by: the name in the configuration that led to this address; empty where the
            configuration has the address itself.
    """

    node: str
    stage: Stage
    address: str
    replica: int = 0
    found_by: str = field(default="", compare=False)

    @property
    def is_name(self) -> bool:
        """Whether this is a name, and no server that could be called."""
        return leads_to_several(self.address)

    @property
    def name(self) -> str:
        """The stage as people call it."""
        if self.found_by:
            return f"{self.stage.value} on {self.node} at {self.address}"
        copy = f" (replica {self.replica})" if self.replica else ""
        return f"{self.stage.value} on {self.node}{copy}"
