"""Settings of the orchestrator."""

from __future__ import annotations

from typing import Dict, Optional

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import Literal

from common.stage.settings import ServerSettings


class NodeSettings(BaseModel):
    """The stages of one device."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: Optional[str] = Field(None, description="host:port of its backbone service")
    transformer: Optional[str] = Field(None, description="host:port of its transformer service")


class OrchestratorSettings(ServerSettings):
    """What the orchestrator can be told; usually by a YAML file, since it names the nodes."""

    port: int = Field(50050, ge=0, le=65535, description="gRPC port; 0 picks a free one")
    metrics_port: int = Field(
        9150, ge=0, le=65535, description="port of Prometheus' /metrics; 0 picks a free one"
    )
    nodes: Dict[str, NodeSettings] = Field(description="each device's stages, by its name")
    placement: Literal["auto", "full", "backbone", "transformer", "workstation"] = Field(
        "auto", description="where streams that leave it to the server go"
    )
    window: int = Field(
        0, ge=0, description="frames of one session in flight; 0: as many as keep it busy"
    )
    health_interval_seconds: float = Field(
        0.5, gt=0, description="how often a stage that is down is tried again"
    )
