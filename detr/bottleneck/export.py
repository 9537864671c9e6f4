"""Writes a trained bottleneck's parts into a copy of a bundle, and checks them against torch."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.bundle import PART_OF, DetrManifest, LatentRate, load_bundle, require_detr, write_bundle
from common.bundle import Bottleneck as BottleneckManifest
from common.bundle.folder import LATENT_TABLES_NAME, ONNX_NAMES
from common.domain.errors import ConfigurationError
from common.domain.placement import Stage
from common.engines.registry import load_engine
from detr.bottleneck.recipe import BottleneckRecipe
from detr.errors import ExportError
from detr.export.bottleneck_parts import DecoderPart, EncoderPart
from detr.export.bundle import check_halves, frozen_copy
from detr.export.graph import export_graph, write_transformer
from detr.export.halves import TransformerHalf
from detr.model import DETR
from detr.model.bottleneck import LATENT_UNITS, Bottleneck, BottleneckSizes
from detr.training.checkpoints import CHECKPOINT_NAME, load_checkpoint

TOLERANCE = 1e-3
"""Largest difference of decoded features, in standard deviations."""
_MOST_MOVED = 1e-3
"""Share of the latents that may be one unit off, since they lie between two."""

_PART_NAMES = {stage: f"{part.value}.onnx" for stage, part in PART_OF.items()}

_TRACED_GRID = (5, 7)
# None is the traced one; the last is a batch of two.
_GRIDS = ((1, 9, 12), (1, 1, 1), (2, 25, 34))


@dataclass(frozen=True)
class TrainedRun:
    """A finished or unfinished run.

    Attributes:
        recipe: what was done.
        bottleneck: with the averaged weights.
        model: the averaged weights of the model whose transformer was tuned; None if none was.
    """

    recipe: BottleneckRecipe
    bottleneck: Bottleneck
    model: dict[str, Tensor] | None


@dataclass(frozen=True)
class ExportedBottleneck:
    """What `add_bottleneck` wrote.

    Attributes:
        channels: of the latents.
        max_difference: of decoded features in ONNX Runtime and in torch, in deviations.
    """

    channels: int
    max_difference: float


def load_run(folder: Path) -> TrainedRun:
    """Read the checkpoint of a run.

    Raises:
        ConfigurationError: there is none, or it is of another kind of run.
    """
    content: dict[str, Any] = load_checkpoint(folder / CHECKPOINT_NAME)
    average: dict[str, Tensor] = content.get("average", {})
    weights = _below("bottleneck.", average)
    if not weights:
        raise ConfigurationError(f"{folder} is no run of `tandem bottleneck train`.")
    recipe = BottleneckRecipe.model_validate(content["recipe"])
    sizes = BottleneckSizes(len(weights["encoder.mean"]), *recipe.sizes.model_dump().values())
    bottleneck = Bottleneck(sizes)
    bottleneck.load_state_dict(weights)
    return TrainedRun(recipe, bottleneck.eval(), _below("model.", average) or None)


def add_bottleneck(run: TrainedRun, bundle: Path, out: Path) -> ExportedBottleneck:
    """Copy a bundle to `out` with a bottleneck; `out` appears only when all went well.

    Latents that are practically always 0 are left out. A transformer that was tuned with the
    bottleneck replaces the bundle's.

    Raises:
        ConfigurationError: `out` exists, or the bundle is not of the model.
        ExportError: a part does not compute what it computes in torch.
    """
    if out.exists():
        raise ConfigurationError(f"{out} exists; choose another folder.")
    manifest = require_detr(load_bundle(bundle).manifest, "a learned bottleneck")
    bottleneck = run.bottleneck.pruned(min(rate.step for rate in run.recipe.rates.values()))
    sizes = bottleneck.sizes
    if manifest.feature_channels != sizes.features:
        raise ConfigurationError(
            f"{bundle} has {manifest.feature_channels} channels of features, but the bottleneck "
            f"is for {sizes.features}."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        folder = Path(temporary) / "bundle"
        shutil.copytree(bundle, folder)
        (folder / LATENT_TABLES_NAME).unlink(missing_ok=True)
        if run.model is not None:
            _write_tuned(run, manifest, folder)
        difference = _write_parts(bottleneck, folder)
        files = {name: "" for name in manifest.files if name != LATENT_TABLES_NAME}
        files.update(dict.fromkeys(_PART_NAMES.values(), ""))
        described = BottleneckManifest(
            channels=sizes.channels,
            rates={
                name: LatentRate(
                    step=round(rate.step * LATENT_UNITS),
                    keep_within=round(rate.keep_within * LATENT_UNITS),
                )
                for name, rate in run.recipe.rates.items()
            },
        )
        write_bundle(folder, manifest.model_copy(update={"files": files, "bottleneck": described}))
        folder.rename(out)
    return ExportedBottleneck(sizes.channels, difference)


def _write_tuned(run: TrainedRun, manifest: DetrManifest, folder: Path) -> None:
    model = DETR(manifest.architecture)
    model.load_state_dict(run.model or {})
    with torch.no_grad():
        model.class_embed.bias[-1] += run.recipe.no_object_shift
    path = folder / ONNX_NAMES[Stage.TRANSFORMER]
    half = TransformerHalf(frozen_copy(model), manifest.split)
    hidden_dim = manifest.architecture.hidden_dim
    write_transformer(half, manifest.feature_channels, hidden_dim, path)
    check_halves(model.eval(), folder / ONNX_NAMES[Stage.BACKBONE], path)


def _write_parts(bottleneck: Bottleneck, folder: Path) -> float:
    encoder, decoder = EncoderPart(bottleneck.encoder), DecoderPart(bottleneck.decoder)
    sizes, std = bottleneck.sizes, bottleneck.encoder.std
    for stage, part, names, channels in (
        (Stage.BACKBONE, encoder, ("features", "latents"), sizes.features),
        (Stage.TRANSFORMER, decoder, ("latents", "features"), sizes.channels),
    ):
        axes = {0: "batch", 2: "rows", 3: "columns"}
        example = (torch.zeros(1, channels, *_TRACED_GRID),)
        path = folder / _PART_NAMES[stage]
        export_graph(part.eval(), example, path, {names[0]: axes}, {names[1]: axes})
    return _check_parts(encoder, decoder, folder, std, bottleneck.encoder.mean)


def _check_parts(
    encoder: nn.Module, decoder: nn.Module, folder: Path, std: Tensor, mean: Tensor
) -> float:
    """Compare both parts with torch; returns the largest difference of features, in deviations."""
    paths = [folder / _PART_NAMES[stage] for stage in (Stage.BACKBONE, Stage.TRANSFORMER)]
    first, second = (load_engine("onnxruntime", path, 0) for path in paths)
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for frames, rows, columns in _GRIDS:
        noise = torch.randn(frames, len(std), rows, columns, generator=generator)
        features = noise * std[:, None, None] + mean[:, None, None]
        with torch.inference_mode():
            latents = encoder(features)
            decoded = decoder(latents)
        got = first.run({"features": features.numpy()})["latents"]
        moved = np.abs(got - latents.numpy())
        restored = second.run({"latents": latents.numpy()})["features"]
        difference = (torch.from_numpy(restored) - decoded).abs() / std[:, None, None]
        # max() would pass over NaN.
        largest = float(np.max([largest, difference.max().item()]))
        if not (moved.max() <= 1 and (moved > 0).mean() <= _MOST_MOVED + 1 / moved.size):
            raise ExportError("the exported bottleneck's encoder differs from torch")
        if not largest <= TOLERANCE:
            raise ExportError(
                f"the exported bottleneck's decoder differs from torch by {largest:.1e}"
            )
    return largest


def _below(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)
    }
