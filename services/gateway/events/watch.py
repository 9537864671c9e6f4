"""Watches the cameras and tells a door what happens before them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

from services.gateway.cameras.feed import CameraCondition, CameraFeed, CameraFrame
from services.gateway.events.objects import CameraObjects, ObjectEvent, label_of

# Frames of one camera that wait while a door is at work on others.
_MOST_WAITING = 32
_TICK_SECONDS = 0.5


class Listener(Protocol):
    """What a door for events is told; each call returns at once."""

    def frame_found(self, frame: CameraFrame, *, changed: bool) -> None:
        """A frame has its answer; `changed`: it shows other objects than the one before."""

    def object_event(self, event: ObjectEvent) -> None:
        """Something happened to an object."""

    def counts_changed(self, camera: str, counts: Mapping[str, int]) -> None:
        """So many objects of each category are before a camera now; also once at the start."""

    def camera_available(self, camera: str, available: bool) -> None:
        """A camera shows pictures, or does not; also once at the start."""


class CameraWatch:
    """Follows the objects before all cameras for one listener."""

    def __init__(self, feed: CameraFeed, listener: Listener) -> None:
        """Prepare.

        Args:
            feed: of the cameras.
            listener: that is told.
        """
        self._feed = feed
        self._listener = listener
        self._objects: dict[str, CameraObjects] = {}
        self._counts: dict[str, Mapping[str, int]] = {}
        self._available: dict[str, bool] = {}
        self._shown: dict[str, list[str]] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        clock, look_at = asyncio.get_running_loop().time, 0.0
        with self._feed.subscribe(_MOST_WAITING) as subscription:
            while True:
                if clock() >= look_at:
                    self._look_after()
                    look_at = clock() + _TICK_SECONDS
                # Not `asyncio.wait_for`, which before Python 3.12 may swallow a cancellation.
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(look_at):
                        await subscription.wait()
                for camera in tuple(self._objects):
                    while (frame := subscription.take(camera)) is not None:
                        self._take(frame)

    def end(self) -> None:
        """All objects leave: nobody watches any more."""
        for camera, objects in self._objects.items():
            self._tell(camera, objects.lose(time.time()))

    def _take(self, frame: CameraFrame) -> None:
        found = frame.result.detections
        labels = sorted(label_of(each) for each in found)
        changed = labels != self._shown.get(frame.camera) and frame.result.error is None
        if changed:
            self._shown[frame.camera] = labels
        self._listener.frame_found(frame, changed=changed)
        if frame.result.error is None:
            events = self._objects[frame.camera].look(found, frame.read_at_seconds)
            self._tell(frame.camera, events)

    def _look_after(self) -> None:
        for state in self._feed.states:
            objects = self._objects.setdefault(state.name, CameraObjects(state.name))
            available = state.condition is CameraCondition.RUNNING
            if self._available.get(state.name) is not available:
                self._available[state.name] = available
                self._listener.camera_available(state.name, available)
            now = time.time()
            events = objects.pass_time(now) if available else objects.lose(now)
            self._tell(state.name, events)

    def _tell(self, camera: str, events: list[ObjectEvent]) -> None:
        for event in events:
            self._listener.object_event(event)
        counts = self._objects[camera].counts
        if counts != self._counts.get(camera):
            self._counts[camera] = counts
            self._listener.counts_changed(camera, counts)
