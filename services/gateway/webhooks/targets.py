"""Who gets webhooks: a YAML file, and nobody else.

webhooks:
- name: alarm
  url: https://home.example/tandem
  secret_file: alarm.secret     # signs each message; seen from this file's folder
- name: counter
  url: http://127.0.0.1:9000/counts
  cameras: [front door]         # all, if left out
  send: [counts, detections]    # events of objects, if left out
"""

from __future__ import annotations

import base64
import binascii
import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from common.domain.errors import ConfigurationError
from common.server.exposure import is_elsewhere
from services.gateway.events.secrets import client_context, read_secret
from services.gateway.yaml_options import OptionsFile

MOST_TARGETS = 16
SECRET_PREFIX = "whsec_"
_LEAST_SECRET_BYTES = 16


class Kind(StrEnum):
    """What a receiver is sent."""

    EVENTS = "events"
    COUNTS = "counts"
    DETECTIONS = "detections"


@dataclass(frozen=True)
class Target:
    """One receiver, ready to be called.

    Attributes:
        name: of the receiver, for logs and metrics.
        url: that messages are posted to.
        key: of the signature; empty: messages are not signed.
        tls: by which an https connection is encrypted.
        cameras: whose messages it gets; empty: of all.
        kinds: of messages that it gets.
    """

    name: str
    url: str
    key: bytes = field(repr=False)
    tls: ssl.SSLContext | bool
    cameras: frozenset[str]
    kinds: frozenset[Kind]

    def wants(self, kind: Kind, camera: str) -> bool:
        """Whether it gets messages of a kind about a camera."""
        return kind in self.kinds and (not self.cameras or camera in self.cameras)


class _TargetOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    url: str
    secret_file: Path | None = None
    ca: Path | None = None
    cameras: list[str] = Field(default_factory=list)
    send: list[Kind] = Field(default_factory=lambda: [Kind.EVENTS], min_length=1)
    insecure: bool = False

    @field_validator("url")
    @classmethod
    def _is_plain_http(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            is_http = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            is_http = False
        if not is_http or not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError("it is no http:// or https:// URL")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise ValueError("it holds a user, a password or a fragment: sign messages instead")
        return value

    @model_validator(mode="after")
    def _is_encrypted(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme == "http" and not self.insecure and is_elsewhere(parts.hostname or ""):
            raise ValueError(
                "its receiver is on another machine, and http:// has no TLS: use https://, or "
                "allow it by insecure: true"
            )
        return self


class _TargetFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    webhooks: list[_TargetOptions] = Field(min_length=1, max_length=MOST_TARGETS)


def read_targets(path: Path, cameras: frozenset[str]) -> tuple[Target, ...]:
    """The receivers of a YAML file; paths in it are seen from the folder of the file.

    Args:
        path: of the file.
        cameras: names of all cameras.

    Raises:
        ConfigurationError: it cannot be read, or makes no sense; the sentence shows no value that
            may be secret.
    """
    file = OptionsFile.read(path, _TargetFile)
    found = file.options.webhooks
    file.refuse_same_names("webhooks", [each.name for each in found])
    for each in found:
        unknown = sorted(set(each.cameras) - cameras)
        if unknown:
            raise ConfigurationError(f"{path}: {each.name}: there is no camera {unknown[0]!r}")
    return tuple(_target(each, path.parent) for each in found)


def _target(options: _TargetOptions, folder: Path) -> Target:
    tls: ssl.SSLContext | bool = True
    if urlsplit(options.url).scheme == "https":
        tls = client_context(None if options.ca is None else folder / options.ca, None, None)
    return Target(
        name=options.name,
        url=options.url,
        key=_key(options, folder),
        tls=tls,
        cameras=frozenset(options.cameras),
        kinds=frozenset(options.send),
    )


def _key(options: _TargetOptions, folder: Path) -> bytes:
    if options.secret_file is None:
        return b""
    path = folder / options.secret_file
    what = f"the secret of the webhook {options.name}"
    secret = read_secret(path, what)
    key = secret.encode()
    if secret.startswith(SECRET_PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except binascii.Error:
            raise ConfigurationError(f"{what} in {path} is not Base64 after whsec_") from None
    if len(key) < _LEAST_SECRET_BYTES:
        raise ConfigurationError(f"{what} in {path} has less than {_LEAST_SECRET_BYTES} bytes")
    return key
