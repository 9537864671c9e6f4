"""Statistics of all the tensors that cross a bundle's cut, as the calibrated codecs need them."""

from __future__ import annotations

from typing import Dict, Mapping

import numpy as np

from common.bundle import Calibration, Manifest
from common.codec.feature_statistics import FeatureStatistics, joint_calibration
from common.domain.frames import FrameGeometry


def without_padding(
    manifest: Manifest, outputs: Mapping[str, np.ndarray], geometry: FrameGeometry
) -> Dict[str, np.ndarray]:
    """The cells that see the picture, of one frame's features.

    Args:
        manifest: of the bundle.
        outputs: of the backbone half, float32 [1,channels,rows,columns] by name.
        geometry: the frame's sizes.

    Returns:
        Views of the tensors that cross the cut, by name.
    """
    seen = {}
    for tensor in manifest.cut:
        rows, columns = tensor.grid(geometry.valid_height, geometry.valid_width)
        seen[tensor.name] = outputs[tensor.name][:, :, :rows, :columns]
    return seen


class CutStatistics:
    """Statistics of each tensor of a bundle's features, over frames given one by one."""

    def __init__(self, manifest: Manifest) -> None:
        """Start with no frames.

        Args:
            manifest: of the bundle.
        """
        self._tensors = {tensor.name: FeatureStatistics() for tensor in manifest.cut}

    def add(self, features: Mapping[str, np.ndarray]) -> None:
        """Add one frame.

        Args:
            features: float32 [1,channels,rows,columns] by name, without padding.

        Raises:
            InvalidInputError: see `FeatureStatistics.add`.
        """
        for name, statistics in self._tensors.items():
            statistics.add(features[name][0])

    def calibration(self) -> Calibration:
        """Summarise all frames; raises as `joint_calibration` does."""
        return joint_calibration(tuple(self._tensors.values()))
