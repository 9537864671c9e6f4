"""`tandem model keygen`, `sign` and `verify`: who made a bundle."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from common.bundle import Bundle, load_bundle
from common.bundle.folder import MANIFEST_NAME
from common.bundle.reading import MOST_MANIFEST_BYTES, read_inside
from common.bundle.signature import sign as write_signature
from common.bundle.signature import write_keys
from common.domain.errors import ConfigurationError
from tandem.cli.console import show_json, show_line
from tandem.cli.options import JsonOption

FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="A bundle's folder, with bundle.json in it.")
]


def keygen(
    key: Annotated[
        Path,
        typer.Argument(
            metavar="KEY", help="File for the private key; the public one becomes KEY.pub."
        ),
    ],
) -> None:
    """Make a pair of Ed25519 keys, in PEM, for signing bundles.

    Whoever has the private key can sign bundles that your machines accept: keep it off them.
    """
    public = write_keys(key)
    show_line(f"{key}: the private key, for tandem model sign; keep it to yourself")
    show_line(f"{public}: the public key, for --require-signature on every machine")


def sign(
    folder: FolderArgument,
    *,
    key: Annotated[Path, typer.Option(metavar="FILE", help="The private key.")],
) -> None:
    """Sign a bundle, after checking its files against their digests.

    The signature goes into bundle.sig, and holds until bundle.json changes.
    """
    bundle = load_bundle(folder)
    _require_whole(bundle)
    content = read_inside(folder, MANIFEST_NAME, MOST_MANIFEST_BYTES)
    if hashlib.sha256(content).hexdigest() != bundle.digest:
        raise ConfigurationError(f"bundle {folder}: {MANIFEST_NAME} has just been changed")
    show_line(f"signed: {write_signature(folder, content, key)}")


def verify(
    folder: FolderArgument,
    *,
    key: Annotated[Path, typer.Option(metavar="FILE", help="The public key.")],
    json: JsonOption = False,
) -> None:
    """Check a bundle's signature, and every file against the digest that was signed."""
    bundle = load_bundle(folder, key)
    _require_whole(bundle)
    if json:
        show_json({"folder": str(folder), "digest": bundle.digest, "key": str(key)})
    else:
        show_line(
            f"{folder}: signed by {key}, and its {len(bundle.manifest.files)} files are whole"
        )


def _require_whole(bundle: Bundle) -> None:
    for name in bundle.manifest.files:
        bundle.content(name)
