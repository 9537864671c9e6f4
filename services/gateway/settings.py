"""Settings of the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import CliImplicitFlag

from common.domain.address import DEFAULT_PORT, parse_address, parse_host
from common.domain.errors import InvalidInputError
from common.server.exposure import reaches_others
from common.server.settings import ServerSettings
from services.gateway.limits import DoorLimits
from services.gateway.picture_settings import PictureSettings


class GatewaySettings(PictureSettings, ServerSettings):
    """Settings of the gateway. Each door is switched on by the setting of its name."""

    port: int = Field(50053, ge=0, le=65535, description="gRPC port; 0 picks a free one")
    metrics_port: int = Field(
        9153, ge=0, le=65535, description="port of Prometheus' /metrics; 0 picks a free one"
    )
    orchestrator: str = Field(
        f"127.0.0.1:{DEFAULT_PORT}", description="host:port of the orchestrator"
    )
    orchestrator_server_name: str = Field(
        "",
        description="a name that the orchestrator's certificate has to hold; the host of its "
        "address if left out",
    )
    orchestrator_tokens: str = Field(
        "",
        description="host:port of the orchestrator's port for tokens: operators who sign in to the "
        "live view change the placement there. Without, only an orchestrator without TLS can be "
        "changed",
    )
    http_host: str = Field(
        "", description="address that HTTP is served on; that of host if left out"
    )
    http_port: int = Field(8080, ge=0, le=65535, description="HTTP port; 0 picks a free one")
    http_published_at: str = Field(
        "",
        description="address of this machine at which a container's HTTP port is published, such "
        "as 127.0.0.1; http_host if left out",
    )
    http_names: list[str] = Field(
        default_factory=list,
        description="further names that browsers reach the gateway by; localhost, the addresses "
        "it is served on, and those of its certificate are known",
    )
    cameras: Path | None = Field(
        None, description="YAML file with the cameras that the gateway reads; read at start"
    )
    live_view: CliImplicitFlag[bool] = Field(
        False, description="door: a web page with the cameras, the nodes and the placement"
    )
    live_view_max_sessions: int = Field(
        16, gt=0, description="browsers and requests of the live view that are served at a time"
    )
    live_view_max_requests_per_second: float = Field(
        20.0, gt=0, description="requests of one host to the live view, on average"
    )

    @property
    def live_view_limits(self) -> DoorLimits:
        """What the live view takes."""
        return DoorLimits(
            sessions=self.live_view_max_sessions,
            requests_per_second=self.live_view_max_requests_per_second,
            body_bytes=4096,
        )

    @property
    def http_reaches_others(self) -> bool:
        """Whether browsers and programs of other machines reach the HTTP port."""
        return reaches_others(self.http_published_at or self.http_bind_host)

    @property
    def http_bind_host(self) -> str:
        """What the HTTP port listens on."""
        return self.http_host or self.host

    @field_validator("orchestrator", "orchestrator_tokens")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        try:
            return str(parse_address(value, DEFAULT_PORT)) if value else value
        except InvalidInputError as error:
            raise ValueError(str(error)) from error

    @field_validator("http_host", "http_published_at")
    @classmethod
    def _is_an_http_host(cls, value: str) -> str:
        try:
            return parse_host(value) if value else value
        except InvalidInputError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        # On the loopback as well, tokens are asked for once they are given.
        has_tokens = self.tokens is not None or self.jwt_keys is not None
        if self.has_tls and self.http_reaches_others and not has_tokens:
            raise ValueError(
                "other machines could reach the HTTP doors, where callers prove who they are by "
                "tokens: give tokens or jwt_keys, or set http_host to 127.0.0.1"
            )
        return self
