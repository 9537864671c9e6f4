"""Settings of the backbone service."""

from __future__ import annotations

from typing import Dict, FrozenSet, List, Optional, Tuple, Union

from pydantic import Field, field_validator
from typing_extensions import Annotated, Literal

from common.domain.errors import ConfigurationError
from common.server.addresses import BACKBONE_PORT, TRANSFORMER_PORT, Replicas, checked_replicas
from common.vision.limits import DEFAULT_LIMITS, DEFAULT_MAX_PIXELS, DecodingLimits
from common.vision.video.hardware import has_jetson_decoder
from common.vision.video.limits import (
    DEFAULT_DECODER_BYTES,
    DEFAULT_UNIT_BYTES,
    VideoLimits,
)
from common.wire.records import DEFAULT_LOOKUP_SECONDS
from services.pipeline.settings import StageSettings


class BackboneSettings(StageSettings):
    """Settings of the backbone service."""

    port: int = Field(BACKBONE_PORT, ge=0, le=65535, description="gRPC port; 0 picks a free one")
    metrics_port: int = Field(
        9151, ge=0, le=65535, description="port of Prometheus' /metrics; 0 picks a free one"
    )
    transformers: Dict[str, Union[str, Annotated[List[str], Field(min_length=1)]]] = Field(
        description="host:port of each node's transformer, by the node's name; a list of them "
        "where a node has several, or a name that leads to several, as dns:///host:port"
    )
    lookup_seconds: float = Field(
        DEFAULT_LOOKUP_SECONDS,
        gt=0,
        description="between two lookups of a name that leads to several servers (dns:///); it is "
        "also looked up when a server is lost",
    )
    frames_of: Optional[str] = Field(
        None,
        description="serve only frames of this node, or of these nodes, separated by commas; all "
        "others are refused before a picture is sent. Those of an orchestrator that runs on no "
        "node are of `orchestrator`. With TLS the orchestrator's certificate has to have one of "
        "these names, too",
    )
    max_image_megapixels: float = Field(
        DEFAULT_MAX_PIXELS / 1e6,
        gt=0,
        description="refuse larger images before they are decoded",
    )
    max_image_aspect_ratio: float = Field(
        DEFAULT_LIMITS.aspect_ratio,
        ge=1,
        allow_inf_nan=False,
        description="refuse images whose long side is more than this times the short side",
    )
    max_image_scans: int = Field(
        DEFAULT_LIMITS.scans, gt=0, description="refuse a progressive JPEG with more scans"
    )
    max_image_scan_megapixels: float = Field(
        DEFAULT_LIMITS.scan_pixels / 1e6,
        gt=0,
        allow_inf_nan=False,
        description="refuse a progressive JPEG whose pixels times its scans are more",
    )
    max_image_header_mebibytes: float = Field(
        DEFAULT_LIMITS.header_bytes / (1 << 20),
        gt=0,
        allow_inf_nan=False,
        description="refuse a file with more profiles, comments and thumbnails than this, MiB",
    )
    max_image_segments: int = Field(
        DEFAULT_LIMITS.segments,
        gt=0,
        description="refuse a JPEG with more markers, or a PNG with more chunks beside its picture",
    )
    jpeg_decoding: Literal["whole", "halved"] = Field(
        "whole",
        description="`halved` decodes JPEGs of at least 2.5 times the size of the model's input to "
        "half of their size, which takes about half of the time, and changes some pixels a little",
    )

    max_access_unit_mebibytes: float = Field(
        DEFAULT_UNIT_BYTES / (1 << 20),
        gt=0,
        allow_inf_nan=False,
        description="refuse a larger frame of video, MiB",
    )
    max_video_mebibytes: float = Field(
        DEFAULT_DECODER_BYTES / (1 << 20),
        gt=0,
        allow_inf_nan=False,
        description="refuse video whose decoder has to keep more than this for its pictures, MiB",
    )
    max_video_streams: int = Field(
        32,
        gt=0,
        description="streams of video that are decoded at a time, each in a process of its own; an "
        "orchestrator holds two for a session while it changes its route",
    )

    video_decoder: Literal["software", "hardware", "auto"] = Field(
        "software",
        description="what decodes video: FFmpeg, the hardware of a Jetson through GStreamer, or "
        "that if it is there; video of other than 8 bits and 4:2:0 is FFmpeg's always",
    )

    @property
    def max_image_pixels(self) -> int:
        """`max_image_megapixels` in pixels."""
        return int(self.max_image_megapixels * 1e6)

    @property
    def decoding_limits(self) -> DecodingLimits:
        """What else an image may ask of the machine."""
        return DecodingLimits(
            aspect_ratio=self.max_image_aspect_ratio,
            scans=self.max_image_scans,
            scan_pixels=int(self.max_image_scan_megapixels * 1e6),
            header_bytes=int(self.max_image_header_mebibytes * (1 << 20)),
            segments=self.max_image_segments,
        )

    @property
    def video_limits(self) -> VideoLimits:
        """What video may ask of the machine, and what decodes it; looks for hardware if it may.

        Raises:
            ConfigurationError: the hardware that is asked for is not there.
        """
        by_hardware = self.video_decoder != "software" and has_jetson_decoder()
        if self.video_decoder == "hardware" and not by_hardware:
            raise ConfigurationError(
                "video_decoder is `hardware`, but GStreamer's launcher with nvv4l2decoder is not "
                "installed here"
            )
        return VideoLimits(
            pixels=self.max_image_pixels,
            pictures=self.decoding_limits,
            unit_bytes=int(self.max_access_unit_mebibytes * (1 << 20)),
            decoder_bytes=int(self.max_video_mebibytes * (1 << 20)),
            by_hardware=by_hardware,
        )

    @field_validator("frames_of")
    @classmethod
    def _are_nodes(cls, value: Optional[str]) -> Optional[str]:
        if value is not None and not all(_names(value)):
            raise ValueError("has to be a node's name, or several, separated by commas")
        return value

    @property
    def frame_places(self) -> Optional[FrozenSet[str]]:
        """The places whose frames are served; None: all."""
        return None if self.frames_of is None else frozenset(_names(self.frames_of))

    @field_validator("transformers")
    @classmethod
    def _are_addresses(cls, value: Dict[str, Replicas]) -> Dict[str, Replicas]:
        return {node: checked_replicas(told, TRANSFORMER_PORT) for node, told in value.items()}

    @property
    def transformer_replicas(self) -> Dict[str, Tuple[str, ...]]:
        """The addresses of each node's transformers, also where there is but one."""
        return {
            node: (addresses,) if isinstance(addresses, str) else tuple(addresses)
            for node, addresses in self.transformers.items()
        }


def _names(text: str) -> List[str]:
    return [name.strip() for name in text.split(",")]
