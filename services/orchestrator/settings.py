"""Settings of the orchestrator."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Tuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import Literal

from common.domain.address import DEFAULT_PORT
from common.domain.errors import InvalidInputError
from common.domain.placement import ORCHESTRATOR, NodePair, Stage, StageAddress
from common.domain.video import FrameCodec
from common.server.addresses import BACKBONE_PORT, TRANSFORMER_PORT, Replicas, checked_replicas
from common.server.settings import ServerSettings
from common.wire.records import DEFAULT_LOOKUP_SECONDS
from services.orchestrator.decision.policy import Policy
from services.orchestrator.session.resources import DEFAULT_GROUP_MEBIBYTES

AUTOMATIC = "auto"

# Sessions that one host may have, however few there may be.
_LEAST_SHARE = 4
# By docs/accuracy.md they keep the detector's accuracy to about 0.3 points.
_DEFAULT_QUALITIES = {FrameCodec.JPEG: 30, FrameCodec.H264: 23, FrameCodec.H265: 28}
_QUALITIES = {FrameCodec.JPEG: (1, 100), FrameCodec.H264: (0, 51), FrameCodec.H265: (0, 51)}


class NodeSettings(BaseModel):
    """The stages of one device; several addresses of a stage are replicas that share its frames."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    backbone: Optional[Replicas] = Field(
        None,
        description="host:port of its backbone service, or a list of them; dns:///host:port is a "
        "name that leads to several",
    )
    transformer: Optional[Replicas] = Field(
        None,
        description="host:port of its transformer service, or a list of them; dns:///host:port is "
        "a name that leads to several",
    )

    @field_validator("backbone")
    @classmethod
    def _are_backbones(cls, value: Optional[Replicas]) -> Optional[Replicas]:
        return None if value is None else checked_replicas(value, BACKBONE_PORT)

    @field_validator("transformer")
    @classmethod
    def _are_transformers(cls, value: Optional[Replicas]) -> Optional[Replicas]:
        return None if value is None else checked_replicas(value, TRANSFORMER_PORT)


