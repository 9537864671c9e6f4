"""Sends receivers what happens before the cameras."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from common.domain.errors import ConfigurationError
from services.gateway.cameras.feed import CameraFrame
from services.gateway.door import Door, Gateway
from services.gateway.events.forms import counts_json, event_json, frame_json
from services.gateway.events.objects import ObjectEvent
from services.gateway.events.outbox import EventMetrics
from services.gateway.events.watch import CameraWatch
from services.gateway.limits import DoorLimits
from services.gateway.webhooks.delivery import Delivery
from services.gateway.webhooks.targets import Kind, read_targets

_FAREWELL_SECONDS, _FAREWELL_PAUSE_SECONDS = 1.0, 0.02


class Webhooks(Door):
    """Events of objects, counts and detections, for the receivers of a file."""

    name = "webhooks"

    def __init__(self, gateway: Gateway, metrics: EventMetrics) -> None:
        """Read the file; nothing is sent yet.

        Raises:
            ConfigurationError: there is none, or it makes no sense.
        """
        # It serves nobody: it calls the receivers.
        super().__init__(gateway, DoorLimits(sessions=1, requests_per_second=1.0, body_bytes=0))
        settings = gateway.settings
        if settings.webhook_targets is None:
            raise ConfigurationError("webhooks need webhook_targets, the file of their receivers")
        self._reports = {state.name: state.reports for state in gateway.cameras.states}
        targets = read_targets(settings.webhook_targets, frozenset(self._reports))
        most = settings.webhook_max_waiting
        self._deliveries = [Delivery(target, most, metrics) for target in targets]

    async def run(self) -> None:
        """Watch the cameras and send, until cancelled."""
        watch = CameraWatch(self.gateway.cameras, self)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch.run())
            sending = [group.create_task(delivery.run()) for delivery in self._deliveries]
            try:
                await asyncio.wait([watching, *sending], return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                watching.cancel()
                watch.end()
                await self._finish()
                raise

    async def _finish(self) -> None:
        """Send what waits, where that is soon done."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                while any(delivery.waiting for delivery in self._deliveries):
                    await asyncio.sleep(_FAREWELL_PAUSE_SECONDS)

    def frame_found(self, frame: CameraFrame, *, changed: bool) -> None:
        """See `Listener`."""
        if self._reports[frame.camera].tells(changed=changed):
            self._put(Kind.DETECTIONS, frame.camera, "detections", frame_json(frame))

    def object_event(self, event: ObjectEvent) -> None:
        """See `Listener`."""
        self._put(Kind.EVENTS, event.camera, f"object.{event.kind.value}", event_json(event))

    def counts_changed(self, camera: str, counts: Mapping[str, int]) -> None:
        """See `Listener`."""
        self._put(Kind.COUNTS, camera, "counts", counts_json(camera, counts, time.time()))

    def camera_available(self, camera: str, available: bool) -> None:
        """See `Listener`."""
        told = {"camera": camera, "available": available}
        self._put(Kind.EVENTS, camera, "camera.available", told)

    def _put(self, kind: Kind, camera: str, name: str, data: Mapping[str, Any]) -> None:
        for delivery in self._deliveries:
            if delivery.target.wants(kind, camera):
                delivery.put(name, data)
