"""Placements on the wire."""

from __future__ import annotations

from typing import Dict, Optional

from common.domain.errors import InvalidInputError
from common.domain.placement import Placement
from protos.tandem.v1 import detector_pb2

_TO_WIRE = {
    Placement.FULL: detector_pb2.PLACEMENT_FULL,
    Placement.BACKBONE: detector_pb2.PLACEMENT_BACKBONE,
    Placement.TRANSFORMER: detector_pb2.PLACEMENT_TRANSFORMER,
    Placement.WORKSTATION: detector_pb2.PLACEMENT_WORKSTATION,
}
_FROM_WIRE: Dict[int, Placement] = {value: placement for placement, value in _TO_WIRE.items()}


def placement_to_wire(placement: Optional[Placement]) -> detector_pb2.Placement:
    """None is PLACEMENT_UNSPECIFIED."""
    return detector_pb2.PLACEMENT_UNSPECIFIED if placement is None else _TO_WIRE[placement]


def placement_from_wire(value: int) -> Optional[Placement]:
    """PLACEMENT_UNSPECIFIED is None.

    Raises:
        InvalidInputError: no placement has this value.
    """
    if value == detector_pb2.PLACEMENT_UNSPECIFIED:
        return None
    if value not in _FROM_WIRE:
        raise InvalidInputError(f"unknown placement {value}")
    return _FROM_WIRE[value]
