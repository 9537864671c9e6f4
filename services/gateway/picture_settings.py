"""Settings of the doors for single pictures."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, CliImplicitFlag

from services.gateway.limits import DoorLimits


class PictureSettings(BaseSettings):
    """Settings of the doors whose callers send single pictures, and of the streams they share."""

    picture_streams: int = Field(
        16,
        gt=0,
        le=64,
        description="streams of the orchestrator that serve the single pictures of all doors, each "
        "one picture at a time; opened when they are needed",
    )
    model_name: str = Field(
        "tandem",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="name under which callers of detection_api and open_inference know the model",
    )
    detection_api: CliImplicitFlag[bool] = Field(
        False,
        description="door: pictures over HTTP, by POST /v1/vision/detection as DeepStack and "
        "CodeProject.AI have it, and by POST /detect; a page of both at /docs",
    )
    detection_api_max_sessions: int = Field(
        64, gt=0, description="requests of detection_api that are served or wait at a time"
    )
    detection_api_max_requests_per_second: float = Field(
        200.0, gt=0, description="requests of one host to detection_api, on average"
    )
    detection_api_max_kibibytes: int = Field(
        16_384, gt=0, description="largest request to detection_api, KiB"
    )
    open_inference: CliImplicitFlag[bool] = Field(
        False,
        description="door: the Open Inference Protocol, version 2, for clients of inference "
        "servers such as tritonclient, over gRPC, and over HTTP below /v2",
    )
    open_inference_max_sessions: int = Field(
        64, gt=0, description="requests and streams of open_inference that are served at a time"
    )
    open_inference_max_requests_per_second: float = Field(
        1000.0, gt=0, description="requests and streams of one host to open_inference, on average"
    )
    open_inference_max_kibibytes: int = Field(
        65_536,
        gt=0,
        description="largest HTTP request to open_inference, KiB; for gRPC, max_message_mebibytes "
        "holds",
    )

    @property
    def detection_api_limits(self) -> DoorLimits:
        """What the door for pictures over HTTP takes."""
        return DoorLimits(
            sessions=self.detection_api_max_sessions,
            requests_per_second=self.detection_api_max_requests_per_second,
            body_bytes=self.detection_api_max_kibibytes << 10,
        )

    @property
    def open_inference_limits(self) -> DoorLimits:
        """What the door for clients of inference servers takes."""
        return DoorLimits(
            sessions=self.open_inference_max_sessions,
            requests_per_second=self.open_inference_max_requests_per_second,
            body_bytes=self.open_inference_max_kibibytes << 10,
        )
