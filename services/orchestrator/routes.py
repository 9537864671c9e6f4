"""One session's streams to backbones: opened when needed, closed when left."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Dict, Mapping, Sequence

import grpc

from common.domain.placement import Stage, StageAddress
from common.stage.client import StageStream
from common.wire.placements import placement_to_wire
from protos.tandem.v1 import detector_pb2, stage_pb2
from services.orchestrator.placement import Route, name_of

SENDER = "orchestrator"


@dataclass
class _Entry:
    """A route's stream, or its opening, and how many frames are under way on it."""

    opening: asyncio.Task[StageStream]
    frames: int = 0

    @property
    def ended(self) -> bool:
        """Whether the route has to be opened anew: it could not be, or was lost since."""
        if not self.opening.done():
            return False
        failed = self.opening.cancelled() or self.opening.exception() is not None
        return failed or self.opening.result().lost


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
        self._entries: Dict[Route, _Entry] = {}

    async def ask(self, route: Route, frame: detector_pb2.Frame) -> stage_pb2.FrameResult:
        """Send a frame along a route and wait for its result.

        Raises:
            TandemError: the route could not be opened, or was lost while the frame was under way.
        """
        entry = self._entries.get(route)
        if entry is None or entry.ended:
            entry = self._entries[route] = _Entry(asyncio.ensure_future(self._open(route)))
        entry.frames += 1
        try:
            # Shielded: that one frame is given up must not end the opening for the others.
            stream = await asyncio.shield(entry.opening)
            return await stream.ask(stage_pb2.BackboneRequest(frame=frame), frame.frame_id)
        finally:
            entry.frames -= 1

    async def leave_others(self, route: Route) -> None:
        """Close the routes other than this one that no frame is on any more."""
        left = [
            other for other, entry in self._entries.items() if other != route and not entry.frames
        ]
        await _close_all([self._entries.pop(other) for other in left])

    async def close(self) -> None:
        """Close every route."""
        entries = list(self._entries.values())
        self._entries.clear()
        await _close_all(entries)

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


async def _close_all(entries: Sequence[_Entry]) -> None:
    for entry in entries:
        entry.opening.cancel()
    for stream in await asyncio.gather(*(each.opening for each in entries), return_exceptions=True):
        if isinstance(stream, StageStream):
            await stream.close()
