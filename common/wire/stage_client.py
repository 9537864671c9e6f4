"""The calling side of a stage: one open `Process` stream, answers matched to questions."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from typing import Any, Deque, Dict, Iterable, NamedTuple, Optional, Protocol, Tuple, Union

import grpc

from common.domain.codec import Codec, RateFigures
from common.domain.errors import InvalidInputError, ServiceError, TandemError, UnavailableError
from common.domain.placement import Stage
from common.wire.connections import CallEnding
from common.wire.frames import known_codec_from_wire, latent_rates_from_wire
from common.wire.parsing import parse_answer
from protos.tandem.v1 import detection_pb2, stage_pb2

StageRequest = Union[stage_pb2.BackboneRequest, stage_pb2.TransformerRequest]
Metadata = Tuple[Tuple[str, Union[str, bytes]], ...]

# With the TCP connection and, through a backbone, the opening of the transformer. It is long,
# since a server that is only busy would be asked again, and be busier; heartbeats find a dead one.
OPEN_TIMEOUT_SECONDS = 15.0
# For questions whose own id another one under way has; few clients count so far.
_SPARE_IDS_FROM = 1 << 62


class Asker(Protocol):
    """Who sent a frame; learns what became of it by one call of one of these, which never waits."""

    def answered(self, result: stage_pb2.FrameResult) -> None:
        """The stage has answered; its own `transfer_seconds` is filled in."""
        ...

    def failed(self, error: TandemError) -> None:
        """The stream was lost before the stage had answered."""
        ...


class _Question(NamedTuple):
    asker: Asker
    frame_id: int
    sent_at: float


class StageStream:
    """One stream to a stage.

    Many questions may be under way at a time. When the stream is lost each of them fails with the
    error that ended it, and so does every later one; open another stream then.

    Attributes:
        bundle_digest: of the bundle that the stage runs.
        codec: by which a backbone sends features on; None where it does not tell.
        latent_rates: what the rates of the bundle's bottleneck cost and keep, the finest first;
            empty where it has none.
        takes_next_latents: whether a transformer understands the short message of latents.
    """

    def __init__(self, call: Any, peer: str) -> None:
        """Use `StageStream.open` instead."""
        self._call = call
        self._peer = peer
        self._ending = CallEnding(call)
        self._pending: Dict[int, _Question] = {}
        self._spare_ids = itertools.count(_SPARE_IDS_FROM)
        # What is to be sent, each entry requests that follow upon each other.
        self._outbox: Deque[Iterable[StageRequest]] = deque()
        self._is_writing = False
        self._idle_writer: Optional[asyncio.Future[None]] = None
        self._error: Optional[TandemError] = None
        self._reader: asyncio.Task[None]
        self._writer: asyncio.Task[None]
        self.bundle_digest = ""
        self.codec: Optional[Codec] = None
        self.latent_rates: Tuple[RateFigures, ...] = ()
        self.takes_next_latents = False

    @classmethod
    async def open(
        cls,
        channel: grpc.aio.Channel,
        stage: Stage,
        opening: StageRequest,
        peer: str,
        metadata: Metadata = (),
    ) -> StageStream:
        """Open a stream and wait until the stage agrees.

        Args:
            channel: to the stage's server.
            stage: which service to call there.
            opening: the first message.
            peer: what to call the other side in errors.
            metadata: of the call.

        Raises:
            TandemError: the stage refused, or could not be reached in time.
        """
        # Answers come as bytes, so that their size is known before anything is made of them.
        process: Any = channel.stream_stream(
            f"/tandem.v1.{stage.value.capitalize()}/Process",
            request_serializer=type(opening).SerializeToString,
        )
        stream = cls(process(metadata=metadata), peer)
        try:
            await asyncio.wait_for(stream._handshake(opening), OPEN_TIMEOUT_SECONDS)
        except asyncio.TimeoutError as error:
            stream._call.cancel()
            raise UnavailableError(
                f"{peer} did not answer in {OPEN_TIMEOUT_SECONDS:g} s"
            ) from error
        except BaseException:
            stream._call.cancel()
            raise
        stream._writer = asyncio.ensure_future(stream._write())
        stream._reader = asyncio.ensure_future(stream._read())
        return stream

    async def _handshake(self, opening: StageRequest) -> None:
        try:
            await self._call.write(opening)
            response = await self._call.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise await self._ending.error(self._peer) from error
        if response is grpc.aio.EOF:
            raise await self._ending.error(self._peer)
        answer = self._parsed(response)
        if answer.WhichOneof("response") != "opened":
            raise UnavailableError(f"{self._peer} did not open the stream as it should")
        self.bundle_digest = answer.opened.bundle_digest
        self.codec = known_codec_from_wire(answer.opened.codec)
        self.latent_rates = latent_rates_from_wire(answer.opened.latent_rates)
        self.takes_next_latents = answer.opened.takes_next_latents

    def tell(self, requests: Iterable[StageRequest]) -> None:
        """Send what has no answer, each made when its turn to be sent has come.

        Raises:
            TandemError: the stream is lost.
        """
        if self._error is not None:
            raise self._error
        self._post(requests)

    def send(
        self,
        request: StageRequest,
        frame_id: int,
        asker: Asker,
        before: Iterable[StageRequest] = (),
    ) -> int:
        """Send one frame, without waiting for anything.

        Args:
            request: the frame, or its features.
            frame_id: of that frame.
            asker: learns of the answer, or that there will be none.
            before: what has no answer, and is sent first.

        Returns:
            Names the question, for `forget`.

        Raises:
            TandemError: the stream is lost; then the asker learns nothing.
        """
        if self._error is not None:
            raise self._error
        own_id = self._unused_id(request, frame_id)
        self._pending[own_id] = _Question(asker, frame_id, time.perf_counter())
        if before:
            self._outbox.append(before)
        self._post((request,))
        return own_id

    def forget(self, own_id: int) -> None:
        """Nobody wants to know the answer to a question any more."""
        self._pending.pop(own_id, None)

    async def ask(
        self, request: StageRequest, frame_id: int, before: Iterable[StageRequest] = ()
    ) -> stage_pb2.FrameResult:
        """Send one frame and wait for its answer.

        Args:
            request: the frame, or its features.
            frame_id: of that frame.
            before: what has no answer, and is sent first.

        Returns:
            The stage's answer; in its `timing`, the stage's own `transfer_seconds` is filled in.

        Raises:
            TandemError: the stream is lost.
            ServiceError: the stage answered what is no answer, and the stream is lost.
        """
        waiting = _Waiting()
        own_id = self.send(request, frame_id, waiting, before)
        # It may be large, and its answer long in coming.
        del request
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            self.forget(own_id)
            raise

    @property
    def writes(self) -> bool:
        """Whether something waits to be sent."""
        return self._is_writing or bool(self._outbox)

    @property
    def lost(self) -> bool:
        """Whether the stream has ended, so that every question fails."""
        return self._error is not None

    async def wait_lost(self) -> TandemError:
        """Wait until the stream ends; returns why."""
        await asyncio.wait([self._reader])
        return self._error or UnavailableError(f"{self._peer} ended the stream")

    def abandon(self) -> None:
        """End the stream at once, without waiting. Questions under way fail."""
        self._call.cancel()

    async def close(self) -> None:
        """End the stream. Questions under way fail."""
        self._call.cancel()
        await asyncio.wait([self._reader, self._writer])

    def _post(self, requests: Iterable[StageRequest]) -> None:
        self._outbox.append(requests)
        idle = self._idle_writer
        if idle is not None and not idle.done():
            idle.set_result(None)

    async def _write(self) -> None:
        """Send what is posted, in that order; gRPC takes one message at a time."""
        outbox = self._outbox
        try:
            while True:
                self._is_writing = True
                while outbox:
                    for request in outbox.popleft():
                        await self._call.write(request)
                        # It may be large, and the next one long in coming.
                        del request
                self._is_writing = False
                self._idle_writer = asyncio.get_running_loop().create_future()
                await self._idle_writer
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The call has ended; the reader learns why.
            pass
        except Exception:
            self._call.cancel()
            raise
        finally:
            outbox.clear()

    async def _read(self) -> None:
        fault: Optional[ServiceError] = None
        try:
            while True:
                response = await self._call.read()
                if response is grpc.aio.EOF:
                    break
                self._take_answer(self._parsed(response).result)
        except grpc.aio.AioRpcError:
            # The status of the call, read below, says why.
            pass
        except asyncio.CancelledError:
            self._call.cancel()
        except ServiceError as error:
            self._call.cancel()
            fault = error
        finally:
            ended = await self._ending.error(self._peer)
            self._error = fault or ended
            self._writer.cancel()
            pending, self._pending = self._pending, {}
            for question in pending.values():
                question.asker.failed(self._error)

    def _take_answer(self, result: stage_pb2.FrameResult) -> None:
        question = self._pending.pop(result.frame_id, None)
        if question is None:
            return
        result.frame_id = question.frame_id
        timing = _answering_stage(result)
        elapsed_seconds = time.perf_counter() - question.sent_at
        timing.transfer_seconds = max(0.0, elapsed_seconds - timing.held_seconds)
        question.asker.answered(result)

    def _parsed(self, data: bytes) -> stage_pb2.StageResponse:
        try:
            return parse_answer(stage_pb2.StageResponse, data)
        except InvalidInputError as error:
            raise ServiceError(f"{self._peer} answered wrongly: {error}") from error

    def _unused_id(self, request: StageRequest, frame_id: int) -> int:
        """An id that no other question under way has; the request gets it."""
        if frame_id not in self._pending:
            return frame_id
        own_id = next(free for free in self._spare_ids if free not in self._pending)
        if isinstance(request, stage_pb2.BackboneRequest):
            request.frame.frame_id = own_id
        elif request.HasField("features"):
            request.features.frame_id = own_id
        else:
            raise ValueError("the id of a short message follows from the message before")
        return own_id


class _Waiting:
    """An asker that waits."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[stage_pb2.FrameResult]
        self.answer = asyncio.get_running_loop().create_future()

    def answered(self, result: stage_pb2.FrameResult) -> None:
        if not self.answer.done():
            self.answer.set_result(result)

    def failed(self, error: TandemError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


def _answering_stage(result: stage_pb2.FrameResult) -> detection_pb2.StageTiming:
    """The timing of the stage that answered: the backbone's when it is there."""
    timing = result.timing
    return timing.backbone if timing.HasField("backbone") else timing.transformer
