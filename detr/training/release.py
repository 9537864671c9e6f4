"""From a checkpoint to a bundle with its record, and the same bundle again from the record.

Weights are rounded to fp16 first (running statistics and other vectors are not), so that the
record's weights file is small and yet gives the bundle's exact bytes.

A run that trains a released model further takes that model's record along: its own record tells
both runs, and keeps the metrics of both.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common.bundle import Bundle, CodecDefaults, write_bundle
from common.bundle.folder import sha256_of
from common.codec.cut_statistics import CutStatistics, without_padding
from common.domain.codec import CALIBRATION_FRAMES, Codec
from common.domain.errors import ConfigurationError
from common.domain.placement import Stage
from common.engines.registry import load_engine
from common.vision.preprocess import preprocess
from detr.coco.folder import CocoFolder
from detr.training.checkpoints import RECORD_NAME, WEIGHTS_NAME, load_checkpoint, read_record
from detr.training.data import require_scenes, scene_categories
from detr.training.evaluation import bundle_detector, evaluate
from detr.training.families import Labelling, trained_family
from detr.training.metrics import CURVE_NAME, METRICS_NAME, draw_curve
from detr.training.recipe import FromRecord, Recipe, ScenesData
from detr.training.state import recipe_of

Pictures = Iterable[NDArray[np.uint8]]
"""RGB, [H,W,3] each."""

# Costs nothing that AP could show (docs/accuracy.md), for half the bytes of fp16.
_DEFAULT_CODEC = Codec.INT8

FORMER_METRICS_NAME = "metrics.former.csv"
# What would be long, or names a file that the new record replaces.
_NOT_KEPT = {"name", "curve", "codec"}


@dataclass(frozen=True)
class Released:
    """A run turned into a bundle.

    Attributes:
        recipe: the run's recipe, of training or of distillation.
        model: the plain model, its weights rounded.
        bundle: its export.
        record: the content of `record.json`.
    """

    recipe: Recipe
    model: nn.Module
    bundle: Bundle
    record: dict[str, Any]


@dataclass(frozen=True)
class _Former:
    """The release that a run started from: its record, and the bytes of its metrics."""

    record: dict[str, Any]
    metrics: bytes


def release(
    checkpoint: Path,
    bundle: Path,
    record: Path,
    commit: str,
    pictures: Pictures,
    *,
    machine: str | None = None,
    score_shift: float | None = None,
) -> Released:
    """Export a run on scenes, calibrate its codecs, and write weights, metrics, curve and record.

    Args:
        checkpoint: the run's checkpoint; its metrics lie beside it.
        bundle: folder of the bundle; one that is there is replaced.
        record: folder of the record.
        commit: the commit of the code that trained.
        pictures: pictures like those of training, to calibrate the codecs on.
        machine: the machine that trained, in words.
        score_shift: replaces the recipe's, as `detr.training.score_shift` measured it.

    Raises:
        ConfigurationError: there is no checkpoint, the run was not on scenes, or the record that
            it started from is not there any more.
        ExportError: the halves do not compute what the model computes.
    """
    content = load_checkpoint(checkpoint)
    recipe = recipe_of(content, checkpoint)
    if not isinstance(recipe.data, ScenesData):
        raise ConfigurationError(f"{checkpoint} was not trained on scenes.")
    if score_shift is not None:
        recipe = recipe.model_copy(update={"score_shift": score_shift})
    metrics = (checkpoint.parent / METRICS_NAME).read_bytes()
    former = _former_release(recipe, metrics)
    family = trained_family(recipe)
    state = rounded(family.weights(family.plain_model(recipe, content["average"])))
    record.mkdir(parents=True, exist_ok=True)
    save_file(state, record / WEIGHTS_NAME)
    (record / METRICS_NAME).write_bytes(metrics)
    if former is not None:
        (record / FORMER_METRICS_NAME).write_bytes(former.metrics)
    draw_curve(record)
    model = _model(recipe, record / WEIGHTS_NAME)
    exported = family.export(recipe, model, bundle, _labelling(recipe), overwrite=True).bundle
    codecs = measured_codecs(exported, pictures)
    exported = with_codecs(exported, codecs)
    written = {
        "name": recipe.name,
        "recipe": json.loads(recipe.model_dump_json()),
        "seed": recipe.seed,
        "commit": commit,
        **({} if machine is None else {"machine": machine}),
        "steps": content["step"],
        "images": content["step"] * recipe.batch_size,
        "training_minutes": round(content["seconds"] / 60, 1),
        "torch": torch.__version__,
        "curve": CURVE_NAME,
        "metrics": METRICS_NAME,
        "weights_sha256": sha256_of(record / WEIGHTS_NAME),
        "codec": json.loads(codecs.model_dump_json(exclude_none=True)),
        "bundle_digest": exported.digest,
        "figures": {},
    }
    if former is not None:
        written["started_from"] = former.record
    _write_record(record, written)
    return Released(recipe, model, exported, written)


def calibration_pictures(checkpoint: Path, cache: Path | None) -> tuple[Recipe, Pictures]:
    """Return the recipe of a run, and scenes that it saw, to calibrate the codecs on.

    Raises:
        ConfigurationError: there is no checkpoint, the run was not on scenes, or `cache` lacks
            something.
    """
    recipe = recipe_of(load_checkpoint(checkpoint), checkpoint)
    if not isinstance(recipe.data, ScenesData):
        raise ConfigurationError(f"{checkpoint} was not trained on scenes.")
    require_scenes()
    from detr.training.scene_data import training_pictures

    return recipe, training_pictures(recipe, recipe.data, cache)


def shipped_records(folder: Path) -> list[Path]:
    """Return the records in a folder of records, by name.

    Raises:
        ConfigurationError: there are none.
    """
    found = sorted(path.parent for path in folder.glob(f"*/{RECORD_NAME}"))
    if not found:
        raise ConfigurationError(f"there are no records in {folder}.")
    return found


def rebuild(record: Path, bundle: Path | None = None) -> Bundle | None:
    """Export the record's weights again and compare digests.

    Args:
        record: folder of the record.
        bundle: where to put the bundle; None: compare it and throw it away.

    Returns:
        The bundle, when it was to be kept.

    Raises:
        ConfigurationError: the record is incomplete, or a digest is not the recorded one.
    """
    written = read_record(record)
    recipe = Recipe.model_validate(written["recipe"])
    digest = sha256_of(record / WEIGHTS_NAME)
    if digest != written["weights_sha256"]:
        raise ConfigurationError(
            f"{record / WEIGHTS_NAME} has sha256 {digest}; recorded is {written['weights_sha256']}."
        )
    model = _model(recipe, record / WEIGHTS_NAME)
    with tempfile.TemporaryDirectory() as temporary:
        out = bundle or Path(temporary) / recipe.name
        family = trained_family(recipe)
        exported = family.export(recipe, model, out, _labelling(recipe), overwrite=True).bundle
        exported = with_codecs(exported, CodecDefaults.model_validate(written["codec"]))
    if exported.digest != written["bundle_digest"]:
        raise ConfigurationError(
            f"the rebuilt bundle has digest {exported.digest}; recorded is "
            f"{written['bundle_digest']} (made with torch {written['torch']})."
        )
    return exported if bundle else None


def add_figures(
    released: Released, record: Path, name: str, folder: CocoFolder
) -> dict[str, dict[str, float]]:
    """Evaluate the model in torch and its exported halves, and add both to the record.

    Returns:
        The twelve COCO figures under `torch` and `onnx`.
    """
    recipe = released.recipe
    in_torch = trained_family(recipe).detector(recipe, released.model, scene_categories())
    figures = {
        "torch": evaluate(in_torch, folder),
        "onnx": evaluate(bundle_detector(released.bundle), folder),
    }
    released.record["figures"][name] = {
        engine: {key: round(value, 4) for key, value in values.items()}
        for engine, values in figures.items()
    }
    _write_record(record, released.record)
    return figures


def rounded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return matrices and kernels as fp16, vectors as they are.

    Running variances may be smaller than fp16 can hold, and vectors take hardly any room.
    """
    return {
        name: (value.half() if value.dim() > 1 else value).contiguous()
        for name, value in state.items()
    }


