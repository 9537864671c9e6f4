"""A client's requests: the options of its stream, then its frames, each checked as it is read."""

from __future__ import annotations

import asyncio
import time
from typing import AsyncIterator, Optional

from common.domain.detections import OverloadPolicy, StreamOptions
from common.domain.errors import InvalidInputError
from common.server.guard import GuardedStream
from common.wire.frames import content_bytes
from common.wire.placements import stream_options_from_wire
from protos.tandem.v1 import detector_pb2
from services.orchestrator.session.quotas import UNLIMITED, Allowance

# How soon a stream that waits for its quota notices another one.
_LOOK_SECONDS = 1.0


class ClientRequests:
    """Reads a client's stream: its `options` once, then it is an iterator of the frames."""

    def __init__(self, stream: GuardedStream, allowance: Allowance = UNLIMITED) -> None:
        """Read from `stream`, no faster than the allowance has it."""
        self._stream = stream
        self._allowance = allowance
        self._is_live = False
        # A first request that was a frame.
        self._first: Optional[detector_pb2.DetectRequest] = None
        self._latest_id = -1

    async def options(self) -> Optional[StreamOptions]:
        """The options: the stream's first message, or all defaults where that is a frame.

        Returns:
            None if the client ended its stream without a message.

        Raises:
            InvalidInputError: a value is out of range or unknown; the message says which.
        """
        first = await self._next()
        if first is None:
            return None
        # Read at once: what is part of a message keeps all of it, which may be a frame.
        options = stream_options_from_wire(first.options)
        self._is_live = options.overload is OverloadPolicy.DROP_OLDEST
        if first.WhichOneof("request") == "options":
            self._stream.drop()
        else:
            self._first = first
        return options

    def __aiter__(self) -> AsyncIterator[detector_pb2.Frame]:
        """Iterate over the frames of the stream, each with a greater id than the one before."""
        return self

    async def __anext__(self) -> detector_pb2.Frame:
        """The next frame, once the quota allows it.

        Raises:
            InvalidInputError: an id does not increase, or options come late.
        """
        request, self._first = self._first, None
        if request is None:
            request = await self._next()
        if request is None:
            raise StopAsyncIteration
        frame: detector_pb2.Frame = request.frame
        self._check(request, frame.frame_id)
        self._latest_id = frame.frame_id
        if self._allowance is not UNLIMITED:
            self._allowance.take(content_bytes(frame), live=self._is_live)
        return frame

    def _check(self, request: detector_pb2.DetectRequest, frame_id: int) -> None:
        if request.WhichOneof("request") != "frame":
            raise InvalidInputError(
                f"after frame {self._latest_id}: options have to come first, once"
            )
        if frame_id <= self._latest_id:
            raise InvalidInputError(
                f"frame id {frame_id} does not increase: {self._latest_id} came before"
            )

    async def _next(self) -> Optional[detector_pb2.DetectRequest]:
        """The next request, once the quota allows it; None after the last."""
        if self._allowance is not UNLIMITED:
            await self._wait_for_quota()
        try:
            return await self._stream.__anext__()  # type: ignore[no-any-return]
        except StopAsyncIteration:
            return None

    async def _wait_for_quota(self) -> None:
        wait_seconds = self._allowance.wait_seconds(live=self._is_live)
        if wait_seconds > 0:
            # Nothing is read meanwhile, so that others may have the room.
            self._stream.account.unreserve()
        until = time.monotonic() + wait_seconds
        while wait_seconds > 0:
            await asyncio.sleep(min(wait_seconds, _LOOK_SECONDS))
            # No longer than it seemed, whatever others use meanwhile; but the quota may change.
            wait_seconds = self._allowance.wait_seconds(live=self._is_live)
            wait_seconds = min(wait_seconds, until - time.monotonic())
