"""One `Detect` call: frames are written while answers are read, within a bounded window."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any

import grpc
import numpy as np

from client.iteration import iterate_in_thread
from client.results import FrameResult
from common.domain.errors import InvalidInputError, ServiceError, TandemError
from common.domain.frames import EncodedImage, Image, PixelFormat, RawImage
from common.domain.stream import StreamOptions
from common.wire.detections import detections_from_wire, timing_from_wire
from common.wire.ending import CallEnding
from common.wire.frames import frame_to_wire
from common.wire.options import stream_options_to_wire
from common.wire.placements import served_pair_from_wire
from common.wire.status import status_from_wire
from protos.tandem.v1 import detector_pb2

Frame = bytes | bytearray | memoryview | np.ndarray | Image
Frames = AsyncIterable[Frame] | Iterable[Frame]


class DetectStream:
    """A `Detect` call and the task that feeds it.

    Attributes:
        ending: the server's status, once the call has ended.
    """

    def __init__(
        self, call: Any, frames: Frames, options: StreamOptions, max_in_flight: int
    ) -> None:
        """Take over a call that has just been made.

        Args:
            call: of `Detector.Detect`.
            frames: what to send; closed at the end.
            options: the opening message.
            max_in_flight: frames sent whose results have not been taken yet.
        """
        if max_in_flight < 1:
            raise InvalidInputError("max_in_flight has to be at least 1")
        self._call = call
        self.ending = CallEnding(call)
        self._frames = frames
        self._options = options
        self._slots = asyncio.Semaphore(max_in_flight)
        # Frame ids that wait for their answer, and when each was handed over.
        self._pending: deque[tuple[int, float]] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._all_sent = False

    async def results(self) -> AsyncIterator[FrameResult]:
        """Send the frames and yield their results.

        Raises:
            grpc.aio.AioRpcError: the server ended the call with an error; see `ending`.
            TandemError: the source failed, or the server broke its promise.
        """
        self._sender = asyncio.create_task(self._send())
        while (response := await self._read()) is not grpc.aio.EOF:
            yield self._result(response)
            self._slots.release()
        if self._pending:
            raise ServiceError(
                f"the server ended the stream without answering frame {self._pending[0][0]}"
            )
        if not self._all_sent and not self._sender.done():
            raise ServiceError("the server ended the stream before the frames did")
        await self._sender

    async def close(self) -> None:
        """Cancel what still runs and wait for it; harmless when all is done."""
        self._call.cancel()
        if self._sender is not None:
            self._sender.cancel()
            # The consumer has left or has got the reason already; nobody asks the sender for it.
            await asyncio.gather(self._sender, return_exceptions=True)

    async def _read(self) -> Any:
        try:
            return await self._call.read()
        except grpc.aio.AioRpcError:
            await self.ending.wait()
            if self.ending.code is grpc.StatusCode.OK:
                return grpc.aio.EOF
            raise

    async def _send(self) -> None:
        try:
            options = stream_options_to_wire(self._options)
            await self._call.write(detector_pb2.DetectRequest(options=options))
            await self._send_frames()
            self._all_sent = True
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The call is over; the reader gets its status and tells why.
            return
        finally:
            if not self._call.done():
                await self._call.done_writing()

    async def _send_frames(self) -> None:
        frames = aiter(as_async(self._frames))
        try:
            frame_id = 0
            while True:
                await self._slots.acquire()
                try:
                    frame = await anext(frames)
                except StopAsyncIteration:
                    return
                message = frame_to_wire(frame_id, as_image(frame))
                self._pending.append((frame_id, time.perf_counter()))
                await self._call.write(detector_pb2.DetectRequest(frame=message))
                frame_id += 1
        except (TandemError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
            raise
        except Exception as error:
            raise InvalidInputError(f"the source of the frames failed: {error!r}") from error
        finally:
            close = getattr(frames, "aclose", None)
            if close is not None:
                await close()

    def _result(self, response: detector_pb2.DetectResponse) -> FrameResult:
        expected = self._pending[0][0] if self._pending else None
        if response.frame_id != expected:
            raise ServiceError(
                f"the server answered frame {response.frame_id} where frame {expected} was due"
            )
        _, sent_at = self._pending.popleft()
        kind = response.WhichOneof("result")
        if kind is None:
            raise ServiceError(f"the server's answer to frame {response.frame_id} is empty")
        return FrameResult(
            frame_id=response.frame_id,
            detections=detections_from_wire(response.detections),
            error=status_from_wire(response.error) if kind == "error" else None,
            dropped=kind == "dropped",
            pair=served_pair_from_wire(response),
            timing=timing_from_wire(response),
            round_trip_seconds=time.perf_counter() - sent_at,
        )


def as_async(frames: Frames) -> AsyncIterable[Frame]:
    """The same frames, asynchronously."""
    if isinstance(frames, AsyncIterable):
        return frames
    if isinstance(frames, Iterable) and not isinstance(frames, bytes | np.ndarray):
        return iterate_in_thread(frames)
    raise InvalidInputError(
        f"frames have to come as an iterable, not as a single {type(frames).__name__}"
    )


def as_image(frame: Frame) -> Image:
    """A frame as the wire takes it.

    Raises:
        InvalidInputError: it is of no type that can be sent.
    """
    if isinstance(frame, EncodedImage | RawImage):
        return frame
    if isinstance(frame, bytes | bytearray | memoryview):
        return EncodedImage(bytes(frame))
    if not isinstance(frame, np.ndarray):
        raise InvalidInputError(
            f"a frame is a {type(frame).__name__}; it has to be JPEG or PNG bytes, an array, "
            "or an image of common.domain.frames"
        )
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InvalidInputError(
            f"a frame is an array of shape {frame.shape} and type {frame.dtype}; "
            "it has to be HxWx3, uint8, RGB"
        )
    height, width = frame.shape[:2]
    return RawImage(width, height, PixelFormat.RGB8, frame.tobytes())
