"""What is found in the cameras, for doors that show it or pass it on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from common.domain.errors import InvalidInputError
from common.domain.frames import EncodedImage
from common.domain.video import AccessUnit, VideoFormat
from services.gateway.cameras.configuration import Reports
from tandem.results import FrameResult


class CameraCondition(Enum):
    """How a camera is."""

    CONNECTING = "connecting"
    RUNNING = "running"
    LOST = "lost"


@dataclass(frozen=True)
class CameraState:
    """A camera, and how it is now.

    Attributes:
        name: of the camera.
        source: what is read, for people: a URL without its password.
        condition: whether pictures come.
        reason: why none come, a sentence; empty if they do.
        frames_per_second: answered with detections, over the last seconds.
        latency_seconds: from reading a frame to its answer; the median of the last seconds.
        frames: answered with detections, since the gateway started.
        dropped: frames that a newer one replaced, likewise.
        failed: frames answered with an error, likewise.
        reports: of which frames doors for events tell all that was found.
    """

    name: str
    source: str
    condition: CameraCondition = CameraCondition.CONNECTING
    reason: str = ""
    frames_per_second: float = 0.0
    latency_seconds: float = 0.0
    frames: int = 0
    dropped: int = 0
    failed: int = 0
    reports: Reports = Reports.CHANGES


@dataclass(frozen=True)
class CameraFrame:
    """One frame of a camera with its answer.

    Attributes:
        camera: its name.
        number: of the frame; it only grows, also when the camera is opened anew.
        picture: as it was sent to the orchestrator.
        result: what came back. Of frames that were dropped only access units are told, since later
            ones may need them.
        read_at_seconds: when the gateway read it, in seconds since 1970.
        latency_seconds: from then to its answer.
        video: what the access unit is of; None: it is a picture of its own.
    """

    camera: str
    number: int
    picture: EncodedImage | AccessUnit
    result: FrameResult
    read_at_seconds: float
    latency_seconds: float
    video: VideoFormat | None = None

    @property
    def is_shown(self) -> bool:
        """Whether somebody looked at it, so that it has boxes, or an error."""
        return not self.result.dropped

    @property
    def is_damaged(self) -> bool:
        """Whether it is an access unit that cannot be decoded, as the backbone says."""
        return self.video is not None and isinstance(self.result.error, InvalidInputError)


class Subscriber(Protocol):
    """Who is told of each frame."""

    def put(self, frame: CameraFrame) -> None:
        """Take a frame; returns at once."""


class Subscription:
    """The frames that one door, or one browser, has yet to take; of each camera a bounded number.

    Attributes:
        left_out: frames that newer ones replaced, since they were not taken in time.
    """

    def __init__(self, most_waiting: int) -> None:
        """Nothing waits yet.

        Args:
            most_waiting: frames of one camera; a further one replaces the oldest.
        """
        self.left_out = 0
        self._most_waiting = most_waiting
        self._waiting: dict[str, deque[CameraFrame]] = {}
        self._come = asyncio.Event()

    def put(self, frame: CameraFrame) -> None:
        """Let a frame wait to be taken, unless nobody has looked at it."""
        if not frame.is_shown:
            return
        frames = self._waiting.setdefault(frame.camera, deque())
        if len(frames) >= self._most_waiting:
            frames.popleft()
            self.left_out += 1
        frames.append(frame)
        self._come.set()

    def take(self, camera: str) -> CameraFrame | None:
        """The oldest frame of a camera that waits; None if none does."""
        frames = self._waiting.get(camera)
        return frames.popleft() if frames else None

    async def wait(self) -> None:
        """Wait until a frame has come since the last wait."""
        await self._come.wait()
        self._come.clear()

    async def frames(self) -> AsyncIterator[CameraFrame]:
        """All frames as they come; cameras take turns."""
        while True:
            await self.wait()
            while any(self._waiting.values()):
                for camera in tuple(self._waiting):
                    frame = self.take(camera)
                    if frame is not None:
                        yield frame


class CameraFeed:
    """Tells subscribers of the cameras' frames; used from the event loop alone."""

    def __init__(self) -> None:
        """There are no cameras yet."""
        self._cameras: list[Callable[[], CameraState]] = []
        self._subscriptions: set[Subscriber] = set()

    def add(self, state: Callable[[], CameraState]) -> None:
        """Add a camera.

        Args:
            state: tells how it is now.
        """
        self._cameras.append(state)

    @property
    def states(self) -> tuple[CameraState, ...]:
        """How each camera is now, in the order of the configuration."""
        return tuple(state() for state in self._cameras)

    def publish(self, frame: CameraFrame) -> None:
        """Hand a frame to everybody who subscribes; never waits for any of them."""
        for subscriber in tuple(self._subscriptions):
            subscriber.put(frame)

    @contextmanager
    def telling(self, subscriber: Subscriber) -> Iterator[None]:
        """Tell somebody of each frame while the block lasts."""
        self._subscriptions.add(subscriber)
        try:
            yield
        finally:
            self._subscriptions.discard(subscriber)

    @contextmanager
    def subscribe(self, most_waiting: int = 1) -> Iterator[Subscription]:
        """Take part while the block lasts.

        Args:
            most_waiting: frames of one camera that may wait to be taken; 1: the newest one wins.
        """
        subscription = Subscription(most_waiting)
        with self.telling(subscription):
            yield subscription
