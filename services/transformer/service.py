"""Settings of the transformer service, and the running service that they make."""

from __future__ import annotations

from pydantic import Field

from common.domain.placement import Stage
from common.security.identity import Role
from common.server.addresses import TRANSFORMER_PORT
from common.server.security import security_of
from common.server.server import ServiceServer
from common.telemetry.metrics import LabelNames
from protos.tandem.v1 import stage_pb2_grpc
from services.pipeline.service import StageService
from services.pipeline.settings import StageSettings
from services.transformer.servicer import TransformerServicer
from services.transformer.stage import TransformerStage

# Backbones that a transformer's metrics tell apart.
_SENDERS_LEARNED = 16


class TransformerSettings(StageSettings):
    """Settings of the transformer service."""

    port: int = Field(TRANSFORMER_PORT, ge=0, le=65535, description="gRPC port; 0 picks a free one")
    metrics_port: int = Field(
        9152, ge=0, le=65535, description="port of Prometheus' /metrics; 0 picks a free one"
    )


async def serve_transformer(settings: TransformerSettings) -> bool:
    """Run the transformer service until SIGTERM; returns whether all of its threads have ended.

    Raises:
        ConfigurationError: the bundle, the engine or an address is wrong.
    """
    security = security_of(settings, Role.TRANSFORMER, settings.node)
    server = ServiceServer("transformer", settings, settings.node, security)
    service = StageService(Stage.TRANSFORMER, settings, server, TransformerStage)
    # No setting tells it which backbones there are.
    servicer = TransformerServicer(service.host(LabelNames(room=_SENDERS_LEARNED)))
    server.add(stage_pb2_grpc.add_TransformerServicer_to_server, servicer, "tandem.v1.Transformer")
    return await service.run()
