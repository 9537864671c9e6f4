"""The door itself."""

from __future__ import annotations

from fastapi import FastAPI

from common.server.budget import ByteBudget, FrameCost
from common.server.guard import StreamGuard, StreamLimits
from common.server.server import ServiceServer
from protos.inference import open_inference_pb2_grpc
from services.gateway.door import Door, Gateway
from services.gateway.open_inference.model import Models
from services.gateway.open_inference.routes import inference_routes
from services.gateway.open_inference.servicer import SERVICE_NAME, InferenceServicer
from services.gateway.readiness import Readiness
from services.gateway.settings import GatewaySettings

# Of a request: as it came, its pictures, those as they are sent on, and what gRPC has yet to write.
_COPIES_HELD = 4
# Streams that one host may have, however few there may be.
_LEAST_SHARE = 4


class OpenInferenceDoor(Door):
    """The Open Inference Protocol, version 2, over gRPC and HTTP."""

    name = "open_inference"
    paths = ("/v2", "/v2/")

    def __init__(self, gateway: Gateway) -> None:
        """Prepare; see `Door`."""
        super().__init__(gateway, gateway.settings.open_inference_limits)
        self._readiness = Readiness(gateway.client, gateway.draining)
        self._models = Models(gateway.pool, self._readiness, gateway.settings.model_name)

    def add_routes(self, application: FastAPI) -> None:
        """See `Door`."""
        application.include_router(inference_routes(self._models, self._readiness))

    def add_services(self, server: ServiceServer) -> None:
        """See `Door`."""
        servicer = InferenceServicer(
            self._models,
            self._readiness,
            self.guard,
            _stream_guard(self.gateway.settings),
            self.gateway.draining,
            traces=server.traces,
        )
        register = open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server
        server.add(register, servicer, SERVICE_NAME)


def _stream_guard(settings: GatewaySettings) -> StreamGuard:
    streams = settings.open_inference_max_sessions
    limits = StreamLimits(
        streams=streams,
        streams_of_a_peer=max(_LEAST_SHARE, streams // 2),
        unopened_streams=max(_LEAST_SHARE, streams // 4),
        silence_seconds=settings.max_silence_seconds,
    )
    budget = ByteBudget(
        settings.max_buffered_bytes,
        settings.max_message_bytes,
        FrameCost(_COPIES_HELD),
        share_peers=True,
    )
    return StreamGuard(limits, budget)
