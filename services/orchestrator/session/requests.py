"""A client's requests: the options of its stream, then its frames, each checked as it is read."""

from __future__ import annotations

import asyncio
from typing import AsyncIterator, Optional

from common.domain.detections import OverloadPolicy, StreamOptions
from common.domain.errors import InvalidInputError
from common.server.guard import GuardedStream
from common.wire.frames import content_bytes
from common.wire.placements import stream_options_from_wire
from protos.tandem.v1 import detector_pb2
from services.orchestrator.session.quotas import UNLIMITED, Allowance


class ClientRequests:
    """Reads a client's stream: `options` once, then `frames`."""

    def __init__(self, stream: GuardedStream, allowance: Allowance = UNLIMITED) -> None:
        """Read from `stream`, no faster than the allowance has it."""
        self._stream = stream
        self._allowance = allowance
        self._is_live = False
        # A first request that was a frame.
        self._first: Optional[detector_pb2.DetectRequest] = None

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

    async def frames(self) -> AsyncIterator[detector_pb2.Frame]:
        """The frames of the stream, each with a greater id than the one before.

        Raises:
            InvalidInputError: an id does not increase, or options come late.
        """
        latest_id = -1
        request, self._first = self._first, None
        if request is None:
            request = await self._next()
        while request is not None:
            self._check(request, latest_id)
            latest_id = request.frame.frame_id
            self._allowance.take(content_bytes(request.frame), live=self._is_live)
            yield request.frame
            # It may be large, and the next may be long in coming.
            del request
            request = await self._next()

    def _check(self, request: detector_pb2.DetectRequest, latest_id: int) -> None:
        if request.WhichOneof("request") != "frame":
            raise InvalidInputError(f"after frame {latest_id}: options have to come first, once")
        if request.frame.frame_id <= latest_id:
            raise InvalidInputError(
                f"frame id {request.frame.frame_id} does not increase: {latest_id} came before"
            )

    async def _next(self) -> Optional[detector_pb2.DetectRequest]:
        """The next request, once the quota allows it; None after the last."""
        wait_seconds = self._allowance.wait_seconds(live=self._is_live)
        if wait_seconds > 0:
            # Nothing is read meanwhile, so that others may have the room.
            self._stream.account.unreserve()
            await asyncio.sleep(wait_seconds)
        async for request in self._stream:
            return request  # type: ignore[no-any-return]
        return None
