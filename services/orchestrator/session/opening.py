"""What a backbone is told of one session's stream, before its frames."""

from __future__ import annotations

from typing import Optional

from common.domain.codec import Codec
from common.domain.detections import DEFAULT_SCORE_THRESHOLD, StreamOptions
from common.domain.placement import ORCHESTRATOR
from common.wire.frames import codec_to_wire
from common.wire.placements import placement_to_wire
from protos.tandem.v1 import stage_pb2
from services.orchestrator.routing.routes import Route


class BackboneOpening:
    """Makes the opening messages of one session's streams."""

    def __init__(self, session_id: str, options: StreamOptions, frames_from: str) -> None:
        """Take what all of them have in common.

        Args:
            session_id: for the stages' logs.
            options: those of the client's stream.
            frames_from: place of the orchestrator: a node's name, or `ORCHESTRATOR`.
        """
        self._session_id = session_id
        self._options = options
        self._frames_from = frames_from

    def request(self, route: Route, codec: Optional[Codec]) -> stage_pb2.BackboneRequest:
        """The first message of a stream along a route, whose features travel by this codec."""
        context = stage_pb2.StreamContext(
            session_id=self._session_id,
            placement=placement_to_wire(route.node_pair.placement),
            max_detections=self._options.max_detections,
            sender=ORCHESTRATOR,
            frames_from=self._frames_from,
        )
        if self._options.score_threshold != DEFAULT_SCORE_THRESHOLD:
            context.score_threshold = self._options.score_threshold
        opening = stage_pb2.BackboneOpen(
            context=context,
            downstream_node=route.transformer.node,
            downstream_replica=route.transformer.replica,
            codec=codec_to_wire(codec),
        )
        return stage_pb2.BackboneRequest(open=opening)
