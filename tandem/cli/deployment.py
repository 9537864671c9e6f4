"""`tandem model deploy`: changes a running system over to another bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from common.bundle import load_bundle
from common.bundle.folder import MANIFEST_NAME
from common.bundle.reading import is_plain_name
from common.domain.models import is_digest
from tandem.cli.access import AccessOptions, with_access
from tandem.cli.console import activity, show_json, show_line, show_warning
from tandem.cli.operations import status_to_json
from tandem.cli.options import (
    DEFAULT_SERVER,
    JsonOption,
    RemoteServer,
    ServerOption,
    checked_model_option,
)
from tandem.cli.running import run


@with_access
def deploy(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE",
            help="A bundle's folder on this machine, of which every node has a copy under the same "
            "name; with --digest only that name.",
        ),
    ],
    server: ServerOption = DEFAULT_SERVER,
    *,
    digest: Annotated[
        str | None,
        typer.Option(
            metavar="SHA256", help="Digest of the bundle; read from its folder if left out."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            callback=checked_model_option,
            help="The model that changes over, by its name; the default model if left out.",
        ),
    ] = None,
    json: JsonOption = False,
    access: AccessOptions,
) -> None:
    """Change a model of a running system over to another bundle, without a pause.

    The bundle has to lie on every node already, in the folder that the stages' setting `bundles`
    names. All stages load it beside the one that they serve; when all have, open streams change
    over. If one stage cannot load it, nothing changes and you are told why. Other models go on. To
    go back, deploy the bundle from before.
    """
    name, digest = _named(bundle, digest)
    run(_deploy(RemoteServer(server, access.credentials()), model or "", name, digest, json))


def _named(bundle: str, digest: str | None) -> tuple[str, str]:
    """The name of a bundle's folder on the nodes, and its digest.

    Raises:
        BadParameter: neither a folder with a bundle, nor a name with its digest.
        ConfigurationError: the bundle is damaged.
    """
    if digest is None:
        folder = Path(bundle)
        if not (folder / MANIFEST_NAME).is_file():
            raise typer.BadParameter(
                f"{bundle} is no bundle's folder on this machine: give --digest to name one that "
                "only the nodes have",
                param_hint="BUNDLE",
            )
        found = load_bundle(folder)
        found.check_files()
        return os.path.basename(os.path.abspath(bundle)), found.digest
    if not is_digest(digest):
        raise typer.BadParameter(
            "a digest is a sha256 in lower-case hexadecimal", param_hint="--digest"
        )
    if not is_plain_name(bundle):
        raise typer.BadParameter(f"{bundle} is no name of a folder", param_hint="BUNDLE")
    return bundle, digest


async def _deploy(server: RemoteServer, model: str, name: str, digest: str, as_json: bool) -> None:
    async with server.client() as client:
        with activity(f"all stages load {name}"):
            system = await client.deploy(name, digest, model=model)
    if as_json:
        show_json(status_to_json(system))
        return
    for warning in system.warnings:
        show_warning(warning)
    of_model = f" of the model {model}" if model else ""
    show_line(f"deployed: {name}, digest {digest}; streams{of_model} change over to it now")
