"""Models and frames to measure with: real sizes, seeded random weights, pictures of the clip."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch

from common.bundle import (
    Architecture,
    Bundle,
    CodecDefaults,
    FixedInput,
    load_bundle,
    write_bundle,
)
from common.codec.feature_statistics import FeatureStatistics
from common.domain.placement import Stage
from common.engines.registry import load_engine
from common.vision.decode import decode_image
from detr.coco.categories import CLASSES, COCO_CATEGORIES
from detr.export import Description, export_bundle
from detr.model import DETR
from tandem.shipped import shipped_clip
from tandem.sources import open_source

DEFAULT_FOLDER = Path(tempfile.gettempdir()) / "tandem-benchmarks"
_SEED = 20200526
_FRAMES = 30
_JPEG_QUALITY = 90
_MAX_PIXELS = 1 << 24
_CALIBRATION_SIZE = (800, 1088)


@dataclass(frozen=True)
class Workload:
    """A model at one input size, and frames of that size.

    Attributes:
        backbone: of the DETR; full width, 6 + 6 layers.
        height: of input and frames, pixels.
        width: of input and frames, pixels.
        split: where the model is cut.
    """

    backbone: Literal["resnet18", "resnet50"]
    height: int
    width: int
    split: Literal["projected", "c5"] = "projected"

    @property
    def name(self) -> str:
        """As people call it."""
        split = "" if self.split == "projected" else " cut at C5"
        return f"{self.backbone.replace('resnet', 'R')}{split} {self.height}x{self.width}"

    def bundle(self, folder: Path) -> Path:
        """The model's bundle below `folder`; exported the first time."""
        out = folder / self.name.replace(" ", "-").lower()
        if not (out / "bundle.json").is_file():
            architecture = Architecture(backbone=self.backbone, classes=CLASSES)
            input_size = FixedInput(height=self.height, width=self.width)
            export_random(self.name, architecture, input_size, out, self.split)
        return out

    def frames(self, folder: Path) -> Path:
        """Folder of JPEG files below `folder`; written the first time."""
        out = folder / f"frames-{self.height}x{self.width}"
        if not out.is_dir():
            unfinished = out.with_suffix(".new")
            unfinished.mkdir(parents=True, exist_ok=True)
            self._write_frames(unfinished)
            unfinished.rename(out)
        return out

    def _write_frames(self, folder: Path) -> None:
        with closing(open_source(str(shipped_clip()))) as source:
            images = [frame.image for frame in source]
        for index, image in enumerate(images[:: len(images) // _FRAMES]):
            rgb = decode_image(image, _MAX_PIXELS)
            size = (self.width, self.height)
            bgr = cv2.cvtColor(cv2.resize(rgb, size), cv2.COLOR_RGB2BGR)
            path = folder / f"{index:03}.jpg"
            cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def export_random(
    name: str,
    architecture: Architecture,
    input_size: FixedInput,
    out: Path,
    split: Literal["projected", "c5"] = "projected",
) -> None:
    """Export a DETR with seeded random weights for COCO's classes; calibrate it for every codec.

    Args:
        name: what the bundle calls itself.
        architecture: of the model.
        input_size: the bundle's input policy.
        out: the bundle's folder, which must not exist.
        split: where the model is cut.
    """
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        model = DETR(architecture)
    description = Description(
        name=name,
        input=input_size,
        categories=COCO_CATEGORIES,
        license="Apache-2.0",
        origin=f"random weights, seed {_SEED}, for benchmarks",
        trained=False,
    )
    export_bundle(model.eval(), out, description, split=split)
    _calibrate(load_bundle(out))


def _calibrate(bundle: Bundle) -> None:
    """Let q6 to q2 encode what the engine `none` gives: normal numbers.

    A trained model's features have heavier tails; their bytes are a little fewer.
    """
    height, width = _CALIBRATION_SIZE
    engine = load_engine("none", bundle.onnx_path(Stage.BACKBONE), 1)
    statistics = FeatureStatistics()
    statistics.add(
        engine.run({"pixels": np.zeros((1, 3, height, width), np.float32)})["features"][0]
    )
    codec = CodecDefaults(default="int8", calibration=statistics.calibration())
    write_bundle(bundle.folder, bundle.manifest.model_copy(update={"codec": codec}))


R18 = Workload("resnet18", 480, 640)
R50 = Workload("resnet50", 800, 1066)
R50_C5 = Workload("resnet50", 800, 1066, split="c5")