class OrchestratorSettings(ServerSettings):
    """Settings of the orchestrator, usually in a YAML file, which names the nodes."""

    port: int = Field(DEFAULT_PORT, ge=0, le=65535, description="gRPC port; 0 picks a free one")
    metrics_port: int = Field(
        9150, ge=0, le=65535, description="port of Prometheus' /metrics; 0 picks a free one"
    )
    max_sessions: int = Field(
        1200,
        gt=0,
        description="streams of clients that are served at a time; a stage has to take two for "
        "each of them",
    )
    max_sessions_per_host: int = Field(
        0,
        ge=0,
        description="how many of them may come from one host; 0: a quarter. Raise it where clients "
        "share an address, as behind a gateway or a router that translates addresses",
    )
    nodes: Dict[str, NodeSettings] = Field(
        description="the stages of each device, by the device's name"
    )
    placement: str = Field(
        AUTOMATIC,
        description="placement of streams that request none: auto, full, backbone, "
        "transformer, workstation, or backbone=NODE,transformer=NODE",
    )
    located_at: str = Field(
        ORCHESTRATOR,
        description="node that the orchestrator runs on, if any: frames to it cross no link",
    )
    objective: Literal["throughput", "latency", "bytes", "energy", "accuracy"] = Field(
        Policy.objective.value,
        description="what auto optimises; accuracy also gives streams that ask for no codec the "
        "finest latent rate that the link carries",
    )
    switch_improvement: float = Field(
        Policy.improvement,
        ge=0,
        description="how much better another placement has to be, as a share",
    )
    switch_hold_seconds: float = Field(
        Policy.hold_seconds,
        ge=0,
        description="how long it has to be better before streams switch to it",
    )
    frames_may_leave: bool = Field(True, description="whether auto may send pictures across a link")
    features_may_leave: bool = Field(
        True, description="whether auto may send features across a link"
    )
    probe_share: float = Field(
        0.04,
        ge=0,
        le=0.5,
        description="share of the frames that may be mirrored, to measure what is not in use"
        "; 0: none",
    )
    quotas: Optional[Path] = Field(
        None,
        description="YAML file with what each identity may use: sessions, frames_per_second and "
        "bytes_per_second, by ROLE/NAME or ROLE/*; read again when it changes",
    )
    unavailable_after: float = Field(
        5.0, ge=0, description="seconds that a frame waits for a route that can serve it"
    )
    recovery_seconds: float = Field(
        2.0,
        ge=0,
        description="how long a stage that became unavailable has to be healthy before it is "
        "chosen again",
    )
    frame_codec: Optional[FrameCodec] = Field(
        None,
        description="what pictures and raw frames are encoded as, anew, before they cross a link "
        "to a backbone: jpeg, h264 or h265; none: they cross it as they came",
    )
    frame_quality: Optional[int] = Field(
        None,
        ge=0,
        le=100,
        description="of `frame_codec`: of jpeg 1 to 100, the higher the better (30 unless it is "
        "set); of h264 and h265 the CRF, 0 to 51, the lower the better (23 and 28)",
    )
    max_group_mebibytes: int = Field(
        DEFAULT_GROUP_MEBIBYTES,
        gt=0,
        description="video that a session keeps since the last key frame, to send it again where "
        "frames go, MiB; beyond it frames are refused until the next key frame",
    )
    window: int = Field(
        0, ge=0, description="frames of one session in flight; 0 lets each session find its own"
    )
    lookup_seconds: float = Field(
        DEFAULT_LOOKUP_SECONDS,
        gt=0,
        description="between two lookups of a name that leads to several servers (dns:///); it is "
        "also looked up when a server is lost",
    )
    health_interval_seconds: float = Field(
        0.5,
        gt=0,
        description="between heartbeats, and between tries at a stage that is unavailable",
    )
    health_timeout_seconds: float = Field(
        1.5, gt=0, description="a stage that does not answer a heartbeat for so long is unavailable"
    )

    @field_validator("placement")
    @classmethod
    def _is_a_placement(cls, value: str) -> str:
        if value != AUTOMATIC:
            try:
                NodePair.parse(value)
            except InvalidInputError as error:
                raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _quality_fits_codec(self) -> OrchestratorSettings:
        codec, quality = self.frame_codec, self.frame_quality
        if quality is None:
            return self
        if codec is None:
            raise ValueError("frame_quality needs a frame_codec")
        least, most = _QUALITIES[codec]
        if not least <= quality <= most:
            raise ValueError(f"frame_quality of {codec.value} is {least} to {most}, not {quality}")
        return self

    @property
    def sessions_of_a_host(self) -> int:
        """How many streams of clients may come from one host."""
        share = max(_LEAST_SHARE, self.max_sessions // 4)
        return min(self.max_sessions_per_host or share, self.max_sessions)

    @property
    def operator_pair(self) -> Optional[NodePair]:
        """The node pair that `placement` sets; None is the automatic choice."""
        return None if self.placement == AUTOMATIC else NodePair.parse(self.placement)

    @property
    def frame_encoding(self) -> Optional[Tuple[FrameCodec, int]]:
        """What pictures are encoded as before they cross a link, and how well; None: not at all."""
        if self.frame_codec is None:
            return None
        if self.frame_quality is not None:
            return self.frame_codec, self.frame_quality
        return self.frame_codec, _DEFAULT_QUALITIES[self.frame_codec]

    @property
    def stage_addresses(self) -> Tuple[StageAddress, ...]:
        """Every server of every stage, in the order of the configuration.

        A name that leads to several stands in their place.
        """
        return tuple(
            StageAddress(name, stage, address, replica)
            for name, node in self.nodes.items()
            for stage, told in (
                (Stage.BACKBONE, node.backbone),
                (Stage.TRANSFORMER, node.transformer),
            )
            for replica, address in enumerate(_as_list(told))
        )


def _as_list(addresses: Optional[Replicas]) -> List[str]:
    if addresses is None:
        return []
    return [addresses] if isinstance(addresses, str) else addresses
