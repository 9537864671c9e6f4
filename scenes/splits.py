"""Seeded splits: which artwork, photographs and seeds each set of scenes uses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.domain.errors import ConfigurationError
from common.vision.resize import resize_bilinear
from scenes.artwork import Artwork, load_artwork, training_sets, unseen_sets
from scenes.backgrounds import Photographs, load_photographs
from scenes.compositor import Scene, SceneObject, SceneSettings, draw_scene
from scenes.fetch import require_cache
from scenes.sources import SceneSplit

SPLIT_SEEDS: dict[SceneSplit, int] = {"train": 1, "val": 2, "unseen": 3}

REDUCTION = 2.5
"""A 480 x 360 camera frame is this much larger than a 192 x 144 input."""

_ASPECTS = (0.6, 1.9)  # width over height of scenes of another shape


@dataclass(frozen=True)
class SceneSource:
    """The endless, indexed scenes of one split: scene i depends on seed, split and i alone."""

    split: SceneSplit
    seed: int
    artwork: Artwork
    photographs: Photographs
    settings: SceneSettings = SceneSettings()

    def scene(self, index: int, height: int, width: int) -> Scene:
        """Return scene `index` at height x width pixels."""
        return self._drawn(self._generator(index), height, width)

    def varied_scene(
        self,
        index: int,
        height: int,
        width: int,
        *,
        other_aspect_share: float,
        reduced_share: float,
    ) -> Scene:
        """Return scene `index`, at most height x width pixels.

        Args:
            index: of the scene.
            height: of the frame, pixels.
            width: of the frame, pixels.
            other_aspect_share: how often it has another shape, still fitting into the frame.
            reduced_share: how often it is drawn larger and scaled down as camera frames are.
        """
        rng = self._generator(index)
        if rng.random() < other_aspect_share:
            aspect = math.exp(rng.uniform(*np.log(_ASPECTS)))
            height, width = min(height, round(width / aspect)), min(width, round(height * aspect))
        if rng.random() >= reduced_share:
            return self._drawn(rng, height, width)
        large = self._drawn(rng, round(height * REDUCTION), round(width * REDUCTION))
        return reduced(large, height, width)

    def _drawn(self, rng: np.random.Generator, height: int, width: int) -> Scene:
        return draw_scene(
            rng, self.artwork, self.photographs, self.settings, height=height, width=width
        )

    def _generator(self, index: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, SPLIT_SEEDS[self.split], index])


def open_split(
    cache: Path, split: SceneSplit, seed: int, settings: SceneSettings | None = None
) -> SceneSource:
    """Load what the scenes of `split` are made of.

    Raises:
        ConfigurationError: artwork or photographs were not fetched.
    """
    require_cache(cache)
    sets = unseen_sets() if split == "unseen" else training_sets()
    return SceneSource(
        split=split,
        seed=seed,
        artwork=load_artwork(cache, sets),
        photographs=load_photographs(cache, split),
        settings=settings or SceneSettings(),
    )


def reduced(scene: Scene, height: int, width: int) -> Scene:
    """Return `scene` scaled to height x width pixels by the resize that inference uses.

    Raises:
        ConfigurationError: the sizes are not positive.
    """
    if height <= 0 or width <= 0:
        raise ConfigurationError("a scene's height and width must be positive.")
    vertical, horizontal = height / scene.pixels.shape[0], width / scene.pixels.shape[1]
    objects = tuple(
        SceneObject(
            target.class_index,
            (
                target.box[0] * horizontal,
                target.box[1] * vertical,
                target.box[2] * horizontal,
                target.box[3] * vertical,
            ),
        )
        for target in scene.objects
    )
    return Scene(resize_bilinear(scene.pixels, height, width), objects)
