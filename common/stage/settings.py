"""Settings of the services: command line over environment over file over default."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Type, TypeVar, Union

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)
from typing_extensions import Annotated, Literal

from common.domain.errors import ConfigurationError
from common.stage.addresses import BACKBONE_PORT, TRANSFORMER_PORT, Replicas, checked_replicas
from common.stage.budget import LEAST_MESSAGES_BUFFERED, MESSAGES_BUFFERED
from common.stage.injected import is_injected
from common.vision.limits import DecodingLimits

ENVIRONMENT_PREFIX = "TANDEM_"
ENVELOPE_BYTES = 1024
"""More than a frame grows by when it is passed on, so that the largest that one service takes does
not break the stream to the next."""

S = TypeVar("S", bound="ServerSettings")


class ServerSettings(BaseSettings):
    """What every service can be told."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        extra="forbid",
        frozen=True,
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    config: Optional[Path] = Field(None, description="YAML file with any of these settings")
    host: str = Field(
        "127.0.0.1",
        description="address to listen on, such as ::1; 0.0.0.0 for all, unix:PATH for a socket",
    )
    port: int = Field(0, ge=0, le=65535, description="gRPC port; 0 picks a free one")
    metrics_port: int = Field(
        0, ge=0, le=65535, description="port of Prometheus' /metrics; 0 picks a free one"
    )
    max_sessions: int = Field(256, gt=0, description="streams served at a time")
    max_message_mebibytes: int = Field(
        64, gt=0, le=1024, description="largest gRPC message taken, MiB"
    )
    max_buffered_mebibytes: int = Field(
        0,
        ge=0,
        description="messages held in memory at a time with all that is made of them, MiB; "
        f"0: {MESSAGES_BUFFERED} of the largest, and not less than {LEAST_MESSAGES_BUFFERED}",
    )
    max_silence_seconds: float = Field(
        300.0,
        ge=0,
        description="a stream on which nothing comes for so long, or whose answers are not taken, "
        "is ended; 0: never",
    )
    grace_seconds: float = Field(
        20.0, gt=0, description="how long frames in flight may take after SIGTERM"
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console on a terminal, else json"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level logged"
    )

    @property
    def max_message_bytes(self) -> int:
        """Largest gRPC message taken."""
        return self.max_message_mebibytes << 20

    @property
    def max_buffered_bytes(self) -> int:
        """Of messages held in memory at a time, with all that is made of them."""
        chosen = self.max_buffered_mebibytes << 20
        return chosen or MESSAGES_BUFFERED * self.max_message_bytes

    @model_validator(mode="after")
    def _check_buffer(self) -> ServerSettings:
        least = LEAST_MESSAGES_BUFFERED * self.max_message_mebibytes
        if 0 < self.max_buffered_mebibytes < least:
            raise ValueError(
                f"max_buffered_mebibytes has to be {least} at least, which is "
                f"{LEAST_MESSAGES_BUFFERED} times max_message_mebibytes, or 0"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: Type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> Tuple[PydanticBaseSettingsSource, ...]:
        """Environment, less what a scheduler set, over what `load_settings` read from the file."""
        if isinstance(env_settings, EnvSettingsSource):
            injected = {name.lower() for name in _ours() if is_injected(name, os.environ)}
            env_settings.env_vars = {
                name: value for name, value in env_settings.env_vars.items() if name not in injected
            }
        return env_settings, init_settings


class StageSettings(ServerSettings):
    """What a stage service can be told."""

    @property
    def max_message_bytes(self) -> int:
        """`max_message_mebibytes` in bytes, and what a service adds to a client's frame."""
        return super().max_message_bytes + ENVELOPE_BYTES

    bundle: Path = Field(description="folder of the model, with bundle.json")
    node: str = Field(min_length=1, description="name of the device that this stage runs on")
    engine: str = Field("onnxruntime", description="what executes the half: see common.engines")
    engine_threads: int = Field(
        0, ge=0, description="CPU threads of one execution; 0 lets the engine choose"
    )
    engine_precision: Literal["fp32", "fp16"] = Field(
        "fp32", description="what TensorRT computes in; the other engines take fp32 only"
    )
    engine_cache: Optional[Path] = Field(
        None, description="folder for what TensorRT compiled; ~/.cache/tandem/engines if left out"
    )
    paced_milliseconds: float = Field(
        0.0, ge=0, description="simulate a device that takes this long an execution; 0: off"
    )
    paced_device: Optional[str] = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="name of the simulated device; stages of one machine that name the same one "
        "take turns on it. One of its own if left out",
    )
    max_sessions: int = Field(
        512,
        gt=0,
        description="streams served at a time; two for each session of the orchestrator, which "
        "holds two while it changes its route",
    )
    max_silence_seconds: float = Field(
        600.0,
        ge=0,
        description="a stream on which nothing comes for so long, or whose answers are not taken, "
        "is ended; 0: never. Longer than the orchestrator's, which then ends its streams first",
    )
    max_frames_in_flight: int = Field(
        32, gt=0, description="frames of one stream held at a time; more wait in the transport"
    )

    @model_validator(mode="after")
    def _check_pace(self) -> StageSettings:
        if self.paced_device is not None and self.paced_milliseconds == 0:
            raise ValueError(
                "paced_device needs paced_milliseconds: only a simulated one is shared"
            )
        return self


