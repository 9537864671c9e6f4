"""Cameras' video as JPEG, for browsers that cannot decode it; made only while one looks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import structlog

from common.domain.errors import TandemError
from common.domain.frames import EncodedImage
from common.domain.video import AccessUnit, VideoFormat
from services.gateway.cameras.feed import CameraFeed, CameraFrame
from services.gateway.live_view.frame_queue import FrameQueue, LatestGroups
from tandem.pictures import encode_jpeg
from tandem.sources.decoding import UnitDecoder
from tandem.threads import call_in_thread

log = structlog.get_logger()

Put = Callable[[CameraFrame], None]


class Stills:
    """Decodes the cameras that somebody watches as JPEG, each once for all who do."""

    def __init__(self, feed: CameraFeed, groups: LatestGroups) -> None:
        """Decode nothing yet.

        Args:
            feed: of the cameras.
            groups: the latest of each.
        """
        self._feed = feed
        self._groups = groups
        self._watchers: dict[str, set[Put]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @contextmanager
    def watching(self, camera: str, put: Put) -> Iterator[None]:
        """Have somebody told of a camera's frames, as pictures, while the block lasts."""
        watchers = self._watchers.setdefault(camera, set())
        watchers.add(put)
        if camera not in self._tasks:
            self._tasks[camera] = asyncio.create_task(self._decode(camera))
        try:
            yield
        finally:
            watchers.discard(put)
            if not watchers:
                self._tasks.pop(camera).cancel()

    async def _decode(self, camera: str) -> None:
        waiting = _Waiting(camera, FrameQueue(self._groups.of(camera)))
        decoder = _StillDecoder()
        with self._feed.telling(waiting):
            while True:
                frames = await waiting.next()
                frame = frames[-1]
                if not frame.is_damaged:
                    picture = await _still(decoder, frames)
                    if picture is None:
                        waiting.queue.lose()
                        continue
                    frame = replace(frame, picture=picture, video=None)
                for put in tuple(self._watchers[camera]):
                    put(frame)


async def _still(decoder: _StillDecoder, frames: tuple[CameraFrame, ...]) -> EncodedImage | None:
    try:
        return await call_in_thread(partial(decoder.still, frames))
    except Exception:
        # A fault of a library with one camera's frame is no reason to show no other.
        log.exception("a frame was not decoded", camera=frames[-1].camera)
        return None


class _Waiting:
    """The frames of one camera that have yet to be decoded."""

    def __init__(self, camera: str, queue: FrameQueue) -> None:
        self.queue = queue
        self._camera = camera
        self._come = asyncio.Event()
        self._come.set()

    def put(self, frame: CameraFrame) -> None:
        if frame.camera == self._camera and frame.video is not None:
            self.queue.put(frame)
            self._come.set()

    async def next(self) -> tuple[CameraFrame, ...]:
        while not (frames := self.queue.take()):
            self._come.clear()
            await self._come.wait()
        return frames


class _StillDecoder:
    """One camera's decoder."""

    def __init__(self) -> None:
        self._video: VideoFormat | None = None
        self._decoder: UnitDecoder | None = None

    def still(self, frames: tuple[CameraFrame, ...]) -> EncodedImage | None:
        """The last one's picture; None if it cannot be decoded. Blocks."""
        pixels = None
        for frame in frames:
            unit, video = frame.picture, frame.video
            if not isinstance(unit, AccessUnit) or video is None:
                return None
            if self._decoder is None or video != self._video:
                self._decoder, self._video = UnitDecoder(video.codec), video
            if frame is frames[-1]:
                pixels = self._decoder(unit)
            else:
                self._decoder.follow(unit)
        if pixels is None:
            # What it makes up of the damage is not to be shown.
            self._decoder = None
            return None
        try:
            return encode_jpeg(pixels)
        except TandemError:
            return None
