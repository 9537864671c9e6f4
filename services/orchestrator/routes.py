"""One session's streams to backbones: opened when needed, closed when left."""

from __future__ import annotations

import asyncio
from typing import Dict, Mapping

import grpc

from common.domain.errors import TandemError
from common.domain.placement import Stage, StageAddress
from common.stage.client import StageStream
from common.wire.placements import placement_to_wire
from protos.tandem.v1 import detector_pb2, stage_pb2
from services.orchestrator.placement import Route, name_of

SENDER = "orchestrator"


class RouteStreams:
    """A stream for each route that the session's frames take.

    Usually one; two while the frames in flight on a left route come home.
    """

    def __init__(
        self,
        session_id: str,
        options: detector_pb2.StreamOptions,
        channels: Mapping[StageAddress, grpc.aio.Channel],
    ) -> None:
        """Open nothing yet.

        Args:
            session_id: for the stages' logs.
            options: of the client's stream.
            channels: to each backbone.
        """
        self._session_id = session_id
        self._options = options
        self._channels = channels
        self._streams: Dict[Route, asyncio.Task[StageStream]] = {}

    async def ask(self, route: Route, frame: detector_pb2.Frame) -> stage_pb2.FrameResult:
        """Send a frame along a route and wait for its result.

        Raises:
            TandemError: the route could not be opened, or was lost while the frame was under way.
        """
        if route not in self._streams:
            opening = self._streams[route] = asyncio.ensure_future(self._open(route))
            opening.add_done_callback(lambda done: self._forget_if_failed(route, done))
        opening = self._streams[route]
        try:
            # Shielded: that one frame is given up must not end the opening for the others.
            stream = await asyncio.shield(opening)
            return await stream.ask(stage_pb2.BackboneRequest(frame=frame), frame.frame_id)
        except TandemError:
            # The next frame of this route opens it anew.
            if self._streams.get(route) is opening:
                del self._streams[route]
            raise

    async def leave_others(self, route: Route) -> None:
        """Close what is idle on routes other than this one."""
        for other in [other for other in self._streams if other != route]:
            opening = self._streams[other]
            if not opening.done():
                continue
            stream = opening.result()
            if stream.idle:
                del self._streams[other]
                await stream.close()

    async def close(self) -> None:
        """Close every stream."""
        openings = list(self._streams.values())
        self._streams.clear()
        for opening in openings:
            opening.cancel()
        for stream in await asyncio.gather(*openings, return_exceptions=True):
            if isinstance(stream, StageStream):
                await stream.close()

    def _forget_if_failed(self, route: Route, opening: asyncio.Task[StageStream]) -> None:
        failed = opening.cancelled() or opening.exception() is not None
        if failed and self._streams.get(route) is opening:
            del self._streams[route]

    async def _open(self, route: Route) -> StageStream:
        context = stage_pb2.StreamContext(
            session_id=self._session_id,
            placement=placement_to_wire(route.placement),
            max_detections=self._options.max_detections,
            sender=SENDER,
        )
        if self._options.HasField("score_threshold"):
            context.score_threshold = self._options.score_threshold
        opening = stage_pb2.BackboneOpen(
            context=context,
            downstream_node=route.transformer_node,
            codec=self._options.codec,
        )
        return await StageStream.open(
            self._channels[route.backbone],
            Stage.BACKBONE,
            stage_pb2.BackboneRequest(open=opening),
            name_of(route.backbone),
        )
