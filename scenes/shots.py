"""Random shots: a camera that is still, pans, zooms or shakes, before still and moving objects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from scenes.artwork import Icon
from scenes.backgrounds import draw_background
from scenes.colours import recoloured
from scenes.compositor import (
    Box,
    Pose,
    Scene,
    SceneObject,
    SceneSettings,
    choose_icons,
    overlap,
    paste,
    placed_patch,
    random_pose,
)
from scenes.splits import SceneSource

WORLD = 1.5
"""A shot's background is this many times as wide and high as the frame."""

_PAN, _ZOOM, _SHAKE = 0.6, 0.35, 0.25  # how often the camera does each; it may do several
_PAN_SPEEDS = (0.0004, 0.008)  # frame widths a frame
_ZOOMS = (0.8, 1.3)  # of the last frame over the first
_STILL, _STOPPING = 0.4, 0.3  # of the objects; of those that move, how many stop on the way
_SPEEDS = (0.001, 0.012)  # frame widths a frame
_GROWTH = 1.35  # an object's size changes by at most this factor
_MAX_TRIES = 20
_MAX_OVERLAP = 0.4  # of the smaller of two boxes; moving objects may cross


@dataclass(frozen=True)
class Camera:
    """Which part of the background is seen; times run from 0 to 1 over a shot.

    Attributes:
        start: middle of the view in the first frame, in pixels of the background.
        end: in the last frame.
        zoom: the last frame's magnification over the first one's, which is 1.
        shake: how far it trembles, in pixels.
        phase: of the trembling.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    zoom: float
    shake: float
    phase: float

    def view(self, time: float, frame: int) -> tuple[float, float, float]:
        """Return the middle of the view in the background, and the magnification."""
        tremble = (
            math.sin(0.9 * frame + self.phase) + 0.6 * math.sin(2.3 * frame),
            math.cos(1.1 * frame + self.phase) + 0.6 * math.sin(1.9 * frame),
        )
        x, y = (
            first + (last - first) * time + self.shake * moved
            for first, last, moved in zip(self.start, self.end, tremble, strict=True)
        )
        return x, y, self.zoom**time


@dataclass(frozen=True)
class StillCamera:
    """A fixed camera.

    Attributes:
        still_share: of the objects before it, how many stand still all the time, 0 to 1.
    """

    still_share: float = _STILL


@dataclass(frozen=True)
class Mover:
    """An object of a shot.

    Attributes:
        icon: in the shot's colours.
        class_index: its row in `CATEGORIES`; None if it is of no category.
        pose: in the first frame.
        start: its middle in the first frame, pixels.
        end: its middle in the last frame; of an object that moves by itself.
        still: it stands in the background, so the camera alone moves it in the frame.
        stops: the time after which it stays where it is, in (0, 1].
        growth: the last frame's size over the first one's.
        swing: how far it turns to and fro, degrees.
    """

    icon: Icon
    class_index: int | None
    pose: Pose
    start: tuple[float, float]
    end: tuple[float, float]
    still: bool
    stops: float
    growth: float
    swing: float

    def drawn(
        self, camera: Camera, time: float, frame: int, size: tuple[int, int]
    ) -> tuple[Pose, float, float]:
        """Return its pose and middle in a frame of `size` (width, height)."""
        if self.still:
            x, y, zoom = camera.view(time, frame)
            x0, y0, _ = camera.view(0.0, 0)
            middle = ((size[0] - 1) / 2, (size[1] - 1) / 2)
            at = (
                middle[0] + (self.start[0] - middle[0] + x0 - x) * zoom,
                middle[1] + (self.start[1] - middle[1] + y0 - y) * zoom,
            )
            return self._posed(zoom, 0.0), *at
        done = min(1.0, time / self.stops)
        x = self.start[0] + (self.end[0] - self.start[0]) * done
        y = self.start[1] + (self.end[1] - self.start[1]) * done
        turn = self.swing * math.sin(0.35 * min(frame, frame * done / max(time, 1e-9)))
        return self._posed(self.growth**done, turn), x, y

    def _posed(self, scale: float, turn: float) -> Pose:
        return Pose(
            long_side=self.pose.long_side * scale,
            angle_degrees=self.pose.angle_degrees + turn,
            aspect=self.pose.aspect,
            mirrored=self.pose.mirrored,
        )


@dataclass(frozen=True)
class Shot:
    """A background, the camera's way over it, and its objects from back to front."""

    background: NDArray[np.uint8]
    camera: Camera
    movers: tuple[Mover, ...]
    frames: int

    def scenes(self, height: int, width: int) -> Iterator[Scene]:
        """Yield every frame, height x width pixels, with its boxes."""
        for frame in range(self.frames):
            time = frame / max(1, self.frames - 1)
            canvas = _seen(self.background, self.camera.view(time, frame), height, width)
            objects = []
            for mover in self.movers:
                pose, x, y = mover.drawn(self.camera, time, frame, (width, height))
                patch, corner = placed_patch(mover.icon, pose, x, y)
                box = paste(canvas, patch, *corner)
                if box is not None and mover.class_index is not None:
                    objects.append(SceneObject(mover.class_index, box))
            yield Scene(canvas, tuple(objects))