def _model(recipe: Recipe, weights: Path) -> nn.Module:
    state = {
        name: value.float() if value.is_floating_point() else value
        for name, value in load_file(weights).items()
    }
    return trained_family(recipe).with_weights(recipe, state)


def _former_release(recipe: Recipe, metrics: bytes) -> _Former | None:
    """Return what a run started from, if that was a release.

    Args:
        recipe: of the run; its record may be the very folder that is released into.
        metrics: of the run; they tell whether the folder holds this run's release already.
    """
    if not isinstance(recipe.start, FromRecord) or recipe.start.folder is None:
        return None
    folder = recipe.start.folder
    content = read_record(folder)
    its_metrics = (folder / METRICS_NAME).read_bytes()
    if its_metrics == metrics:
        return _Former(content["started_from"], (folder / FORMER_METRICS_NAME).read_bytes())
    kept = {key: value for key, value in content.items() if key not in _NOT_KEPT}
    # Two runs keep their metrics; of those before them the record tells the rest.
    kept.get("started_from", {}).pop("metrics", None)
    return _Former({**kept, "metrics": FORMER_METRICS_NAME}, its_metrics)


def _labelling(recipe: Recipe) -> Labelling:
    require_scenes()
    from detr.training.scene_data import artwork_credits

    artwork = artwork_credits()
    origin = f"trained from scratch by recipe {recipe.name} on scenes composed of {artwork} "
    if isinstance(recipe.start, FromRecord):
        start = recipe.name if recipe.start.folder is None else recipe.start.folder.name
        origin = f"trained further from the released {start} on scenes composed of {artwork} "
    if recipe.distillation is not None:
        teacher = recipe.distillation.teacher
        origin = (
            f"distilled from {teacher.name} by the method {recipe.distillation.method} on scenes "
            f"composed of {artwork} "
        )
    return Labelling(
        categories=scene_categories(),
        license="Apache-2.0",
        origin=f"{origin}and the photographs listed in NOTICE",
    )


