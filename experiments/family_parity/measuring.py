"""One published size: exported, served and compared with transformers."""

from __future__ import annotations

import resource
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from common.bundle import Bundle, ShortestEdgeInput
from common.domain.placement import Stage
from common.vision.preprocess import preprocess
from detr.errors import ExportError
from detr.families.base import SplitModel
from detr.families.graphs import with_position
from detr.families.importing import DISCRETE_SAMPLING
from detr.families.proposals import Halves, detect, detect_with
from experiments.family_parity.discrete import difference_from_default
from experiments.family_parity.subjects import subject_of
from tandem import DetectorClient
from tandem.cluster import ClusterOptions, LocalCluster

Row = tuple[Any, float, list[float]]
"""Category, score, and box: x_min, y_min, x_max, y_max in pixels."""
_TOP = 100
# Between the logits of two detections; engines differ by less than that.
_LEAST_GAP = 2e-5
_MOST_FRAMES = 40
# A frame of this size is resized to DETR's own 800 x 1066.
_DETR_FRAME = (480, 640)
_PACKAGES = ("torch", "transformers", "onnxruntime")


async def measure(name: str, sampling: str | None = None) -> dict[str, Any]:
    """Measure one size.

    Args:
        name: of the size, one of `experiments.family_parity.subjects.NAMES`.
        sampling: `default` or `discrete`; None: as published.

    Returns:
        The row, by column.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        subject = subject_of(name, Path(temporary), sampling)
        split, bundle = subject.split, subject.bundle
        rgb, expected = _stable_frame(split, bundle)
        served = await _served(bundle, rgb)
        return {
            "model": name,
            "sampling": sampling,
            "parameters": sum(each.numel() for each in split.whole.parameters()),
            "input": bundle.manifest.input.model_dump(),
            "cut": [tensor.model_dump() for tensor in split.cut],
            "opset": split.opset.model_dump(),
            "file_bytes": {stage.value: bundle.onnx_path(stage).stat().st_size for stage in Stage},
            "operators": {stage.value: _operators(bundle, stage) for stage in Stage},
            "halves_difference": subject.difference,
            **_discrete(name, sampling, split),
            **_compare(served, expected),
            "day": datetime.now(UTC).date().isoformat(),
            "versions": {name: version(name) for name in _PACKAGES},
            "peak_gib": round(_peak_bytes() / 2**30, 1),
            "seconds": round(time.monotonic() - began, 1),
        }


def _discrete(name: str, sampling: str | None, split: SplitModel) -> dict[str, Any]:
    if sampling != DISCRETE_SAMPLING:
        return {}
    return {"from_default": difference_from_default(name, split)}


def _stable_frame(split: SplitModel, bundle: Bundle) -> tuple[NDArray[np.uint8], list[Row]]:
    """Find a frame at which rounding decides nothing, and what transformers makes of it."""
    manifest = bundle.manifest
    policy = manifest.input
    size = _DETR_FRAME if isinstance(policy, ShortestEdgeInput) else (policy.height, policy.width)
    halves = Halves(*(bundle.onnx_path(stage) for stage in Stage))
    for seed in range(_MOST_FRAMES):
        rgb = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
        pixels, _ = preprocess(rgb, policy, manifest.normalization)
        padding = np.zeros((1, *pixels.shape[2:]), bool)
        found = halves.detect(with_position(split, halves.levels(pixels), padding))
        outputs, own = detect(split.whole, pixels, padding)
        if not _are_same(split.family, found.proposals, own):
            continue
        if found.cells:
            # At no frame does rounding decide none of so many.
            outputs, _ = detect_with(split.whole, pixels, padding, found)
        names = {each.class_index: each.name for each in manifest.categories}
        # Rows of the class head that stand for nothing are never reported.
        rows = [row for row in _post_process(split.family, outputs, size) if row[0] in names]
        if _is_ordered(rows):
            return rgb, [(names[row], score, box) for row, score, box in rows]
    raise ExportError(f"none of {_MOST_FRAMES} frames is stable")


def _are_same(family: str, one: NDArray[np.int64] | None, other: NDArray[np.int64] | None) -> bool:
    """Whether these are the same proposals, so that the decoder says the same of them.

    Their order matters to RF-DETR alone, whose queries are learned rank by rank.
    """
    if one is None or other is None:
        return one is other
    if family == "rf_detr":
        return np.array_equal(one, other)
    return np.array_equal(np.sort(one), np.sort(other))


def _is_ordered(rows: list[Row]) -> bool:
    """Whether the best scores are further apart than rounding moves them."""
    logits = _logit([score for _, score, _ in rows[: _TOP + 1]])
    return bool((np.diff(-logits) > _LEAST_GAP).all())


def _post_process(
    family: str, outputs: Sequence[NDArray[np.float32]], size: tuple[int, int]
) -> list[Row]:
    """Apply transformers' own; rows of class, score and box, best first."""
    from transformers.models.conditional_detr import image_processing_pil_conditional_detr
    from transformers.models.detr import image_processing_pil_detr
    from transformers.models.rt_detr import image_processing_pil_rt_detr

    processors: dict[str, Any] = {
        "detr": image_processing_pil_detr.DetrImageProcessorPil,
        "conditional_detr": image_processing_pil_conditional_detr.ConditionalDetrImageProcessorPil,
    }
    # RF-DETR's own computes the same as RT-DETR's, and imports torchvision.
    processor = processors.get(family, image_processing_pil_rt_detr.RTDetrImageProcessorPil)()
    logits, boxes = map(torch.from_numpy, outputs)
    (found,) = processor.post_process_object_detection(
        SimpleNamespace(logits=logits, pred_boxes=boxes), threshold=0.0, target_sizes=[size]
    )
    parts = (found[name].tolist() for name in ("labels", "scores", "boxes"))
    # DETR's are in the order of the queries.
    return sorted(zip(*parts, strict=True), key=lambda row: -row[1])


