"""`tandem model import`: published weights to a bundle. `detr.commands` loads `app` from here."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from common.bundle import DetrInput, FixedInput, ShortestEdgeInput, require_detr
from common.domain.errors import ConfigurationError
from detr.export import Description, ExportedBundle, export_bundle
from detr.importing import ImportedModel, import_weights

app = typer.Typer(help="Bundles from published weights.", no_args_is_help=True)


class SplitName(StrEnum):
    """Where the model is cut."""

    PROJECTED = "projected"
    C5 = "c5"


@app.command("import")
def import_model(
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="An official .pth, a Hugging Face .safetensors or .bin, a checkpoint of tandem "
            "train, or a folder with a Hugging Face model, whole or in shards.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the bundle; by default that of its folder.")
    ] = None,
    split: Annotated[
        SplitName, typer.Option(help="Cut after the 1x1 input_proj, or before it.")
    ] = SplitName.PROJECTED,
    input_size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW|SHORT[:LONG]",
            help="A fixed input with letterbox, or DETR's shortest and longest edge, in pixels. "
            "[default: as preprocessor_config.json says, or 800:1333]",
            show_default=False,
        ),
    ] = None,
    dilation: Annotated[
        bool | None,
        typer.Option(
            "--dilation/--no-dilation",
            help="The weights are a DC5 model's; they cannot tell. [default: as config.json or the "
            "checkpoint's args say, or no]",
            show_default=False,
        ),
    ] = None,
    heads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Attention heads; the weights cannot tell. [default: as config.json or the "
            "checkpoint's args say, or 8]",
            show_default=False,
        ),
    ] = None,
    license_name: Annotated[
        str, typer.Option("--license", help="Licence of the weights, which the bundle will state.")
    ] = "not stated",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Turn published DETR weights into a bundle, checked against the model in torch."""
    policy = None if input_size is None else parse_input_size(input_size)
    console = Console(stderr=True, quiet=as_json)
    with console.status("reading the weights") as status:
        imported = import_weights(weights, heads=heads, dilation=dilation)
        description = Description(
            name=name or out.resolve().name,
            input=policy or imported.preprocessing.input or ShortestEdgeInput(),
            normalization=imported.preprocessing.normalization,
            categories=imported.categories,
            license=license_name,
            origin=f"imported from {weights.name} ({imported.layout} layout)",
        )
        exported = export_bundle(
            imported.model, out, description, split=split.value, progress=status.update
        )
    typer.echo(_as_json(imported, exported) if as_json else _as_text(imported, exported))


def parse_input_size(text: str) -> DetrInput:
    """`320x480` is a fixed height and width; `800` or `800:1333` shortest and longest edge.

    Where the longest edge is left out it keeps DETR's ratio of 1333 to 800.

    Raises:
        ConfigurationError: it is neither.
    """
    fixed = re.fullmatch(r"(\d+)x(\d+)", text)
    edges = re.fullmatch(r"(\d+)(?::(\d+))?", text)
    try:
        if fixed:
            return FixedInput(height=int(fixed[1]), width=int(fixed[2]))
        if edges:
            shortest = int(edges[1])
            longest = int(edges[2]) if edges[2] else round(shortest * 1333 / 800)
            return ShortestEdgeInput(shortest_edge=shortest, longest_edge=longest)
    except ValidationError as error:
        raise ConfigurationError(f"--input-size {text}: {error.errors()[0]['msg']}") from error
    raise ConfigurationError(
        f"--input-size {text!r} is neither HxW, as 320x320, nor SHORT[:LONG], as 800:1333"
    )


def _as_json(imported: ImportedModel, exported: ExportedBundle) -> str:
    manifest = require_detr(exported.bundle.manifest, "this import")
    return json.dumps(
        {
            "path": str(exported.bundle.folder),
            "name": manifest.name,
            "digest": exported.bundle.digest,
            "layout": imported.layout,
            "architecture": manifest.architecture.model_dump(),
            "split": manifest.split,
            "input": manifest.input.model_dump(),
            "max_difference": exported.max_difference,
            "remarks": list(imported.remarks),
        }
    )


def _as_text(imported: ImportedModel, exported: ExportedBundle) -> str:
    manifest = require_detr(exported.bundle.manifest, "this import")
    a = manifest.architecture
    dilated = ", dilated last stage" if a.dilation else ""
    return "\n".join(
        [
            f"{exported.bundle.folder}: {manifest.name}, from the {imported.layout} layout",
            f"  backbone     {a.backbone}, base width {a.base_width}{dilated}",
            f"  transformer  {a.encoder_layers} encoder and {a.decoder_layers} decoder layers, "
            f"width {a.hidden_dim}, {a.heads} heads, {a.queries} queries, {a.classes} classes",
            f"  split        {manifest.split}, {manifest.feature_channels} channels",
            f"  digest       {exported.bundle.digest}",
            f"  largest difference from the model in torch, over padded and batched inputs: "
            f"{exported.max_difference:.1e}",
            *(f"  note         {remark}" for remark in imported.remarks),
        ]
    )
