"""The demo clip: ten seconds of moving, growing and crossing objects with known boxes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from common.domain.errors import ConfigurationError
from scenes.artwork import Artwork, Icon, load_artwork
from scenes.backgrounds import read_photograph
from scenes.categories import CATEGORIES
from scenes.clip_folder import write_clip_folder
from scenes.compositor import Pose, Scene, SceneObject, paste, turned_patch

WIDTH, HEIGHT = 480, 360  # pixels
FRAMES_PER_SHOT = 80

# Only Apache-2.0 and MIT artwork, so that the clip can be shared without conditions.
_SETS = ("noto", "fluent-emoji", "fluent-emoji-flat")


@dataclass(frozen=True)
class Place:
    """Centre and long side, in pixels of the frame."""

    x: float
    y: float
    long_side: float


@dataclass(frozen=True)
class Actor:
    """An object that moves evenly from one place to another, bobbing a little.

    Attributes:
        category: name of its category.
        icon: set and name of its icon, as `set/name`.
        start: where it is in the shot's first frame.
        end: where it is in the shot's last frame.
        mirrored: left and right exchanged.
        bob: how far it moves up and down, in pixels.
    """

    category: str
    icon: str
    start: Place
    end: Place
    mirrored: bool = False
    bob: float = 0.0


@dataclass(frozen=True)
class Shot:
    """A background photograph that the camera pans over, and its actors from back to front."""

    photograph: str
    tint: tuple[float, float, float]
    actors: tuple[Actor, ...]


SHOTS: tuple[Shot, ...] = (
    Shot(
        "rocket.jpg",
        (1.0, 1.0, 1.0),
        (
            Actor("airplane", "noto/airplane", Place(75, 180, 100), Place(335, 95, 160)),
            Actor("bird", "fluent-emoji/parrot", Place(400, 65, 100), Place(80, 70, 115), True, 4),
            Actor("boat", "noto/sailboat", Place(95, 285, 110), Place(200, 275, 130), False, 4),
            Actor("person", "noto/construction-worker", Place(430, 270, 140), Place(320, 270, 155)),
        ),
    ),
    Shot(
        "grass.png",
        (0.75, 1.1, 0.55),
        (
            Actor("horse", "noto/horse", Place(390, 100, 130), Place(110, 105, 160), False, 5),
            Actor(
                "cat", "fluent-emoji/black-cat", Place(85, 115, 110), Place(225, 265, 125), False, 3
            ),
            Actor("dog", "noto/dog", Place(400, 285, 130), Place(350, 285, 110), False, 5),
            Actor("person", "noto/man-running", Place(90, 265, 150), Place(410, 130, 120)),
        ),
    ),
    Shot(
        "brick.png",
        (1.0, 1.0, 1.0),
        (
            Actor("bus", "noto/bus", Place(370, 95, 110), Place(300, 110, 180)),
            Actor("car", "noto/automobile", Place(390, 300, 130), Place(110, 305, 130), False, 2),
            Actor("bicycle", "noto/bicycle", Place(85, 110, 100), Place(130, 95, 130), True, 3),
            Actor("person", "noto/police-officer", Place(90, 235, 110), Place(390, 250, 120)),
        ),
    ),
)


def clip_scenes(cache: Path) -> Iterator[Scene]:
    """Return every frame of the clip with its boxes.

    Raises:
        ConfigurationError: artwork or a photograph was not fetched.
    """
    artwork = load_artwork(cache, _SETS)
    for shot in SHOTS:
        photograph = _tinted(read_photograph(cache, shot.photograph), shot.tint)
        icons = [_find_icon(artwork, actor) for actor in shot.actors]
        for index in range(FRAMES_PER_SHOT):
            yield _frame(shot, icons, photograph, index / (FRAMES_PER_SHOT - 1))


def write_clip(cache: Path, folder: Path) -> tuple[Path, Path]:
    """Write `clip.mp4` (H.264) and `annotations.json` (COCO; image id = frame number from 0).

    Returns:
        Both paths.
    """
    options = {"crf": "20", "preset": "slow"}
    return write_clip_folder(clip_scenes(cache), folder, "Tandem demo clip", options)


def _frame(shot: Shot, icons: list[Icon], photograph: NDArray[np.uint8], time: float) -> Scene:
    canvas = _pan(photograph, time)
    objects = []
    for actor, icon in zip(shot.actors, icons, strict=True):
        place = _at(actor, time)
        angle = 4.0 * math.sin(2 * math.pi * (2 * time + actor.start.x / WIDTH))
        patch = turned_patch(icon, Pose(place.long_side, angle, mirrored=actor.mirrored))
        left = round(place.x - patch.shape[1] / 2)
        top = round(place.y - patch.shape[0] / 2)
        box = paste(canvas, patch, left, top)
        if box is not None:
            objects.append(SceneObject(_class_index(actor.category), box))
    return Scene(canvas, tuple(objects))


def _at(actor: Actor, time: float) -> Place:
    """Return where `actor` is at `time` (0..1 of its shot)."""
    start, end = actor.start, actor.end
    bob = actor.bob * math.sin(2 * math.pi * 3 * time)
    return Place(
        x=start.x + (end.x - start.x) * time,
        y=start.y + (end.y - start.y) * time + bob,
        long_side=start.long_side * (end.long_side / start.long_side) ** time,
    )


def _pan(photograph: NDArray[np.uint8], time: float) -> NDArray[np.uint8]:
    """Return the part of the photograph that the camera sees, moving right over 12 % of it."""
    height, width = photograph.shape[:2]
    seen_width = 0.88 * min(width, height * WIDTH / HEIGHT)
    size = (round(seen_width), round(seen_width * HEIGHT / WIDTH))
    centre = (seen_width / 2 + time * (width - seen_width) * 0.5, height / 2)
    seen = cv2.getRectSubPix(photograph, size, centre)
    return np.asarray(cv2.resize(seen, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR), np.uint8)


def _tinted(photograph: NDArray[np.uint8], tint: tuple[float, float, float]) -> NDArray[np.uint8]:
    tinted = np.clip(photograph * np.array(tint), 0, 255)
    return np.asarray(tinted, np.uint8)


def _find_icon(artwork: Artwork, actor: Actor) -> Icon:
    artwork_set, name = actor.icon.split("/")
    for icon in artwork.icons[_class_index(actor.category)]:
        if (icon.artwork_set, icon.name) == (artwork_set, name):
            return icon
    raise ConfigurationError(f"no {actor.category} icon {actor.icon} in the artwork.")


def _class_index(category: str) -> int:
    return [known.name for known in CATEGORIES].index(category)
