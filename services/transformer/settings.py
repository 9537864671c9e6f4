"""Settings of the transformer service."""

from __future__ import annotations

from pydantic import Field

from common.server.addresses import TRANSFORMER_PORT
from services.pipeline.settings import StageSettings


class TransformerSettings(StageSettings):
    """What the transformer service can be told."""

    port: int = Field(TRANSFORMER_PORT, ge=0, le=65535, description="gRPC port; 0 picks a free one")
    metrics_port: int = Field(
        9152, ge=0, le=65535, description="port of Prometheus' /metrics; 0 picks a free one"
    )