def _write_record(folder: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2) + "\n"
    (folder / RECORD_NAME).write_text(text, encoding="utf-8")


def measured_codecs(bundle: Bundle, pictures: Pictures) -> CodecDefaults:
    """Calibrate the codecs whose ranges have to be measured.

    Args:
        bundle: the exported model.
        pictures: such as the model was trained on; the first `CALIBRATION_FRAMES` are taken.

    Raises:
        ConfigurationError: the backbone is missing or is not the one that was exported.
    """
    manifest = bundle.manifest
    backbone = load_engine("onnxruntime", bundle.onnx_path(Stage.BACKBONE), 0)
    statistics = CutStatistics(manifest)
    try:
        for picture in itertools.islice(pictures, CALIBRATION_FRAMES):
            pixels, geometry = preprocess(picture, manifest.input, manifest.normalization)
            features = backbone.run({"pixels": pixels})
            statistics.add(without_padding(manifest, features, geometry))
    finally:
        backbone.close()
    return CodecDefaults(default=_DEFAULT_CODEC.value, calibration=statistics.calibration())


def with_codecs(bundle: Bundle, codecs: CodecDefaults) -> Bundle:
    """Write them into the bundle's manifest, whose digest changes."""
    return write_bundle(bundle.folder, bundle.manifest.model_copy(update={"codec": codecs}))
