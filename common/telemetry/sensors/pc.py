"""What any Linux machine may have: RAPL's energy counters, thermal zones."""

from __future__ import annotations

from pathlib import Path
from typing import List

from common.telemetry.sensors.base import FileSensor, Kind, Reading, Sensor, number_in, text_in

_MICRO = 1e-6
_MILLI = 1e-3


class RaplDomain:
    """An energy counter in microjoules that starts over at its range; here it never does."""

    def __init__(self, name: str, folder: Path) -> None:
        """Count the domain in `folder` from now on."""
        self._name = name
        self._path = folder / "energy_uj"
        self._range = number_in(folder / "max_energy_range_uj") or 0.0
        self._last = number_in(self._path)
        self._counted = 0.0

    def read(self) -> List[Reading]:
        """Joules since it was found; see `Sensor.read`."""
        now = number_in(self._path)
        if now is None:
            return []
        if self._last is not None:
            step = now - self._last
            self._counted += step if step >= 0 else step + self._range
        self._last = now
        return [Reading(Kind.ENERGY, self._name, self._counted * _MICRO)]


def rapl_domains(sys: Path) -> List[Sensor]:
    """Domains whose counter may be read; on most machines only root may.

    A package contains its core and uncore, and may or may not contain the memory beside it.
    """
    found: List[Sensor] = []
    for folder in sorted(sys.glob("class/powercap/intel-rapl:*")):
        name = text_in(folder / "name")
        if name and number_in(folder / "energy_uj") is not None:
            # Sub-domains have the same names in every package.
            parent = text_in(folder.parent / folder.name.rsplit(":", 1)[0] / "name")
            is_inner = folder.name.count(":") > 1 and parent
            found.append(RaplDomain(f"{parent}-{name}" if is_inner else name, folder))
    return found


def thermal_zones(sys: Path) -> List[Sensor]:
    """The kernel's thermal zones, in thousandths of a degree; the first of each type."""
    found: List[Sensor] = []
    names = set()
    for zone in sorted(sys.glob("class/thermal/thermal_zone*")):
        name = text_in(zone / "type")
        # PMIC-Die of a TX2 is a constant 100 degrees.
        if name and name != "PMIC-Die" and name not in names:
            names.add(name)
            found.append(FileSensor(zone / "temp", Kind.TEMPERATURE, name, _MILLI))
    return found
