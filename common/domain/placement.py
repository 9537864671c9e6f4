"""Stages, nodes and placements: which device runs which half of the model (thesis, table 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

EDGE = "edge"
WORKSTATION = "workstation"


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


@dataclass(frozen=True)
class StageAddress:
    """Where one stage of one node listens.

    Attributes:
        node: name of the node, as in the configuration.
        stage: which half runs there.
        address: `host:port` of its gRPC server.
    """

    node: str
    stage: Stage
    address: str
