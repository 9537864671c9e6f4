"""Scenes as training samples, composed as they are asked for, and as pictures to evaluate on.

The only module of `detr` that imports `scenes`, which an installed package leaves out. Import it
where a recipe's data are scenes, after `detr.training.data.require_scenes`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from common.bundle import Category, FixedInput, InputPolicy, Normalization, StretchInput
from common.domain.errors import ConfigurationError
from common.vision.preprocess import preprocess
from detr.coco.folder import CocoFolder, open_coco
from detr.training.batches import Sample
from detr.training.recipe import Recipe, ScenesData
from scenes.categories import CATEGORIES
from scenes.coco_format import export_coco
from scenes.compositor import Scene, SceneSettings
from scenes.fetch import DEFAULT_CACHE, fetch_all
from scenes.sources import ARTWORK_SETS, SceneSplit
from scenes.splits import SceneSource, open_split

COARSEST_STRIDE = 32
"""Stretched inputs of early steps are multiples of this, pixels."""


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
        aspect: width over height of the scenes, where the input is stretched.
    """

    source: SceneSource
    policy: InputPolicy
    normalization: Normalization
    other_aspect_share: float = 0.0
    reduced_share: float = 0.0
    early_samples: int = 0
    early_scale: float = 1.0
    first_scene: int = 0
    aspect: float = 4 / 3

    def __getitem__(self, index: int) -> Sample:
        """Compose and preprocess the scene of sample `index`.

        Raises:
            ConfigurationError: the input is not of fixed size.
        """
        # Worker processes are the parallelism; OpenCV's own threads would only fight them.
        cv2.setNumThreads(0)
        scale = self.early_scale if index < self.early_samples else 1.0
        policy, height, width = _sizes(self.policy, scale, self.aspect)
        scene = self.source.varied_scene(
            self.first_scene + index,
            height,
            width,
            other_aspect_share=self.other_aspect_share,
            reduced_share=self.reduced_share,
        )
        return scene_sample(scene, policy, self.normalization)


def _sizes(policy: InputPolicy, scale: float, aspect: float) -> tuple[InputPolicy, int, int]:
    """Return the input at a share of its size, and height and width of the scenes for it.

    Raises:
        ConfigurationError: the input is not of one size.
    """
    if isinstance(policy, StretchInput):
        height, width = (
            max(1, round(side * scale / COARSEST_STRIDE)) * COARSEST_STRIDE if scale < 1 else side
            for side in (policy.height, policy.width)
        )
        return StretchInput(height=height, width=width), height, round(height * aspect)
    if isinstance(policy, FixedInput):
        height, width = round(policy.height * scale), round(policy.width * scale)
        return FixedInput(height=height, width=width), height, width
    raise ConfigurationError("scenes are composed for an input of fixed size.")


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


def fetch_scenes(cache: Path | None, report: Callable[[str], None]) -> None:
    """Fetch artwork and photographs that are not in the cache yet; errors as `fetch_all`.

    Args:
        cache: their folder; None: the default one.
        report: is told what is fetched.
    """
    fetch_all(cache or DEFAULT_CACHE, report)


def categories() -> tuple[Category, ...]:
    """Return the scenes' categories; the rows of the class head have no gaps."""
    return tuple(
        Category(class_index=index, id=category.id, name=category.name)
        for index, category in enumerate(CATEGORIES)
    )


def artwork_credits() -> str:
    """Return the artwork that training scenes are made of, with its licences."""
    return ", ".join(f"{each.name} ({each.license})" for each in ARTWORK_SETS if each.trained_on)


def scene_dataset(recipe: Recipe, data: ScenesData, cache: Path | None) -> SceneDataset:
    """Return the scenes that a recipe trains on.

    Raises:
        ConfigurationError: `cache` lacks something.
    """
    return SceneDataset(
        source=_opened(recipe, data, cache, "train"),
        policy=recipe.input,
        normalization=recipe.normalization,
        other_aspect_share=data.other_aspect_share,
        reduced_share=data.reduced_share,
        early_samples=data.early_steps * recipe.batch_size,
        early_scale=data.early_scale,
        first_scene=data.first_scene,
        aspect=data.val_width / data.val_height,
    )


def training_pictures(
    recipe: Recipe, data: ScenesData, cache: Path | None
) -> Iterator[NDArray[np.uint8]]:
    """Yield training scenes without end, at the size of evaluation; errors as `scene_dataset`."""
    source = _opened(recipe, data, cache, "train")
    for index in itertools.count():
        yield source.scene(index, data.val_height, data.val_width).pixels


def exported_split(
    recipe: Recipe, data: ScenesData, cache: Path | None, split: SceneSplit, workers: int
) -> CocoFolder:
    """Return the scenes of `split` as a COCO folder in the cache; workers write it if it is new.

    Raises:
        ConfigurationError: `cache` lacks something.
    """
    size = f"{data.val_width}x{data.val_height}"
    name = f"{split}-seed{recipe.seed}-{data.val_scenes}-{size}"
    folder = (cache or DEFAULT_CACHE) / "exported" / name
    if not (folder / "instances.json").exists():
        scenes = DataLoader(
            _Composed(
                _opened(recipe, data, cache, split),
                data.val_scenes,
                (data.val_height, data.val_width),
            ),
            batch_size=None,
            num_workers=workers,
            collate_fn=_unchanged,
        )
        export_coco(scenes, folder, f"Tandem scenes, split {split}, seed {recipe.seed}")
    return open_coco(folder / "images", folder / "instances.json")


def _opened(recipe: Recipe, data: ScenesData, cache: Path | None, split: SceneSplit) -> SceneSource:
    settings = SceneSettings(max_objects=data.max_objects)
    return open_split(cache or DEFAULT_CACHE, split, recipe.seed, settings)


@dataclass(frozen=True)
class _Composed(Dataset[Scene]):
    """The first scenes of a split."""

    source: SceneSource
    count: int
    size: tuple[int, int]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scene:
        cv2.setNumThreads(0)
        return self.source.scene(index, *self.size)


def _unchanged(scene: Any) -> Any:
    return scene
