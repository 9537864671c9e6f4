"""Scenes as training samples, composed as they are asked for."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from common.bundle import FixedInput, InputPolicy, Normalization
from common.domain.errors import ConfigurationError
from common.vision.preprocess import preprocess
from detr.training.targets import Sample
from scenes.compositor import Scene
from scenes.splits import SceneSource


@dataclass(frozen=True)
class SceneDataset(Dataset[Sample]):
    """Sample i is made of scene i, by the preprocessing that inference uses.

    Attributes:
        source: the scenes.
        policy: the model's input; of fixed size.
        normalization: the model's mean and standard deviation.
        other_aspect_share: see `SceneSource.varied_scene`.
        reduced_share: see `SceneSource.varied_scene`.
        early_samples: how many of the first samples are smaller.
        early_scale: how large these are.
        first_scene: sample 0 is made of this one.
    """

    source: SceneSource
    policy: InputPolicy
    normalization: Normalization
    other_aspect_share: float = 0.0
    reduced_share: float = 0.0
    early_samples: int = 0
    early_scale: float = 1.0
    first_scene: int = 0

    def __getitem__(self, index: int) -> Sample:
        """Compose and preprocess the scene of sample `index`.

        Raises:
            ConfigurationError: the input is not of fixed size.
        """
        if not isinstance(self.policy, FixedInput):
            raise ConfigurationError("scenes are composed for an input of fixed size.")
        # Worker processes are the parallelism; OpenCV's own threads would only fight them.
        cv2.setNumThreads(0)
        scale = self.early_scale if index < self.early_samples else 1.0
        policy = FixedInput(
            height=round(self.policy.height * scale), width=round(self.policy.width * scale)
        )
        scene = self.source.varied_scene(
            self.first_scene + index,
            policy.height,
            policy.width,
            other_aspect_share=self.other_aspect_share,
            reduced_share=self.reduced_share,
        )
        return scene_sample(scene, policy, self.normalization)


def scene_sample(scene: Scene, policy: InputPolicy, normalization: Normalization) -> Sample:
    """Preprocess a scene for the model."""
    pixels, geometry = preprocess(scene.pixels, policy, normalization)
    height, width = scene.pixels.shape[:2]
    corners = np.array([target.box for target in scene.objects], np.float32).reshape(-1, 4)
    corners /= np.array([width, height, width, height], np.float32)
    boxes = np.concatenate(
        [(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1
    )
    return Sample(
        image=torch.from_numpy(pixels[0]),
        valid_size=(geometry.valid_height, geometry.valid_width),
        classes=torch.tensor([target.class_index for target in scene.objects], dtype=torch.int64),
        boxes=torch.from_numpy(boxes),
    )
