"""Settings of the services: command line over environment over file over default."""

from __future__ import annotations

import io
import os
import re
import sys
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Type, TypeVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)
from typing_extensions import Literal

from common.domain.address import parse_host
from common.domain.errors import ConfigurationError, InvalidInputError
from common.domain.redaction import MASK, fit_to_show
from common.server.budget import LEAST_MESSAGES_BUFFERED, MESSAGES_BUFFERED
from common.server.security_settings import SecuritySettings
from common.validation import problems, refuse_switch
from common.yaml_files import read_yaml

ENVIRONMENT_PREFIX = "TANDEM_"
ENVELOPE_BYTES = 1024
"""More than a frame grows by when a service passes it on, so that the largest frame which a service
accepts fits into the next one's limit."""

# What the `tandem` command reads, which may be set in the same shell.
_OF_CLIENTS = ("TANDEM_TLS_CA", "TANDEM_TLS_SERVER_NAME", "TANDEM_TOKEN")
# How the variables look that schedulers set.
_URL = re.compile(r"(tcp|udp|sctp)://\S+")
_SERVICE = re.compile(r"_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$")
_PORT_PART = re.compile(
    r"_PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO|START|PORT_START|PORT_END|END))?$"
)
_OPTION_VALUE = re.compile(r"(--[\w-]+)=\S+")
_LINKED_VARIABLE = re.compile(r"(?P<link>.+?)_ENV_")

S = TypeVar("S", bound="ServerSettings")


class ServerSettings(SecuritySettings):
    """Settings of every service."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        extra="forbid",
        frozen=True,
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        hide_input_in_errors=True,
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
    max_sessions: int = Field(256, gt=0, description="streams that are served at a time")
    max_message_mebibytes: int = Field(
        64, gt=0, le=1024, description="largest gRPC message that is accepted, MiB"
    )
    max_buffered_mebibytes: int = Field(
        0,
        ge=0,
        description="memory for messages and for all that is made of them, MiB; 0 means "
        f"{MESSAGES_BUFFERED} of the largest messages; {LEAST_MESSAGES_BUFFERED} of them at least",
    )
    max_silence_seconds: float = Field(
        300.0,
        ge=0,
        description="end a stream when nothing comes on it, or its answers are not taken, for so "
        "long; 0 means never",
    )
    grace_seconds: float = Field(
        20.0, gt=0, description="how long frames in flight may take after SIGTERM"
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto is console on a terminal, and json otherwise"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is logged"
    )

    @property
    def max_message_bytes(self) -> int:
        """Size of the largest gRPC message that is accepted, bytes."""
        return self.max_message_mebibytes << 20

    @property
    def max_buffered_bytes(self) -> int:
        """How much memory messages and what is made of them may take at a time, bytes."""
        chosen = self.max_buffered_mebibytes << 20
        return chosen or MESSAGES_BUFFERED * self.max_message_bytes

    @field_validator("*", mode="before")
    @classmethod
    def _is_of_its_kind(cls, value: object, info: ValidationInfo) -> object:
        field = cls.model_fields[str(info.field_name)]
        refuse_switch(value, field)
        # An empty one would be the folder in which the service was started.
        if value == "" and _is_path(field):
            raise ValueError("a path is expected here")
        return value

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, value: str) -> str:
        try:
            return parse_host(value)
        except InvalidInputError as error:
            raise ValueError(str(error)) from error

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
        """The environment, without what a scheduler set, goes over what the file says.

        An empty path counts as none: Compose passes on so what is not set.
        """
        if isinstance(env_settings, EnvSettingsSource):
            left_out = {name.lower() for name in _ours() if _is_injected(name, os.environ)}
            paths = {name for name, field in settings_cls.model_fields.items() if _is_path(field)}
            left_out.update(
                variable
                for variable in (f"{ENVIRONMENT_PREFIX}{name}".lower() for name in paths)
                if env_settings.env_vars.get(variable) == ""
            )
            env_settings.env_vars = {
                name: value for name, value in env_settings.env_vars.items() if name not in left_out
            }
        return env_settings, init_settings


def load_settings(kind: Type[S], arguments: Sequence[str], program: str) -> S:
    """Read a service's settings.

    Args:
        kind: the settings' type.
        arguments: the command line, without the program's name.
        program: its name, for `--help`.

    Raises:
        ConfigurationError: a key is unknown or a value malformed, naming each.
    """
    try:
        cli = _command_line(kind, arguments, program)
        _refuse_unknown_environment(kind)
        from_cli = cli()
        path = from_cli.get("config") or os.environ.get(ENVIRONMENT_PREFIX + "CONFIG")
        from_file = _read_settings(Path(path)) if path else {}
        return kind(_cli_settings_source=cli, **from_file)  # type: ignore[call-arg]
    # Not `from error`: a traceback would show the values.
    except ValidationError as error:
        raise ConfigurationError(problems(error)) from None
    except SettingsError as error:
        # Behind the field's name comes that of a class.
        raise ConfigurationError(str(error).partition(" from source ")[0]) from None


def settings_or_exit(kind: Type[S], program: str) -> S:
    """Read this process's settings; if they are wrong, say so in one sentence and exit with 2."""
    try:
        return load_settings(kind, sys.argv[1:], program)
    except ConfigurationError as error:
        sys.stderr.write(f"{program}: {fit_to_show(str(error))}\n")
        raise SystemExit(2) from None


