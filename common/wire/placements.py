"""What a client asks for, on the wire: placements, node pairs and the options of its stream."""

from __future__ import annotations

from typing import Dict, Optional

from common.domain.codec import Codec
from common.domain.detections import DEFAULT_SCORE_THRESHOLD, OverloadPolicy, StreamOptions
from common.domain.errors import InvalidInputError
from common.domain.models import MODEL_NAME_RULE, is_model_name
from common.domain.placement import NodePair, Placement
from common.wire.detections import checked_threshold
from common.wire.frames import codec_from_wire, codec_to_wire
from common.wire.video import optional_video_from_wire, video_to_wire
from protos.tandem.v1 import detector_pb2, operations_pb2

_PLACEMENT_TO_WIRE = {
    Placement.FULL: detector_pb2.PLACEMENT_FULL,
    Placement.BACKBONE: detector_pb2.PLACEMENT_BACKBONE,
    Placement.TRANSFORMER: detector_pb2.PLACEMENT_TRANSFORMER,
    Placement.WORKSTATION: detector_pb2.PLACEMENT_WORKSTATION,
}
_PLACEMENT_FROM_WIRE: Dict[int, Placement] = {
    value: placement for placement, value in _PLACEMENT_TO_WIRE.items()
}


def placement_to_wire(placement: Optional[Placement]) -> detector_pb2.Placement:
    """None is PLACEMENT_UNSPECIFIED."""
    return (
        detector_pb2.PLACEMENT_UNSPECIFIED if placement is None else _PLACEMENT_TO_WIRE[placement]
    )


def placement_from_wire(value: int) -> Optional[Placement]:
    """PLACEMENT_UNSPECIFIED is None.

    Raises:
        InvalidInputError: no placement has this value.
    """
    if value == detector_pb2.PLACEMENT_UNSPECIFIED:
        return None
    if value not in _PLACEMENT_FROM_WIRE:
        raise InvalidInputError(f"unknown placement {value}")
    return _PLACEMENT_FROM_WIRE[value]


def requested_pair_from_wire(placement: int, backbone: str, transformer: str) -> Optional[NodePair]:
    """The nodes asked for, by a placement or by their names; None if neither is given.

    Raises:
        InvalidInputError: no placement has this value, one node alone is named, or both ways are
            used at once.
    """
    named = placement_from_wire(placement)
    if not backbone and not transformer:
        return None if named is None else named.node_pair
    if not backbone or not transformer:
        raise InvalidInputError("backbone_node and transformer_node have to be set both, or none")
    if named is not None:
        raise InvalidInputError("give a placement or the names of two nodes, not both")
    return NodePair(backbone, transformer)


def node_pair_to_wire(pair: Optional[NodePair]) -> Optional[operations_pb2.NodePair]:
    """Nodes by their names; None is an absent message."""
    if pair is None:
        return None
    return operations_pb2.NodePair(backbone=pair.backbone, transformer=pair.transformer)


def optional_node_pair_from_wire(
    message: operations_pb2.NodePair, present: bool
) -> Optional[NodePair]:
    """The nodes of a message; None if it is absent."""
    return NodePair(message.backbone, message.transformer) if present else None


def served_pair_from_wire(response: detector_pb2.DetectResponse) -> Optional[NodePair]:
    """The nodes that served a frame: of its placement, or as its timing names them."""
    placement = placement_from_wire(response.placement)
    if placement is not None:
        return placement.node_pair
    timing = response.timing
    if not timing.HasField("backbone") or not timing.HasField("transformer"):
        return None
    return NodePair(timing.backbone.node, timing.transformer.node)


_OVERLOAD_TO_WIRE = {
    OverloadPolicy.BLOCK: detector_pb2.OVERLOAD_BLOCK,
    OverloadPolicy.DROP_OLDEST: detector_pb2.OVERLOAD_DROP_OLDEST,
}
_OVERLOAD_FROM_WIRE: Dict[int, OverloadPolicy] = {
    detector_pb2.OVERLOAD_UNSPECIFIED: OverloadPolicy.BLOCK,
    **{value: policy for policy, value in _OVERLOAD_TO_WIRE.items()},
}


def stream_options_from_wire(wire: detector_pb2.StreamOptions) -> StreamOptions:
    """What a client asks of its stream.

    Raises:
        InvalidInputError: a value is out of range or unknown; the message says which.
    """
    codec = codec_from_wire(wire.codec)
    threshold = DEFAULT_SCORE_THRESHOLD
    if wire.HasField("score_threshold"):
        threshold = checked_threshold(wire.score_threshold)
    if wire.overload not in _OVERLOAD_FROM_WIRE:
        raise InvalidInputError(f"unknown overload policy {wire.overload}")
    return StreamOptions(
        requested_pair=requested_pair_from_wire(
            wire.placement, wire.backbone_node, wire.transformer_node
        ),
        score_threshold=threshold,
        max_detections=wire.max_detections,
        overload=_OVERLOAD_FROM_WIRE[wire.overload],
        codec=codec,
        max_link_bits_per_second=_checked_limit(wire, codec),
        video=optional_video_from_wire(wire),
        track=wire.track,
        model=checked_model(wire.model),
    )


def checked_model(name: str) -> str:
    """A model's name itself; empty: the default model.

    Raises:
        InvalidInputError: no model can have this name.
    """
    if name and not is_model_name(name):
        raise InvalidInputError(f"{name!r} is no model's name: {MODEL_NAME_RULE}")
    return name


def _checked_limit(wire: detector_pb2.StreamOptions, codec: Optional[Codec]) -> int:
    """The most bits a second of the stream's features; 0 is no limit.

    Raises:
        InvalidInputError: a codec is named as well, so that there is nothing left to choose.
    """
    if wire.max_link_bits_per_second and codec is not None:
        raise InvalidInputError(
            f"max_link_bits_per_second chooses the codec, and {codec.value} is asked for: "
            "give one of them"
        )
    return wire.max_link_bits_per_second


def stream_options_to_wire(options: StreamOptions) -> detector_pb2.StreamOptions:
    """The opening message of a client's stream."""
    pair = options.requested_pair
    named = pair.placement if pair else None
    by_nodes = pair if named is None else None
    return detector_pb2.StreamOptions(
        placement=placement_to_wire(named),
        backbone_node=by_nodes.backbone if by_nodes else "",
        transformer_node=by_nodes.transformer if by_nodes else "",
        score_threshold=options.score_threshold,
        max_detections=options.max_detections,
        overload=_OVERLOAD_TO_WIRE[options.overload],
        codec=codec_to_wire(options.codec),
        max_link_bits_per_second=options.max_link_bits_per_second,
        video=video_to_wire(options.video),
        track=options.track,
        model=options.model,
    )
