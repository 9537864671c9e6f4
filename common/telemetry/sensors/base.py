"""What a sensor is, and how the files of sensors are read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import List, Optional, Protocol


class Kind(Enum):
    """What is measured; the values are the units."""

    POWER = "watts"
    ENERGY = "joules, counted from an arbitrary start"
    LOAD = "share of the time at work, 0 to 1"
    MEMORY = "bytes"
    TEMPERATURE = "degrees Celsius"


@dataclass(frozen=True)
class Reading:
    """One value.

    Attributes:
        kind: what is measured, which gives the unit.
        name: the name of the rail, the device or the zone.
        value: the number, in the kind's unit.
    """

    kind: Kind
    name: str
    value: float


class Sensor(Protocol):
    """Something that was found when the service started, and can be read."""

    def read(self) -> List[Reading]:
        """Read its present values; those that cannot be read at the moment are left out."""
        ...


@dataclass(frozen=True)
class FileSensor:
    """A file with one number.

    Attributes:
        path: where the file is.
        kind: what its number measures.
        name: the name of the rail, the device or the zone.
        scale: the factor from the file's unit to the kind's.
    """

    path: Path
    kind: Kind
    name: str
    scale: float

    def read(self) -> List[Reading]:
        """See `Sensor.read`."""
        value = number_in(self.path)
        return [] if value is None else [Reading(self.kind, self.name, value * self.scale)]


def number_in(path: Path) -> Optional[float]:
    """The number in a file; None if it cannot be read, for instance while a device sleeps."""
    text = text_in(path)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def text_in(path: Path) -> Optional[str]:
    """A file's text without the white space around it; None if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
