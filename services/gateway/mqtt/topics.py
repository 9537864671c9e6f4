"""The topics, and what Home Assistant has to know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.gateway.events.forms import plain

ONLINE, OFFLINE = b"online", b"offline"
ALL = "all"
"""Stands for every category in a topic."""


@dataclass(frozen=True)
class Topics:
    """Names of topics.

    Attributes:
        prefix: what all of them begin with.
    """

    prefix: str

    @property
    def available(self) -> str:
        """`online` while the gateway runs and is connected, else `offline`; retained."""
        return f"{self.prefix}/available"

    @property
    def events(self) -> str:
        """What happens to objects, as JSON."""
        return f"{self.prefix}/events"

    @property
    def status(self) -> str:
        """How the gateway fares, as JSON; retained."""
        return f"{self.prefix}/status"

    def camera_available(self, camera: str) -> str:
        """`online` while a camera shows pictures, else `offline`; retained."""
        return f"{self.prefix}/{plain(camera)}/available"

    def count(self, camera: str, label: str) -> str:
        """How many objects of a category are before a camera, or of `ALL`; retained."""
        return f"{self.prefix}/{plain(camera)}/{plain(label)}"

    def detections(self, camera: str) -> str:
        """All that was found in a frame, as JSON."""
        return f"{self.prefix}/{plain(camera)}/detections"


def home_assistant_messages(
    discovery_prefix: str, topics: Topics, camera: str, label: str
) -> dict[str, dict[str, Any]]:
    """Configurations by their topics: a sensor and an occupancy for objects of one category.

    Source: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
    """
    node = plain(f"{topics.prefix} {camera}")
    counted = "Objects" if label == ALL else label.capitalize()
    shared = {
        "state_topic": topics.count(camera, label),
        "availability": [
            {"topic": topics.available},
            {"topic": topics.camera_available(camera)},
        ],
        "availability_mode": "all",
        "device": {
            "identifiers": [node],
            "name": camera,
            "manufacturer": "Tandem",
            "model": "camera",
        },
        "origin": {"name": "Tandem"},
    }
    return {
        f"{discovery_prefix}/sensor/{node}/{plain(label)}/config": {
            "name": f"{counted} count",
            "unique_id": f"{node}_{plain(label)}_count",
            "unit_of_measurement": "objects",
            "state_class": "measurement",
            "icon": "mdi:counter",
            **shared,
        },
        f"{discovery_prefix}/binary_sensor/{node}/{plain(label)}/config": {
            "name": f"{counted} occupancy",
            "unique_id": f"{node}_{plain(label)}_occupancy",
            "device_class": "occupancy",
            "value_template": "{{ 'ON' if value | int(0) > 0 else 'OFF' }}",
            **shared,
        },
    }
