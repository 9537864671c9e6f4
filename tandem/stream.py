"""One stream: frames are written while answers are read, over one connection after another."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from common.domain.detections import FrameTiming, OverloadPolicy, StreamOptions
from common.domain.errors import ServiceError, TandemError, UnavailableError
from common.wire.connections import CallEnding
from common.wire.detections import detections_from_wire, timing_from_wire
from common.wire.errors import connection_fault, error_from_wire
from common.wire.placements import served_pair_from_wire, stream_options_to_wire
from protos.tandem.v1 import detector_pb2
from tandem.client_traces import end_span
from tandem.group import Group
from tandem.result_tracks import TrackNumbers
from tandem.results import FrameResult
from tandem.supply import FrameSupply, Supplied

# Between tries, doubled each time until a frame is answered again: a server that drains takes
# streams and ends them at once.
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.05, 1.0


@dataclass(frozen=True)
class Server:
    """What a stream has to know of its server.

    Attributes:
        open_call: makes a `Detect` call; given True, it waits until the server can be reached.
        error: translates the status of a call that failed.
        accepts_again: whether a call may succeed after all that ended since the server did not
            accept the client's identity any more: it has a newer certificate by now.
        reconnect_seconds: how long a server that was lost may take to answer a frame again; 0:
            a lost connection ends the stream.
    """

    open_call: Callable[[bool], Any]
    error: Callable[[grpc.StatusCode, str], Awaitable[TandemError]]
    accepts_again: Callable[[], bool]
    reconnect_seconds: float


class DetectStream:
    """The frames of one caller and their results, over one `Detect` call after another.

    Frames that a lost connection leaves unanswered are sent again, with the ids that they had. Of
    a live source they would be outdated, so that they count as dropped, as does what comes until
    the server is back.

    Frames of video cannot be decoded alone: the group that they belong to is sent again as well,
    from its key frame on, and what is answered to it once more is passed over.
    """

    def __init__(self, server: Server, supply: FrameSupply, options: StreamOptions) -> None:
        """Prepare; `results` begins."""
        self._server = server
        self._supply = supply
        self._opening = detector_pb2.DetectRequest(options=stream_options_to_wire(options))
        self._live = options.overload is OverloadPolicy.DROP_OLDEST
        self._unanswered: deque[Supplied] = deque()
        self._group = Group(is_kept=options.video is not None and server.reconnect_seconds > 0)
        self._repeated: deque[int] = deque()
        self._begins = True
        self._numbers = TrackNumbers()
        self._call = server.open_call(False)
        self._ending = CallEnding(self._call)
        self._sender: asyncio.Task[None] | None = None
        self._outage: _Outage | None = None
        self._reached = False
        self._closed = False

    async def results(self) -> AsyncIterator[FrameResult]:
        """Send the frames and yield their results.

        Raises:
            TandemError: the server ended the stream, it cannot be reached (any more), it broke its
                promise, or the source failed.
        """
        self._sender = asyncio.create_task(self._send(self._call))
        while (result := await self._next()) is not None:
            yield result
            self._supply.answered()

    async def close(self) -> None:
        """Cancel what still runs and wait for it; harmless when all is done."""
        self._closed = True
        self._call.cancel()
        running = [self._sender, self._outage.reconnecting if self._outage else None]
        # The consumer has left or has got the reason already; nobody asks for theirs.
        await _cancelled(*running)
        for frame in self._unanswered:
            frame.span.fail("unanswered", "the stream ended before its answer came")
            frame.span.end()
        await self._supply.close()

    async def _next(self) -> FrameResult | None:
        """The next result; None after the last."""
        while True:
            if self._outage is not None and self._outage.reconnecting is not None:
                if not self._unanswered and self._supply.ended:
                    await self._supply.next()
                    return None
                dropped = await self._wait_for_server(self._outage, self._outage.reconnecting)
                if dropped is not None:
                    return dropped
            try:
                response = await self._read()
            except grpc.aio.AioRpcError as error:
                await self._note_loss(error)
                continue
            if response is None:
                raise ServiceError("the server's answer cannot be read; it is of another protocol")
            if response is grpc.aio.EOF:
                await self._finish()
                return None
            self._check_turn(response)
            if self._repeated:
                self._repeated.popleft()
                continue
            self._outage = None
            return self._result(response)

    async def _read(self) -> Any:
        try:
            return await self._call.read()
        except grpc.aio.AioRpcError:
            await self._ending.wait()
            if self._ending.code is grpc.StatusCode.OK:
                return grpc.aio.EOF
            raise

    async def _finish(self) -> None:
        """The server ended the stream well: check that it may, and tell of a source that failed."""
        due = self._due()
        if due is not None:
            raise ServiceError(f"the server ended the stream without answering frame {due}")
        if not self._supply.ended:
            raise ServiceError("the server ended the stream before the frames did")
        await self._supply.next()

    async def _send(self, call: Any) -> None:
        """Write what is unanswered, then each frame as it comes, to one call."""
        try:
            if not self._reached:
                await call.write(self._opening)
                self._reached = True
            for frame in tuple(self._unanswered):
                await self._write_group_before(frame, call)
                await call.write(frame.request)
            while (next_frame := await self._supply.next()) is not None:
                self._unanswered.append(next_frame)
                if self._begins:
                    await self._write_group_before(next_frame, call)
                await call.write(next_frame.request)
                if not self._is_sent_again:
                    next_frame.request = None
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TandemError):
            # Either the call is over: the reader gets its status and tells why. Or the source
            # failed, which is told after the results of the frames before.
            return
        finally:
            if not call.done():
                await call.done_writing()

    async def _write_group_before(self, frame: Supplied, call: Any) -> None:
        """Write what decoding a call's first frame takes; before the others that has been done."""
        is_first, self._begins = self._begins, False
        if not is_first or frame.key_frame:
            return
        group = tuple(self._group.frames)
        self._repeated.extend(each.frame_id for each in group)
        for each in group:
            if each.request is not None:
                # It was answered before.
                each.request.frame.encoded_video.decode_only = True
            await call.write(each.request)

    @property
    def _is_sent_again(self) -> bool:
        """Whether a frame that was sent may be sent once more."""
        kept = bool(self._server.reconnect_seconds) and not self._live
        return kept or self._group.is_kept

    async def _note_loss(self, error: grpc.aio.AioRpcError) -> None:
        """The call has ended with an error: begin to reconnect, if that can help.

        Raises:
            TandemError: the error, since it cannot.
        """
        code, details = self._ending.code or error.code(), self._ending.details
        await _cancelled(self._sender)
        failure = await self._server.error(code, details)
        lost = code is grpc.StatusCode.UNAVAILABLE or connection_fault(code, details) is not None
        if code is grpc.StatusCode.UNAUTHENTICATED:
            lost = self._server.accepts_again()
        may_reconnect = self._reached and not self._closed and self._server.reconnect_seconds > 0
        if not (lost and may_reconnect):
            raise failure from error
        if self._outage is None:
            end = time.monotonic() + self._server.reconnect_seconds
            self._outage = _Outage(failure, end, _FIRST_PAUSE_SECONDS)
            self._numbers.stream_lost()
        self._outage.reconnecting = asyncio.create_task(self._reconnect(self._outage))

    async def _wait_for_server(
        self, outage: _Outage, reconnecting: asyncio.Task[None]
    ) -> FrameResult | None:
        """Wait until the stream has a server again; or for a live frame that is dropped meanwhile.

        Raises:
            UnavailableError: the server did not come back in time.
        """
        if self._live and not self._unanswered and not self._supply.ended:
            coming = asyncio.create_task(self._supply.next())
            await asyncio.wait({coming, reconnecting}, return_when=asyncio.FIRST_COMPLETED)
            if coming.done() and not coming.exception() and (frame := coming.result()):
                self._unanswered.append(frame)
            await _cancelled(coming)
        if self._live and self._unanswered:
            return _dropped(self._take_answered())
        await reconnecting
        outage.reconnecting = None
        self._repeated.clear()
        self._begins = True
        self._sender = asyncio.create_task(self._send(self._call))
        return None

    async def _reconnect(self, outage: _Outage) -> None:
        """Make another call whose opening message the server takes.

        Raises:
            UnavailableError: there was none in time.
            TandemError: the server refuses the stream.
        """
        try:
            async with asyncio.timeout(outage.end - time.monotonic()):
                await asyncio.sleep(outage.pause_seconds)
                outage.pause_seconds = min(2 * outage.pause_seconds, _MAX_PAUSE_SECONDS)
                self._call = self._server.open_call(True)
                self._ending = CallEnding(self._call)
                await self._call.write(self._opening)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The next read tells why.
            return
        except TimeoutError:
            self._call.cancel()
            raise UnavailableError(
                f"{outage.failure}; it did not come back within "
                f"{self._server.reconnect_seconds:g} seconds"
            ) from outage.failure

    def _due(self) -> int | None:
        """The frame that has to be answered next."""
        if self._repeated:
            return self._repeated[0]
        return self._unanswered[0].frame_id if self._unanswered else None

    def _check_turn(self, response: detector_pb2.DetectResponse) -> None:
        if response.frame_id != self._due():
            raise ServiceError(
                f"the server answered frame {response.frame_id} where frame {self._due()} was due"
            )

    def _take_answered(self) -> Supplied:
        frame = self._unanswered.popleft()
        self._group.add(frame)
        return frame

    def _result(self, response: detector_pb2.DetectResponse) -> FrameResult:
        frame = self._take_answered()
        kind = response.WhichOneof("result")
        if kind is None:
            raise ServiceError(f"the server's answer to frame {response.frame_id} is empty")
        result = FrameResult(
            frame_id=response.frame_id,
            detections=self._numbers.of(detections_from_wire(response.detections)),
            error=error_from_wire(response.error) if kind == "error" else None,
            dropped=kind == "dropped",
            node_pair=served_pair_from_wire(response),
            timing=timing_from_wire(response),
            round_trip_seconds=time.perf_counter() - frame.handed_over_at,
        )
        end_span(frame.span, result)
        return result


@dataclass
class _Outage:
    """A server that was lost, until it answers a frame again.

    Attributes:
        failure: how it was lost.
        end: until when it may take, by `time.monotonic`.
        pause_seconds: before the next try.
        reconnecting: the present try; None once it has come through.
    """

    failure: TandemError
    end: float
    pause_seconds: float
    reconnecting: asyncio.Task[None] | None = None


def _dropped(frame: Supplied) -> FrameResult:
    """The result of a live frame that no server was there for."""
    seconds = time.perf_counter() - frame.handed_over_at
    timing = FrameTiming(None, None, 0.0)
    result = FrameResult(frame.frame_id, (), None, True, None, timing, seconds)
    end_span(frame.span, result)
    return result


async def _cancelled(*tasks: asyncio.Task[Any] | None) -> None:
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
