"""The options by which a command knows a server with TLS, and is known to it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from tandem.access import Credentials

_OPTIONS: dict[str, Any] = {
    "tls_ca": Annotated[
        Path | None,
        typer.Option(
            "--tls-ca",
            metavar="FILE",
            help="Authority that the server's certificate is from, for a server with TLS "
            "(TANDEM_TLS_CA).",
        ),
    ],
    "tls_certificate": Annotated[
        Path | None,
        typer.Option(
            "--tls-certificate",
            metavar="FILE",
            help="Your certificate, which says who you are (TANDEM_TLS_CERTIFICATE).",
        ),
    ],
    "tls_key": Annotated[
        Path | None,
        typer.Option(
            "--tls-key", metavar="FILE", help="The certificate's private key (TANDEM_TLS_KEY)."
        ),
    ],
    "tls_server_name": Annotated[
        str | None,
        typer.Option(
            "--tls-server-name",
            metavar="NAME",
            help="Name that the server's certificate has to hold; the host of --server if left "
            "out (TANDEM_TLS_SERVER_NAME).",
        ),
    ],
    "token": Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN",
            help="In place of a certificate, for the server's token port. Other users of this "
            "machine see command lines: TANDEM_TOKEN is the better place.",
        ),
    ],
}


@dataclass(frozen=True)
class AccessOptions:
    """What the command line says; the environment says the rest."""

    tls_ca: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_server_name: str | None = None
    token: str | None = None

    @property
    def given(self) -> dict[str, bool]:
        """Which options are given, by their names without the leading dashes."""
        return {
            field.name.replace("_", "-"): getattr(self, field.name) is not None
            for field in fields(self)
        }

    def credentials(self) -> Credentials | None:
        """By what to connect; None: without encryption.

        Raises:
            InvalidInputError: what is given does not fit together.
        """
        return Credentials.from_environment(
            self.tls_ca, self.tls_certificate, self.tls_key, self.token, self.tls_server_name
        )


def with_access(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of access; it gets them as `access`, one `AccessOptions`."""

    @functools.wraps(command)
    def with_options(*arguments: Any, **options: Any) -> None:
        found = {name: options.pop(name) for name in _OPTIONS}
        command(*arguments, access=AccessOptions(**found), **options)

    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.name != "access"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in _OPTIONS.items()
    ]
    with_options.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*own, *added]
    )
    with_options.__annotations__ = {each.name: each.annotation for each in (*own, *added)}
    return with_options
