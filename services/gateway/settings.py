"""Settings of the gateway."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import CliImplicitFlag

from common.domain.address import DEFAULT_PORT, parse_address, parse_host
from common.domain.errors import InvalidInputError
from common.server.exposure import reaches_others
from common.server.settings import ServerSettings
from services.gateway.limits import DoorLimits
from services.gateway.picture_settings import PictureSettings

_TOPIC_LEVEL = re.compile(r"[A-Za-z0-9_-]+")


class GatewaySettings(PictureSettings, ServerSettings):
    """Settings of the gateway. Each door is switched on by the setting of its name."""

    port: int = Field(50053, ge=0, le=65535, description="gRPC port; 0 picks a free one")
    metrics_port: int = Field(
        9153, ge=0, le=65535, description="port of Prometheus' /metrics; 0 picks a free one"
    )
    orchestrator: str = Field(
        f"127.0.0.1:{DEFAULT_PORT}", min_length=1, description="host:port of the orchestrator"
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
    http_sign_in: CliImplicitFlag[bool] = Field(
        False,
        description="whether callers of this machine have to sign in with a token as well, as "
        "those of others have to",
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
        100.0, gt=0, description="requests of one host to the live view, on average"
    )

    mqtt: CliImplicitFlag[bool] = Field(
        False, description="door: tell an MQTT broker what happens before the cameras"
    )
    mqtt_broker: str = Field(
        "127.0.0.1", description="host or host:port of the broker; its port is 1883, or 8883 by TLS"
    )
    mqtt_user: str = Field("", description="who the gateway is to the broker; nobody if left out")
    mqtt_password_file: Path | None = Field(
        None, description="file that holds the user's password, one line"
    )
    mqtt_tls: CliImplicitFlag[bool] = Field(
        False, description="encrypt the connection; the broker has to prove its name"
    )
    mqtt_ca: Path | None = Field(
        None,
        description="PEM file with the broker's authority; those of the system if left out",
    )
    mqtt_certificate: Path | None = Field(
        None, description="PEM file with a certificate by which the gateway proves who it is"
    )
    mqtt_key: Path | None = Field(None, description="PEM file with that certificate's key")
    mqtt_insecure: CliImplicitFlag[bool] = Field(
        False, description="allow a broker on another machine without TLS"
    )
    mqtt_prefix: str = Field("tandem", description="what all topics begin with")
    mqtt_home_assistant: str = Field(
        "homeassistant",
        description="what the topics begin with by which Home Assistant finds sensors; empty: it "
        "is told of none",
    )
    mqtt_max_waiting: int = Field(
        1000, ge=2, description="messages that wait while the broker is away; then the oldest go"
    )
    webhooks: CliImplicitFlag[bool] = Field(
        False, description="door: send HTTP receivers what happens before the cameras"
    )
    webhook_targets: Path | None = Field(
        None, description="YAML file with the receivers of webhooks; read at start"
    )
    webhook_max_waiting: int = Field(
        1000, ge=2, description="messages that wait for one receiver; then the oldest go"
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
    def callers_sign_in(self) -> bool:
        """Whether callers over HTTP have to prove who they are."""
        return self.has_tls and (self.http_sign_in or self.http_reaches_others)

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

    @field_validator("mqtt_broker")
    @classmethod
    def _is_a_broker(cls, value: str) -> str:
        try:
            parse_address(value, 1883, "the MQTT broker's address")
        except InvalidInputError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("mqtt_prefix", "mqtt_home_assistant")
    @classmethod
    def _is_a_topic(cls, value: str, info: ValidationInfo) -> str:
        levels = value.split("/")
        is_left_out = not value and info.field_name == "mqtt_home_assistant"
        if not is_left_out and not all(_TOPIC_LEVEL.fullmatch(level) for level in levels):
            raise ValueError("a topic has letters, digits, _ and - between its slashes")
        return value

    @model_validator(mode="after")
    def _check_mqtt(self) -> Self:
        if self.mqtt_password_file is not None and not self.mqtt_user:
            raise ValueError("mqtt_password_file needs mqtt_user")
        files = (self.mqtt_ca, self.mqtt_certificate, self.mqtt_key)
        if any(files) and not self.mqtt_tls:
            raise ValueError("mqtt_ca, mqtt_certificate and mqtt_key need mqtt_tls")
        if self.mqtt_key is not None and self.mqtt_certificate is None:
            raise ValueError("mqtt_key needs mqtt_certificate")
        if (self.mqtt or self.webhooks) and self.cameras is None:
            raise ValueError("mqtt and webhooks tell of cameras: give cameras")
        if self.webhooks and self.webhook_targets is None:
            raise ValueError("webhooks need webhook_targets, the file of their receivers")
        return self

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        has_tokens = self.tokens is not None or self.jwt_keys is not None
        if self.http_sign_in and not has_tokens:
            raise ValueError("http_sign_in needs tokens or jwt_keys")
        if self.has_tls and self.http_reaches_others and not has_tokens:
            raise ValueError(
                "other machines could reach the HTTP doors, where callers prove who they are by "
                "tokens: give tokens or jwt_keys, or set http_host to 127.0.0.1"
            )
        return self
