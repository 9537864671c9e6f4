"""A client's stream options on the wire."""

from __future__ import annotations

from common.domain.stream import OverloadPolicy, StreamOptions
from common.wire.placements import placement_to_wire
from common.wire.tensors import codec_to_wire
from protos.tandem.v1 import detector_pb2

_OVERLOAD_TO_WIRE = {
    OverloadPolicy.BLOCK: detector_pb2.OVERLOAD_BLOCK,
    OverloadPolicy.DROP_OLDEST: detector_pb2.OVERLOAD_DROP_OLDEST,
}


def stream_options_to_wire(options: StreamOptions) -> detector_pb2.StreamOptions:
    """The opening message of a client's stream."""
    pair = options.pair
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
    )
