"""`Backbone.Process` and `Transformer.Process`: streams around the stages' transport-free cores."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Any, AsyncIterator, Mapping

import grpc
import structlog

from common.bundle import Bundle
from common.domain.codec import Codec
from common.domain.detections import DetectionOptions
from common.domain.errors import (
    CallerError,
    InvalidInputError,
    PreconditionError,
    TandemError,
    UnavailableError,
)
from common.domain.placement import Stage
from common.domain.timing import StageTiming
from common.stage.backbone import BackboneStage
from common.stage.client import StageStream
from common.stage.guard import StreamGuard
from common.stage.stream import OrderedStream
from common.stage.transformer import TransformerStage
from common.telemetry.metrics import Metrics
from common.wire.detections import detections_to_wire, options_from_wire, stage_timing_to_wire
from common.wire.frames import geometry_from_wire, geometry_to_wire, image_bytes, image_from_wire
from common.wire.placements import placement_from_wire
from common.wire.status import status_to_wire
from common.wire.tensors import codec_from_wire, tensor_from_wire, tensor_to_wire
from protos.tandem.v1 import detector_pb2, stage_pb2, stage_pb2_grpc

log = structlog.get_logger()

Context = Any  # grpc.aio.ServicerContext, whose type arguments differ from service to service.


@dataclass(frozen=True)
class StageHost:
    """What a stage's servicer runs in.

    Attributes:
        node: name of this device.
        bundle: the model served.
        metrics: of this service.
        guard: admits streams.
        draining: set once SIGTERM has come.
        max_frames_in_flight: frames of one stream held at a time.
    """

    node: str
    bundle: Bundle
    metrics: Metrics
    guard: StreamGuard
    draining: asyncio.Event
    max_frames_in_flight: int

    def slots(self) -> asyncio.Semaphore:
        """Room for one stream's frames."""
        return asyncio.Semaphore(self.max_frames_in_flight)


@dataclass(frozen=True)
class _StreamFacts:
    """What the opening message told about a stream."""

    session_id: str
    placement: str
    sender: str
    options: DetectionOptions


class BackboneServicer(stage_pb2_grpc.BackboneServicer):
    """Frames in, detections out, by way of the transformer that the opening message names."""

    def __init__(
        self,
        host: StageHost,
        stage: BackboneStage,
        transformers: Mapping[str, grpc.aio.Channel],
    ) -> None:
        """Serve `stage`, with channels to the transformers by node."""
        self._host = host
        self._stage = stage
        self._transformers = transformers

    async def Process(self, request_iterator: Any, context: Context) -> None:  # noqa: N802
        """See stage.proto."""
        await self._host.guard.run(context, lambda: self._serve(request_iterator, context))

    async def _serve(self, requests: AsyncIterator[Any], context: Context) -> None:
        opening = await _opening(requests)
        facts = _stream_facts(opening.context)
        codec = self._stage.usable_codec(codec_from_wire(opening.codec))
        transformer = await self._open_transformer(opening)

        async def answer(request: stage_pb2.BackboneRequest) -> stage_pb2.StageResponse:
            result = await self._answer(
                request.frame, codec, opening.downstream_node, transformer, facts
            )
            return stage_pb2.StageResponse(result=result)

        try:
            await context.write(_opened(self._host))
            stream = OrderedStream(answer, context.write, self._host.slots())
            frames = _only(requests, "frame")
            await stream.run(frames, self._host.draining.wait(), transformer.wait_lost())
            if transformer.lost:
                raise await transformer.wait_lost()
            _raise_if_draining(self._host)
        finally:
            await transformer.close()

    async def _open_transformer(self, opening: stage_pb2.BackboneOpen) -> StageStream:
        node = opening.downstream_node
        if node not in self._transformers:
            known = ", ".join(sorted(self._transformers))
            raise PreconditionError(
                f"backbone on {self._host.node}: unknown downstream node {node!r}; known: {known}"
            )
        context = stage_pb2.StreamContext()
        context.CopyFrom(opening.context)
        context.sender = self._host.node
        request = stage_pb2.TransformerRequest(
            open=stage_pb2.TransformerOpen(context=context, bundle_digest=self._host.bundle.digest)
        )
        return await StageStream.open(
            self._transformers[node], Stage.TRANSFORMER, request, f"transformer on {node}"
        )

    async def _answer(
        self,
        frame: detector_pb2.Frame,
        codec: Codec,
        downstream_node: str,
        transformer: StageStream,
        facts: _StreamFacts,
    ) -> stage_pb2.FrameResult:
        started = time.perf_counter()
        timing = StageTiming(node=self._host.node)
        metrics = self._host.metrics
        received_bytes = image_bytes(frame)
        metrics.link_bytes.labels(facts.sender, "received").inc(received_bytes)
        with metrics.in_flight.track_inprogress():
            try:
                features = await self._stage.compute(image_from_wire(frame), codec)
                timing = features.timing
                request = stage_pb2.TransformerRequest(
                    features=stage_pb2.Features(
                        frame_id=frame.frame_id,
                        geometry=geometry_to_wire(features.geometry),
                        tensor=tensor_to_wire(features.tensor),
                    )
                )
                metrics.link_bytes.labels(downstream_node, "sent").inc(len(features.tensor.data))
                result = await transformer.ask(request, frame.frame_id)
                metrics.stage_seconds.labels(Stage.TRANSFORMER.value, "transfer").observe(
                    result.timing.transformer.transfer_seconds
                )
            except TandemError as error:
                result = _failed(frame.frame_id, error, Stage.BACKBONE, facts)
        timing = replace(
            timing,
            held_seconds=time.perf_counter() - started,
            request_bytes=received_bytes,
        )
        result.timing.backbone.CopyFrom(stage_timing_to_wire(timing))
        _observe(metrics, Stage.BACKBONE, facts, result, timing)
        return result


