"""The Open Inference Protocol over gRPC: `inference.GRPCInferenceService`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import grpc

import tandem
from common.domain.errors import TandemError, UnavailableError
from common.server.addresses import host_of
from common.server.guard import GuardedStream, StreamGuard
from common.server.ordered_stream import OrderedStream
from common.server.traced_calls import metadata_of
from common.telemetry.tracing import MetadataItem, Traces
from common.wire.errors import grpc_status, public_message
from protos.inference import open_inference_pb2 as messages
from protos.inference import open_inference_pb2_grpc
from services.gateway.limits import DoorGuard
from services.gateway.open_inference.grpc_messages import (
    config_to_wire,
    index_to_wire,
    metadata_to_wire,
    request_from_wire,
    response_to_wire,
)
from services.gateway.open_inference.model import (
    EXTENSIONS,
    NO_LOADING,
    Models,
    UnknownModelError,
    UnsupportedError,
)
from services.gateway.readiness import Readiness
from services.gateway.traced_requests import traced_request

SERVER_NAME = "tandem"
SERVICE_NAME = "inference.GRPCInferenceService"

Context = Any  # grpc.aio.ServicerContext, whose type arguments differ from method to method.

# Of one stream. Its pictures take their places in the pool behind those of others.
_STREAM_WINDOW = 8


class InferenceServicer(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """See open_inference.proto. What it does not override is answered UNIMPLEMENTED."""

    def __init__(
        self,
        models: Models,
        readiness: Readiness,
        door_guard: DoorGuard,
        stream_guard: StreamGuard,
        draining: asyncio.Event,
        *,
        traces: Traces,
    ) -> None:
        """Serve.

        Args:
            models: that answer.
            readiness: of the orchestrator.
            door_guard: admits requests and streams.
            stream_guard: ends streams that do nothing, and counts their bytes.
            draining: set once no more requests are read.
            traces: of the gateway.
        """
        self._models = models
        self._readiness = readiness
        self._door_guard = door_guard
        self._stream_guard = stream_guard
        self._traces = traces
        self._draining = draining

    async def ServerLive(  # noqa: N802
        self, request: messages.ServerLiveRequest, context: Context
    ) -> messages.ServerLiveResponse:
        """Whether the gateway runs."""
        return messages.ServerLiveResponse(live=True)

    async def ServerReady(  # noqa: N802
        self, request: messages.ServerReadyRequest, context: Context
    ) -> messages.ServerReadyResponse:
        """Whether pictures can be served now."""
        with self._door_guard.admitted(host_of(context.peer())):
            return messages.ServerReadyResponse(ready=await self._readiness.is_ready())

    async def ModelReady(  # noqa: N802
        self, request: messages.ModelReadyRequest, context: Context
    ) -> messages.ModelReadyResponse:
        """The same; never for a model that does not exist."""
        with self._door_guard.admitted(host_of(context.peer())):
            ready = await self._models.is_ready(request.name, request.version)
            return messages.ModelReadyResponse(ready=ready)

    async def ServerMetadata(  # noqa: N802
        self, request: messages.ServerMetadataRequest, context: Context
    ) -> messages.ServerMetadataResponse:
        """What serves here."""
        return messages.ServerMetadataResponse(
            name=SERVER_NAME,
            version=tandem.__version__,
            extensions=EXTENSIONS,
        )

    async def ModelMetadata(  # noqa: N802
        self, request: messages.ModelMetadataRequest, context: Context
    ) -> messages.ModelMetadataResponse:
        """Inputs and outputs of the model."""
        await self._check_model(request, context)
        return metadata_to_wire(request.name)

    async def ModelConfig(  # noqa: N802
        self, request: messages.ModelConfigRequest, context: Context
    ) -> messages.ModelConfigResponse:
        """The same in Triton's words."""
        await self._check_model(request, context)
        return config_to_wire(request.name)

    async def RepositoryIndex(  # noqa: N802
        self, request: messages.RepositoryIndexRequest, context: Context
    ) -> messages.RepositoryIndexResponse:
        """All models, and whether each can serve now."""
        with self._door_guard.admitted(host_of(context.peer())):
            return index_to_wire(await self._models.index(ready=request.ready))

    async def RepositoryModelLoad(  # noqa: N802
        self, request: messages.RepositoryModelLoadRequest, context: Context
    ) -> messages.RepositoryModelLoadResponse:
        """Refuse it."""
        await _abort(context, UnsupportedError(NO_LOADING))

    async def RepositoryModelUnload(  # noqa: N802
        self, request: messages.RepositoryModelUnloadRequest, context: Context
    ) -> messages.RepositoryModelUnloadResponse:
        """Refuse it."""
        await _abort(context, UnsupportedError(NO_LOADING))

    async def ModelInfer(  # noqa: N802
        self, request: messages.ModelInferRequest, context: Context
    ) -> messages.ModelInferResponse:
        """Detect on the pictures of one request."""
        try:
            with self._door_guard.admitted(host_of(context.peer())):
                if self._draining.is_set():
                    raise UnavailableError("the gateway is ending")
                with traced_request(self._traces, "ModelInfer", metadata_of(context)):
                    return await self._answer(request)
        except TandemError as error:
            await _abort(context, error)

    async def ModelStreamInfer(self, request_iterator: Any, context: Context) -> None:  # noqa: N802
        """Detect on the pictures of each request, and answer in order; an error ends no stream."""
        try:
            with self._door_guard.admitted(host_of(context.peer())):
                await self._stream_guard.run(request_iterator, context, self._serve_stream)
        except TandemError as error:
            await _abort(context, error)

    async def _serve_stream(self, stream: GuardedStream) -> None:
        slots = asyncio.Semaphore(_STREAM_WINDOW)
        answer = partial(self._answer_in_stream, stream.metadata)
        ordered = OrderedStream(answer, stream.write, slots, stream.take)
        await ordered.run(stream, self._draining.wait())
        if self._draining.is_set():
            raise UnavailableError("the gateway is ending")

    async def _answer_in_stream(
        self, metadata: Sequence[MetadataItem], request: messages.ModelInferRequest
    ) -> messages.ModelStreamInferResponse:
        try:
            with traced_request(self._traces, "ModelStreamInfer", metadata):
                answer = await self._answer(request)
            return messages.ModelStreamInferResponse(infer_response=answer)
        except TandemError as error:
            return messages.ModelStreamInferResponse(
                error_message=public_message(error),
                infer_response=messages.ModelInferResponse(id=request.id),
            )

    async def _answer(self, request: messages.ModelInferRequest) -> messages.ModelInferResponse:
        inference = request_from_wire(request)
        return response_to_wire(inference, await self._models.infer(inference))

    async def _check_model(
        self, request: messages.ModelMetadataRequest | messages.ModelConfigRequest, context: Context
    ) -> None:
        try:
            with self._door_guard.admitted(host_of(context.peer())):
                await self._models.named(request.name, request.version)
        except TandemError as error:
            await _abort(context, error)


async def _abort(context: Context, error: TandemError) -> NoReturn:
    """End a call with the status that the protocol's clients expect of an error."""
    if isinstance(error, UnknownModelError):
        status = grpc.StatusCode.NOT_FOUND
    elif isinstance(error, UnsupportedError):
        status = grpc.StatusCode.UNIMPLEMENTED
    else:
        status = grpc_status(error)
    await context.abort(status, public_message(error))
    raise error
