"""One published size: exported, served and compared with transformers."""

from __future__ import annotations

import resource
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from common.bundle import Bundle
from common.domain.placement import Stage
from detr.errors import ExportError
from detr.families.base import SplitModel
from detr.families.importing import DISCRETE_SAMPLING
from detr.families.proposals import Halves
from experiments.family_parity.discrete import difference_from_default
from experiments.family_parity.frames import TOP, Row, logit, stable_frame
from experiments.family_parity.subjects import subject_of
from tandem import DetectorClient
from tandem.cluster import ClusterOptions, LocalCluster

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
        halves = Halves(*(bundle.onnx_path(stage) for stage in Stage))
        names = {each.class_index: each.name for each in bundle.manifest.categories}
        frame = stable_frame(split, halves, names)
        served = await _served(bundle, frame.rgb)
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
            "frame_seed": frame.seed,
            **_compare(served, frame.expected),
            "day": datetime.now(UTC).date().isoformat(),
            "versions": {name: version(name) for name in _PACKAGES},
            "peak_gib": round(_peak_bytes() / 2**30, 1),
            "seconds": round(time.monotonic() - began, 1),
        }


def _discrete(name: str, sampling: str | None, split: SplitModel) -> dict[str, Any]:
    if sampling != DISCRETE_SAMPLING:
        return {}
    return {"from_default": difference_from_default(name, split)}


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
    count = min(TOP, len(expected))
    pairs = list(zip(served[:count], expected[:count], strict=True))
    return {
        "compared": count,
        "same_order": all(one[0] == other[0] for one, other in pairs),
        "logit_difference": float(
            np.abs(logit([a[1] for a, _ in pairs]) - logit([b[1] for _, b in pairs])).max()
        ),
        "box_difference_pixels": float(
            np.abs(np.array([a[2] for a, _ in pairs]) - np.array([b[2] for _, b in pairs])).max()
        ),
    }


def _peak_bytes() -> int:
    """Most memory that this process has held so far, other sizes before this one included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _operators(bundle: Bundle, stage: Stage) -> dict[str, int]:
    graph = onnx.load(str(bundle.onnx_path(stage))).graph
    return dict(sorted(Counter(node.op_type for node in graph.node).items()))