def _command_line(kind: Type[S], arguments: Sequence[str], program: str) -> CliSettingsSource[S]:
    """Parse a command line; wrong usage is told without the values, and exits with 2."""
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            return CliSettingsSource(kind, cli_parse_args=list(arguments), cli_prog_name=program)
    except SystemExit:
        sys.stderr.write(fit_to_show(_without_values(told.getvalue()), keep="\n"))
        raise


def _without_values(usage: str) -> str:
    """What argparse says of wrong usage, with the names of options, and not what follows them."""
    sentence, colon, words = usage.partition("unrecognized arguments:")
    shown = [word if word.startswith("-") else MASK for word in words.split()]
    return _OPTION_VALUE.sub(rf"\1={MASK}", " ".join([sentence + colon, *shown])) + "\n" * bool(
        colon
    )


def _is_path(field: FieldInfo) -> bool:
    return field.annotation in (Path, Optional[Path])


def _refuse_unknown_environment(kind: Type[ServerSettings]) -> None:
    known = {ENVIRONMENT_PREFIX + name.upper() for name in kind.model_fields}
    known.update(_OF_CLIENTS)
    unknown = sorted(
        name for name in _ours() if name not in known and not _is_injected(name, os.environ)
    )
    if unknown:
        raise ConfigurationError(f"unknown environment variable {', '.join(unknown)}")


def _ours() -> List[str]:
    """The names of the variables that begin with our settings' prefix."""
    return [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]


def _read_settings(path: Path) -> Dict[str, Any]:
    content = read_yaml(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} has to hold settings by name")
    return content


def _is_injected(name: str, environment: Mapping[str, str]) -> bool:
    """Whether a scheduler set a variable for the sake of other services.

    Kubernetes and Docker's links tell each container by such variables where the services of its
    namespace are. For a service called `tandem-backbone` their names begin like those of our
    settings; for one called `tandem` or `tandem-metrics` some even are names of our settings, such
    as in `TANDEM_PORT=tcp://10.0.0.1:50050`.

    Args:
        name: in capitals.
        environment: holds its value, and what else the scheduler has set.
    """
    value = environment[name]
    if _SERVICE.search(name) or _PORT_PART.search(name):
        return True
    if name.endswith("_PORT"):
        return _URL.fullmatch(value) is not None
    if name.endswith("_NAME"):
        return _is_link(name, value)
    linked = _LINKED_VARIABLE.match(name)
    if linked is None:
        return False
    link = f"{linked['link']}_NAME"
    return _is_link(link, environment.get(link, ""))


def _is_link(name: str, value: str) -> bool:
    """Whether this is how Docker announces a link: `THE_ALIAS_NAME=/container/the-alias`.

    Variables called `THE_ALIAS_ENV_...` are then those of the linked container.
    """
    container, _, alias = value.rpartition("/")
    return container.startswith("/") and f"{alias.upper().replace('-', '_')}_NAME" == name