async def _served(bundle: Bundle, rgb: NDArray[np.uint8]) -> list[Row]:
    """What the running services detect."""
    options = ClusterOptions(bundle.folder)
    async with (
        LocalCluster(options) as cluster,
        DetectorClient(cluster.orchestrator.address) as client,
    ):
        results = [
            result
            async for result in client.detect(
                [rgb], placement="backbone", codec="fp32", score_threshold=0.0
            )
        ]
    (result,) = results
    if result.error is not None:
        raise ExportError(f"the services answered: {result.error}")
    return [
        (
            each.category_name,
            each.score,
            [each.box.x_min, each.box.y_min, each.box.x_max, each.box.y_max],
        )
        for each in result.detections
    ]


def _compare(served: list[Row], expected: list[Row]) -> dict[str, Any]:
    """Hold the best of both lists against each other, one by one."""
    count = min(_TOP, len(expected))
    pairs = list(zip(served[:count], expected[:count], strict=True))
    return {
        "compared": count,
        "same_order": all(one[0] == other[0] for one, other in pairs),
        "logit_difference": float(
            np.abs(_logit([a[1] for a, _ in pairs]) - _logit([b[1] for _, b in pairs])).max()
        ),
        "box_difference_pixels": float(
            np.abs(np.array([a[2] for a, _ in pairs]) - np.array([b[2] for _, b in pairs])).max()
        ),
    }


def _peak_bytes() -> int:
    """Most memory that this process has held so far, other sizes before this one included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _logit(scores: Sequence[float]) -> NDArray[np.float64]:
    values = np.array(scores, np.float64)
    return np.log(values / (1 - values))


def _operators(bundle: Bundle, stage: Stage) -> dict[str, int]:
    graph = onnx.load(str(bundle.onnx_path(stage))).graph
    return dict(sorted(Counter(node.op_type for node in graph.node).items()))