class TransformerServicer(stage_pb2_grpc.TransformerServicer):
    """Features in, detections out."""

    def __init__(self, host: StageHost, stage: TransformerStage) -> None:
        """Serve `stage`."""
        self._host = host
        self._stage = stage

    async def Process(self, request_iterator: Any, context: Context) -> None:  # noqa: N802
        """See stage.proto."""
        await self._host.guard.run(context, lambda: self._serve(request_iterator, context))

    async def _serve(self, requests: AsyncIterator[Any], context: Context) -> None:
        opening = await _opening(requests)
        facts = _stream_facts(opening.context)
        own = self._host.bundle.digest
        if opening.bundle_digest != own:
            raise PreconditionError(
                f"the halves are of different bundles: backbone on {facts.sender} runs "
                f"{opening.bundle_digest}, transformer on {self._host.node} runs {own}"
            )

        async def answer(request: stage_pb2.TransformerRequest) -> stage_pb2.StageResponse:
            result = await self._answer(request.features, facts)
            return stage_pb2.StageResponse(result=result)

        await context.write(_opened(self._host))
        stream = OrderedStream(answer, context.write, self._host.slots())
        await stream.run(_only(requests, "features"), self._host.draining.wait())
        _raise_if_draining(self._host)

    async def _answer(
        self, features: stage_pb2.Features, facts: _StreamFacts
    ) -> stage_pb2.FrameResult:
        started = time.perf_counter()
        timing = StageTiming(node=self._host.node)
        metrics = self._host.metrics
        received_bytes = len(features.tensor.data)
        metrics.link_bytes.labels(facts.sender, "received").inc(received_bytes)
        with metrics.in_flight.track_inprogress():
            try:
                found = await self._stage.compute(
                    tensor_from_wire(features.tensor),
                    geometry_from_wire(features.geometry),
                    facts.options,
                )
                timing = found.timing
                result = stage_pb2.FrameResult(
                    frame_id=features.frame_id, detections=detections_to_wire(found.detections)
                )
            except TandemError as error:
                result = _failed(features.frame_id, error, Stage.TRANSFORMER, facts)
        timing = replace(
            timing,
            held_seconds=time.perf_counter() - started,
            request_bytes=received_bytes,
        )
        result.timing.transformer.CopyFrom(stage_timing_to_wire(timing))
        _observe(metrics, Stage.TRANSFORMER, facts, result, timing)
        return result


async def _opening(requests: AsyncIterator[Any]) -> Any:
    """The opening of a stream: its first message.

    Raises:
        InvalidInputError: there is no message, or another one.
    """
    async for request in requests:
        if request.WhichOneof("request") == "open":
            return request.open
        break
    raise InvalidInputError("the first message of a stream has to be `open`")


async def _only(requests: AsyncIterator[Any], kind: str) -> AsyncIterator[Any]:
    """The requests after the opening.

    Raises:
        InvalidInputError: one is not of this kind.
    """
    async for request in requests:
        if request.WhichOneof("request") != kind:
            raise InvalidInputError(f"every message after `open` has to be `{kind}`")
        yield request


def _stream_facts(context: stage_pb2.StreamContext) -> _StreamFacts:
    placement = placement_from_wire(context.placement)
    return _StreamFacts(
        session_id=context.session_id,
        placement=placement.value if placement else "",
        sender=context.sender,
        options=options_from_wire(context),
    )


def _opened(host: StageHost) -> stage_pb2.StageResponse:
    opened = stage_pb2.Opened(node=host.node, bundle_digest=host.bundle.digest)
    return stage_pb2.StageResponse(opened=opened)


def _raise_if_draining(host: StageHost) -> None:
    if host.draining.is_set():
        raise UnavailableError(f"{host.node} is draining")


def _failed(
    frame_id: int, error: TandemError, stage: Stage, facts: _StreamFacts
) -> stage_pb2.FrameResult:
    """A frame's `error` answer; the cause goes to the log."""
    write = log.info if isinstance(error, CallerError) else log.error
    write(
        "frame failed",
        stage=stage.value,
        session=facts.session_id,
        frame=frame_id,
        error=str(error),
    )
    return stage_pb2.FrameResult(frame_id=frame_id, error=status_to_wire(error))


def _observe(
    metrics: Metrics,
    stage: Stage,
    facts: _StreamFacts,
    result: stage_pb2.FrameResult,
    timing: StageTiming,
) -> None:
    metrics.observe_stage(stage.value, timing)
    outcome = result.WhichOneof("result") or "error"
    metrics.observe_frame(facts.placement, outcome, timing.held_seconds)
