"""Average precision of a model, in torch or exported, by pycocotools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.bundle import Bundle, Category, InputPolicy, Normalization, Scoring, SoftmaxScoring
from common.domain.detections import Detection, DetectionOptions
from common.domain.frames import FrameGeometry
from common.domain.placement import Stage
from common.engines.registry import load_engine
from common.vision.position import inputs_beside_cut
from common.vision.postprocess import detections
from common.vision.preprocess import preprocess
from detr.coco.average_precision import coco_figures
from detr.coco.folder import CocoFolder
from detr.training.processes import CPU

Predictor = Callable[
    [NDArray[np.float32], FrameGeometry], tuple[NDArray[np.float32], NDArray[np.float32]]
]
"""Preprocessed pixels [1,3,H,W] and their geometry to logits [Q,K+1] and boxes [Q,4]."""

_EVERYTHING = DetectionOptions(score_threshold=0.0, max_detections=0)


@dataclass(frozen=True)
class Detector:
    """A model with all that is needed to go from a picture to named boxes."""

    predict: Predictor
    policy: InputPolicy
    normalization: Normalization
    categories: tuple[Category, ...]
    scoring: Scoring = SoftmaxScoring()

    def detect(self, rgb: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """Return every query's opinion of a picture [H,W,3]."""
        pixels, geometry = preprocess(rgb, self.policy, self.normalization)
        logits, boxes = self.predict(pixels, geometry)
        return detections(
            logits, boxes, geometry, self.categories, _EVERYTHING, scoring=self.scoring
        )


def evaluate(detector: Detector, folder: CocoFolder, limit: int | None = None) -> dict[str, float]:
    """Return the twelve COCO figures of `detector` on the first `limit` pictures of `folder`.

    Pictures go through alone, since padding to a batch's size costs DETR precision.
    """
    pictures = folder.pictures[:limit]
    found = ((picture["id"], detector.detect(folder.read(picture))) for picture in pictures)
    return coco_figures(folder.instances, found, [picture["id"] for picture in pictures])


def torch_predictor(model: nn.Module, device: torch.device = CPU) -> Predictor:
    """Predict with a model in torch, which is put on a device and into evaluation mode.

    Args:
        model: called like `DETR`, with images and padding, and answers with a `DetrOutput`.
        device: where to compute.
    """
    model.to(device).eval()

    @torch.inference_mode()
    def predict(
        pixels: NDArray[np.float32], geometry: FrameGeometry
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        padding = torch.ones(1, geometry.input_height, geometry.input_width, dtype=torch.bool)
        padding[:, : geometry.valid_height, : geometry.valid_width] = False
        output = model(torch.from_numpy(pixels).to(device), padding.to(device))
        return output.logits[0].cpu().numpy(), output.boxes[0].cpu().numpy()

    return predict


def pixels_predictor(
    outputs: Callable[[Tensor], tuple[Tensor, Tensor]], device: torch.device = CPU
) -> Predictor:
    """Predict with a model whose input has no padding.

    Args:
        outputs: pixels [1,3,H,W] to logits [1,Q,K] and boxes [1,Q,4].
        device: where it computes.
    """

    @torch.inference_mode()
    def predict(
        pixels: NDArray[np.float32], geometry: FrameGeometry
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits, boxes = outputs(torch.from_numpy(pixels).to(device))
        return logits[0].cpu().numpy(), boxes[0].cpu().numpy()

    return predict


def bundle_predictor(bundle: Bundle, threads: int = 0) -> Predictor:
    """Predict with both halves of a bundle in ONNX Runtime, as the services run them.

    Raises:
        ConfigurationError: a half is missing or is not the one that was exported.
        EngineError: a half cannot be loaded.
    """
    backbone = load_engine("onnxruntime", bundle.onnx_path(Stage.BACKBONE), threads)
    transformer = load_engine("onnxruntime", bundle.onnx_path(Stage.TRANSFORMER), threads)

    def predict(
        pixels: NDArray[np.float32], geometry: FrameGeometry
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        features = backbone.run({"pixels": pixels})
        outputs = transformer.run({**features, **inputs_beside_cut(bundle.manifest, geometry)})
        return outputs["logits"][0], outputs["boxes"][0]

    return predict


def bundle_detector(bundle: Bundle, threads: int = 0) -> Detector:
    """Return a bundle's detector; errors as `bundle_predictor`."""
    manifest = bundle.manifest
    predict = bundle_predictor(bundle, threads)
    return Detector(
        predict, manifest.input, manifest.normalization, manifest.categories, manifest.scoring
    )
