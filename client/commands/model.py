"""`tandem model info`: what a bundle holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from client.commands.options import JsonOption
from client.console import show_json, show_table
from common.bundle import Bundle, FixedInput, load_bundle
from common.domain.placement import Stage


def info(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A bundle's folder, with bundle.json in it.")
    ],
    json: JsonOption = False,
) -> None:
    """Show what a bundle holds, after checking its files against their digests."""
    bundle = load_bundle(folder)
    sizes = {stage: bundle.onnx_path(stage).stat().st_size for stage in Stage}
    if json:
        show_json(bundle_to_json(bundle, sizes))
    else:
        show_table(_table(bundle, sizes))


def bundle_to_json(bundle: Bundle, sizes: dict[Stage, int]) -> dict[str, Any]:
    """The manifest, with the bundle's digest and the size of each half in bytes."""
    return {
        "folder": str(bundle.folder),
        "digest": bundle.digest,
        "file_bytes": {stage.value: size for stage, size in sizes.items()},
        **bundle.manifest.model_dump(mode="json"),
    }


def _table(bundle: Bundle, sizes: dict[Stage, int]) -> Table:
    manifest = bundle.manifest
    made_of = manifest.architecture
    dilated = ", dilated last stage" if made_of.dilation else ""
    input_size = (
        f"letterboxed into {manifest.input.width} x {manifest.input.height}"
        if isinstance(manifest.input, FixedInput)
        else f"short side {manifest.input.shortest_edge}, long side at most "
        f"{manifest.input.longest_edge}"
    )
    rows = {
        "name": manifest.name,
        "backbone": f"{made_of.backbone}, base width {made_of.base_width}{dilated}",
        "transformer": f"{made_of.encoder_layers} encoder and {made_of.decoder_layers} decoder "
        f"layers of width {made_of.hidden_dim}, {made_of.queries} queries",
        "cut": f"{manifest.split}: {manifest.feature_channels} channels at stride "
        f"{manifest.feature_stride}",
        "input": input_size,
        "categories": f"{len(manifest.categories)}: "
        + ", ".join(category.name for category in manifest.categories),
        "codec": manifest.codec.default,
        "files": ", ".join(f"{stage.value} {size / 1e6:.1f} MB" for stage, size in sizes.items()),
        "trained": "yes" if manifest.trained else "no: random weights, its boxes mean nothing",
        "origin": manifest.origin,
        "license": manifest.license,
        "digest": bundle.digest,
    }
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table