class TransformerSettings(StageSettings):
    """What the transformer service can be told."""

    port: int = Field(TRANSFORMER_PORT, ge=0, le=65535, description="gRPC port; 0 picks a free one")
    metrics_port: int = Field(
        9152, ge=0, le=65535, description="port of Prometheus' /metrics; 0 picks a free one"
    )


class BackboneSettings(StageSettings):
    """What the backbone service can be told."""

    port: int = Field(BACKBONE_PORT, ge=0, le=65535, description="gRPC port; 0 picks a free one")
    metrics_port: int = Field(
        9151, ge=0, le=65535, description="port of Prometheus' /metrics; 0 picks a free one"
    )
    transformers: Dict[str, Union[str, Annotated[List[str], Field(min_length=1)]]] = Field(
        description="host:port of each node's transformer, by the node's name; a list of them "
        "where a node has several"
    )
    max_image_megapixels: float = Field(
        50.0, gt=0, description="larger images are refused before they are decoded"
    )
    max_image_aspect_ratio: float = Field(
        64.0,
        ge=1,
        allow_inf_nan=False,
        description="images with a side longer than this times the other are refused",
    )
    max_image_scans: int = Field(
        64, gt=0, description="scans of a progressive JPEG; more are refused"
    )
    max_image_scan_megapixels: float = Field(
        800.0,
        gt=0,
        allow_inf_nan=False,
        description="of all scans of a progressive JPEG together; more are refused",
    )
    max_image_header_mebibytes: float = Field(
        8.0,
        gt=0,
        allow_inf_nan=False,
        description="of an image file's profiles, comments and thumbnails, MiB",
    )
    max_image_segments: int = Field(
        4096, gt=0, description="a JPEG's markers, or a PNG's chunks less those of the picture"
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


def load_settings(kind: Type[S], arguments: Sequence[str], program: str) -> S:
    """Read a service's settings.

    Args:
        kind: the settings' type.
        arguments: the command line, without the program's name.
        program: its name, for `--help`.

    Raises:
        ConfigurationError: a key is unknown or a value malformed, naming each.
    """
    cli: CliSettingsSource[S] = CliSettingsSource(
        kind, cli_parse_args=list(arguments), cli_prog_name=program
    )
    _refuse_unknown_environment(kind)
    try:
        from_cli = cli()
        path = from_cli.get("config") or os.environ.get(ENVIRONMENT_PREFIX + "CONFIG")
        from_file = _read_yaml(Path(path)) if path else {}
        return kind(_cli_settings_source=cli, **from_file)  # type: ignore[call-arg]
    except ValidationError as error:
        raise ConfigurationError(_first_lines(error)) from error
    except SettingsError as error:
        raise ConfigurationError(str(error)) from error


def settings_or_exit(kind: Type[S], program: str) -> S:
    """Read this process's command line; if it is wrong, one sentence on stderr and exit 2."""
    try:
        return load_settings(kind, sys.argv[1:], program)
    except ConfigurationError as error:
        sys.stderr.write(f"{program}: {error}\n")
        raise SystemExit(2) from None


def _refuse_unknown_environment(kind: Type[ServerSettings]) -> None:
    known = {ENVIRONMENT_PREFIX + name.upper() for name in kind.model_fields}
    unknown = sorted(
        name for name in _ours() if name not in known and not is_injected(name, os.environ)
    )
    if unknown:
        raise ConfigurationError(f"unknown environment variable {', '.join(unknown)}")


def _ours() -> List[str]:
    """The variables whose names begin as those of our settings do."""
    return [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]


def _read_yaml(path: Path) -> Dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} has to hold settings by name")
    return content


def _first_lines(error: ValidationError) -> str:
    return "; ".join(
        "{}: {}".format(".".join(str(part) for part in item["loc"]), item["msg"])
        for item in error.errors()
    )
