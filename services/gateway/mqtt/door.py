"""Tells a broker what happens before the cameras."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping

from common.domain.address import parse_address
from common.domain.errors import ConfigurationError
from common.server.exposure import is_elsewhere
from services.gateway.cameras.feed import CameraFrame
from services.gateway.door import Door, Gateway
from services.gateway.events.forms import event_json, frame_json, plain
from services.gateway.events.objects import ObjectEvent
from services.gateway.events.outbox import EventMetrics
from services.gateway.events.secrets import client_context, read_secret
from services.gateway.events.watch import CameraWatch
from services.gateway.limits import DoorLimits
from services.gateway.mqtt.broker import Broker, BrokerAccess
from services.gateway.mqtt.topics import (
    ALL,
    OFFLINE,
    ONLINE,
    Topics,
    home_assistant_messages,
    level_of,
)
from services.gateway.settings import GatewaySettings

PORT, TLS_PORT = 1883, 8883


class Mqtt(Door):
    """Objects, counts and detections of all cameras, for a broker."""

    name = "mqtt"

    def __init__(self, gateway: Gateway, metrics: EventMetrics) -> None:
        """Read the secrets; nothing is connected yet.

        Raises:
            ConfigurationError: they cannot be read, the broker is on another machine and not
                encrypted, or two cameras have the same topics.
        """
        # It serves nobody: it calls the broker.
        super().__init__(gateway, DoorLimits(sessions=1, requests_per_second=1.0, body_bytes=0))
        settings = gateway.settings
        self._topics = Topics(settings.mqtt_prefix)
        self._discovery_prefix = settings.mqtt_home_assistant
        self._reports = {state.name: state.reports for state in gateway.cameras.states}
        refuse_same_topics(self._reports)
        access = _access(settings)
        counts = [self._topics.count(camera, "+") for camera in self._reports]
        self._broker = Broker(access, self._topics, counts, settings.mqtt_max_waiting, metrics)
        self._levels: dict[str, list[str]] = {}

    async def run(self) -> None:
        """Watch the cameras, and stay connected, until cancelled."""
        watch = CameraWatch(self.gateway.cameras, self)
        watching = asyncio.create_task(watch.run())
        sending = asyncio.create_task(self._broker.run())
        try:
            await asyncio.wait({watching, sending}, return_when=asyncio.FIRST_COMPLETED)
            for task in (watching, sending):
                if task.done():
                    task.result()
        finally:
            watching.cancel()
            watch.end()
            # One that the next gateway does not have is not to be taken for one that runs.
            for camera in self._reports:
                self.camera_available(camera, False)
            sending.cancel()
            await asyncio.gather(watching, sending, return_exceptions=True)

    def frame_found(self, frame: CameraFrame, *, changed: bool) -> None:
        """See `Listener`."""
        if self._reports[frame.camera].tells(changed=changed):
            topic = self._topics.detections(frame.camera)
            self._broker.tell(topic, _encoded(frame_json(frame)), surely=changed)

    def object_event(self, event: ObjectEvent) -> None:
        """See `Listener`."""
        self._broker.tell(self._topics.events, _encoded(event_json(event)), surely=True)

    def counts_changed(self, camera: str, counts: Mapping[str, int]) -> None:
        """See `Listener`."""
        known = self._levels.setdefault(camera, [])
        if not known:
            known.append(ALL)
            self._introduce(camera, ALL, "Objects")
        by_level: Counter[str] = Counter()
        for label, count in counts.items():
            level = level_of(label)
            # Labels that differ in what topics cannot hold apart are counted together.
            by_level[level] += count
            if level not in known:
                known.append(level)
                self._introduce(camera, level, label.capitalize())
        by_level[ALL] = sum(counts.values())
        for level in known:
            self._broker.show(self._topics.count(camera, level), str(by_level[level]).encode())

    def camera_available(self, camera: str, available: bool) -> None:
        """See `Listener`."""
        topic = self._topics.camera_available(camera)
        self._broker.show(topic, ONLINE if available else OFFLINE)

    def _introduce(self, camera: str, level: str, counted: str) -> None:
        if not self._discovery_prefix:
            return
        messages = home_assistant_messages(
            self._discovery_prefix, self._topics, camera, level, counted
        )
        for topic, configuration in messages.items():
            self._broker.show(topic, _encoded(configuration))


def refuse_same_topics(cameras: Mapping[str, object]) -> None:
    """Make sure that no two cameras would be told apart by nothing.

    Raises:
        ConfigurationError: two of them would.
    """
    by_topic: dict[str, str] = {}
    for camera in cameras:
        other = by_topic.setdefault(plain(camera), camera)
        if other != camera:
            raise ConfigurationError(
                f"the cameras {other!r} and {camera!r} have the same name in topics, "
                f"{plain(camera)!r}: rename one of them"
            )


def _access(settings: GatewaySettings) -> BrokerAccess:
    """How the broker is reached.

    Raises:
        ConfigurationError: a secret cannot be read, or it would be sent unencrypted.
    """
    tls = None
    if settings.mqtt_tls:
        tls = client_context(settings.mqtt_ca, settings.mqtt_certificate, settings.mqtt_key)
    address = parse_address(settings.mqtt_broker, PORT if tls is None else TLS_PORT)
    if tls is None and not settings.mqtt_insecure and is_elsewhere(address.host):
        raise ConfigurationError(
            f"the MQTT broker {address} is on another machine, and the connection has no TLS: set "
            "mqtt_tls, or allow it by mqtt_insecure"
        )
    password = settings.mqtt_password_file
    return BrokerAccess(
        address.host,
        address.port,
        settings.mqtt_user,
        read_secret(password, "the MQTT password") if password else "",
        tls,
    )


def _encoded(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
