"""The topics, and what Home Assistant has to know of them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from services.gateway.events.forms import plain

ONLINE, OFFLINE = b"online", b"offline"
ALL = "all"
"""Stands for every category in a topic."""

# What a camera's topics are called beside those of labels.
_TAKEN = frozenset((ALL, "available", "detections"))
_HELD = re.compile(r"[a-z0-9_ -]*")
_HASH_DIGITS = 6


def level_of(label: str) -> str:
    """What a category is called in topics.

    Small letters, digits and `_`. What these leave of other names may be the same for several, or
    nothing: then something is added that is the label's own, and stays the same.
    """
    name = plain(label)
    if _HELD.fullmatch(label.lower()) and label.strip("_ -") and name not in _TAKEN:
        return name
    digits = hashlib.sha256(label.encode(errors="replace")).hexdigest()[:_HASH_DIGITS]
    return f"{name.strip('_')}_{digits}".lstrip("_")


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

    def count(self, camera: str, level: str) -> str:
        """How many objects of a category (`level_of`) a camera sees, or of `ALL`; retained."""
        return f"{self.prefix}/{plain(camera)}/{level}"

    def detections(self, camera: str) -> str:
        """All that was found in a frame, as JSON."""
        return f"{self.prefix}/{plain(camera)}/detections"


def home_assistant_messages(
    discovery_prefix: str, topics: Topics, camera: str, level: str, counted: str
) -> dict[str, dict[str, Any]]:
    """Configurations by their topics: a sensor and an occupancy for objects of one category.

    Source: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery

    Args:
        discovery_prefix: of the topics.
        topics: that tell the counts.
        camera: name of the camera.
        level: the category's, see `level_of`; or `ALL`.
        counted: what is counted, for people.
    """
    node = plain(f"{topics.prefix} {camera}")
    shared = {
        "state_topic": topics.count(camera, level),
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
        f"{discovery_prefix}/sensor/{node}/{level}/config": {
            "name": f"{counted} count",
            "unique_id": f"{node}_{level}_count",
            "unit_of_measurement": "objects",
            "state_class": "measurement",
            "icon": "mdi:counter",
            **shared,
        },
        f"{discovery_prefix}/binary_sensor/{node}/{level}/config": {
            "name": f"{counted} occupancy",
            "unique_id": f"{node}_{level}_occupancy",
            "device_class": "occupancy",
            "value_template": "{{ 'ON' if value | int(0) > 0 else 'OFF' }}",
            **shared,
        },
    }