def random_shot(
    rng: np.random.Generator,
    source: SceneSource,
    frames: int,
    height: int,
    width: int,
    *,
    still: StillCamera | None = None,
) -> Shot:
    """Draw a shot of `frames` frames from the artwork and photographs of a split.

    Args:
        rng: random numbers.
        source: the split.
        frames: the shot's length.
        height: of the frames, pixels.
        width: likewise.
        still: of a camera that is fixed; None: of any camera.
    """
    size = (width, height)
    background = draw_background(
        rng, source.photographs, round(height * WORLD), round(width * WORLD)
    )
    camera = _random_camera(rng, frames, size)
    if still is not None:
        camera = replace(camera, end=camera.start, zoom=1.0, shake=0.0)
    still_share = _STILL if still is None else still.still_share
    movers: list[Mover] = []
    for chosen in choose_icons(rng, source.artwork, source.settings):
        for _ in range(_MAX_TRIES):
            mover = _random_mover(
                rng, source.settings, chosen, frames, size, still_share=still_share
            )
            if _fits(mover, movers, camera, frames, size):
                movers.append(mover)
                break
    return Shot(background, camera, tuple(movers), frames)


def _random_camera(rng: np.random.Generator, frames: int, size: tuple[int, int]) -> Camera:
    zoom = math.exp(rng.uniform(*np.log(_ZOOMS))) if rng.random() < _ZOOM else 1.0
    shake = rng.uniform(0.2, 1.0) if rng.random() < _SHAKE else 0.0
    way = 0.0
    if rng.random() < _PAN:
        way = math.exp(rng.uniform(*np.log(_PAN_SPEEDS))) * size[0] * frames
    angle = rng.uniform(0, 2 * math.pi)
    starts, ends = [], []
    for side, share in zip(size, (math.cos(angle), math.sin(angle)), strict=True):
        # The view must stay on the background wherever it is, also where it is zoomed out.
        free = side * WORLD - side / min(1.0, zoom) - 4 - 4 * shake
        moved = float(np.clip(way * share, -free, free))
        first = (side * WORLD - 1) / 2 - moved / 2
        slack = (free - abs(moved)) / 2
        first += rng.uniform(-slack, slack)
        starts.append(first)
        ends.append(first + moved)
    return Camera(
        (starts[0], starts[1]), (ends[0], ends[1]), zoom, shake, rng.uniform(0, 2 * math.pi)
    )


def _random_mover(
    rng: np.random.Generator,
    settings: SceneSettings,
    chosen: tuple[Sequence[Icon], int | None],
    frames: int,
    size: tuple[int, int],
    *,
    still_share: float,
) -> Mover:
    width, height = size
    icons, class_index = chosen
    icon = icons[int(rng.integers(len(icons)))]
    long_side = rng.uniform(*settings.long_sides) * math.sqrt(height * width)
    start = (rng.uniform(0, width), rng.uniform(0, height))
    way = math.exp(rng.uniform(*np.log(_SPEEDS))) * width * frames
    angle = rng.uniform(0, 2 * math.pi)
    return Mover(
        icon=recoloured(rng, icon),
        class_index=class_index,
        pose=random_pose(rng, long_side, settings),
        start=start,
        end=(start[0] + way * math.cos(angle), start[1] + 0.6 * way * math.sin(angle)),
        still=bool(rng.random() < still_share),
        stops=rng.uniform(0.4, 0.9) if rng.random() < _STOPPING else 1.0,
        growth=math.exp(rng.uniform(-1, 1) * math.log(_GROWTH)),
        swing=rng.uniform(0, 6) if rng.random() < 0.5 else 0.0,
    )


def _fits(
    mover: Mover, others: Sequence[Mover], camera: Camera, frames: int, size: tuple[int, int]
) -> bool:
    """Whether it stays in the frame, but for a sixth of its size, and hides nothing for long."""
    overlaps = 0
    times = np.linspace(0, 1, 7)
    for time in times:
        frame = round(float(time) * (frames - 1))
        box = _extent(mover, camera, float(time), frame, size)
        margin = (box[2] - box[0]) / 6
        if min(box[0], box[1]) < -margin or box[2] > size[0] + margin or box[3] > size[1] + margin:
            return False
        overlaps += any(
            overlap(box, _extent(other, camera, float(time), frame, size)) > _MAX_OVERLAP
            for other in others
        )
    return overlaps <= 1


def _extent(mover: Mover, camera: Camera, time: float, frame: int, size: tuple[int, int]) -> Box:
    """Return about the box that it fills."""
    pose, x, y = mover.drawn(camera, time, frame, size)
    height, width = mover.icon.mips[0].shape[:2]
    scale = pose.long_side / max(height, width) / 2
    return (x - width * scale, y - height * scale, x + width * scale, y + height * scale)


def _seen(
    background: NDArray[np.uint8], view: tuple[float, float, float], height: int, width: int
) -> NDArray[np.uint8]:
    """Return the part of the background that the camera sees."""
    x, y, zoom = view
    matrix = np.array(
        [[1 / zoom, 0.0, x - (width - 1) / 2 / zoom], [0.0, 1 / zoom, y - (height - 1) / 2 / zoom]]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(
        background, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(seen, np.uint8)
