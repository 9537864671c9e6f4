"""`tandem model import`: published weights to a bundle. `detr.commands` loads `app` from here."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import typer
from pydantic import ValidationError
from rich.console import Console

from common.bundle import DetrInput, FixedInput, ShortestEdgeInput, require_detr
from common.bundle.manifest import DETR_FAMILY
from common.domain.errors import ConfigurationError
from common.validation import reason
from detr.export import Description, ExportedBundle, export_bundle
from detr.families.export import FamilyDescription, export_family
from detr.families.importing import folder_of, import_family
from detr.families.published import published_config, require_no_size
from detr.families.registry import family_of, naming_what_is_assumed
from detr.families.reports import family_json, family_text
from detr.importing import ImportedModel, import_weights
from detr.importing.processors import read_processor
from detr.importing.reading import read_config

app = typer.Typer(help="Bundles from published weights.", no_args_is_help=True)


class SamplingName(StrEnum):
    """How deformable attention reads features."""

    DEFAULT = "default"
    DISCRETE = "discrete"


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
            "train, or a folder with a Hugging Face model, whole or in shards. A folder's "
            "config.json tells the family: detr, conditional_detr, rt_detr_v2, d_fine or rf_detr.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the bundle; by default that of its folder.")
    ] = None,
    split: Annotated[
        SplitName,
        typer.Option(help="Cut a DETR after the 1x1 input_proj, or before it."),
    ] = SplitName.PROJECTED,
    sampling: Annotated[
        SamplingName | None,
        typer.Option(
            help="How RT-DETRv2 and D-FINE read features: interpolated, or the nearest cell, which "
            "needs no GridSample. [default: as config.json says]",
            show_default=False,
        ),
    ] = None,
    random_weights: Annotated[
        bool,
        typer.Option(
            "--random-weights",
            help="Read config.json alone, and give the model random weights, to try it out. FILE "
            "may be the name of a published size then, as d_fine_n or rf_detr_nano.",
        ),
    ] = False,
    input_size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW|SHORT[:LONG]",
            help="A fixed input, with letterbox for a DETR and stretched for other families, or "
            "DETR's shortest and longest edge, in pixels. "
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
    """Turn published weights into a bundle, checked against the model in torch."""
    policy = None if input_size is None else parse_input_size(input_size)
    console = Console(stderr=True, quiet=as_json)
    if random_weights:
        config = published_config(weights)
    else:
        require_no_size(weights)
        config = read_config(weights)
    family = family_of(config)
    if family.name != DETR_FAMILY:
        if split is not SplitName.PROJECTED or heads is not None or dilation is not None:
            raise ConfigurationError(
                f"--split, --heads and --dilation are for a DETR, and {weights} is of the family "
                f"{family.name}"
            )
        with console.status("reading the weights") as status:
            model = import_family(
                family,
                weights.parent if random_weights and not weights.is_dir() else folder_of(weights),
                config,
                input_policy=policy,
                sampling=None if sampling is None else sampling.value,
                random=random_weights,
            )
            what = "random weights, for the configuration" if random_weights else "imported from"
            written = export_family(
                model.split,
                out,
                FamilyDescription(
                    name=name or out.resolve().name,
                    categories=model.categories,
                    license=license_name,
                    origin=f"{what} {weights.resolve().name} ({family.name})",
                    trained=not random_weights,
                ),
                progress=status.update,
            )
        typer.echo(family_json(model, written) if as_json else family_text(model, written))
        return
    if sampling is SamplingName.DISCRETE or random_weights:
        raise ConfigurationError(
            "--sampling discrete and --random-weights are for other families than DETR"
        )
    with console.status("reading the weights") as status:
        with naming_what_is_assumed(weights, config):
            imported = import_weights(weights, heads=heads, dilation=dilation)
        if policy is None:
            # What it was trained with, or a word about what Tandem does not do.
            stated = family.preparation(read_processor(weights), config)
            policy = cast(DetrInput, stated.input)
        description = Description(
            name=name or out.resolve().name,
            input=policy,
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
        raise ConfigurationError(f"--input-size {text}: {reason(error.errors()[0])}") from error
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
