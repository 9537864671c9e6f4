"""The kernel's sensors, files under `/sys`: a Jetson's rails and GPU, a PC's energy counters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List

from common.telemetry.sensors.base import FileSensor, Kind, Reading, Sensor, number_in, text_in

_MICRO = 1e-6
_MILLI = 1e-3
_CHANNELS = range(8)


def sysfs_sensors(sys: Path) -> List[Sensor]:
    """Every sensor of the kernel that can be read.

    Args:
        sys: root of sysfs.
    """
    looks = (ina3221_rails, hwmon_rails, gpu_load, rapl_domains, thermal_zones)
    return [sensor for look in looks for sensor in look(sys)]


def ina3221_rails(sys: Path) -> List[Sensor]:
    """The rails of an INA3221 under JetPack 4, whose driver gives milliwatts for each channel.

    On a TX2 the rail VDD_IN feeds the whole module, so that it contains the others.

    Args:
        sys: root of sysfs.
    """
    found: List[Sensor] = []
    for device in sorted(sys.glob("bus/i2c/drivers/ina3221x/*/iio*device*")):
        for channel in _CHANNELS:
            rail = text_in(device / f"rail_name_{channel}")
            path = device / f"in_power{channel}_input"
            if rail and path.is_file():
                found.append(FileSensor(path, Kind.POWER, rail, _MILLI))
    return found


@dataclass(frozen=True)
class VoltageTimesCurrent:
    """A rail whose power is its voltage (mV) times its current (mA)."""

    name: str
    millivolts: Path
    milliamperes: Path

    def read(self) -> List[Reading]:
        """See `Sensor.read`."""
        voltage, current = number_in(self.millivolts), number_in(self.milliamperes)
        if voltage is None or current is None:
            return []
        return [Reading(Kind.POWER, self.name, voltage * current * _MILLI * _MILLI)]


def hwmon_rails(sys: Path) -> List[Sensor]:
    """The rails of an INA3221 under JetPack 5 and 6, which give voltage and current."""
    found: List[Sensor] = []
    for device in sorted(sys.glob("class/hwmon/hwmon*")):
        if text_in(device / "name") != "ina3221":
            continue
        for channel in _CHANNELS:
            rail = text_in(device / f"in{channel}_label")
            voltage, current = device / f"in{channel}_input", device / f"curr{channel}_input"
            # The driver also labels the sum of the shunt voltages, which has no current.
            if rail and voltage.is_file() and current.is_file():
                found.append(VoltageTimesCurrent(rail, voltage, current))
    return found


def gpu_load(sys: Path) -> List[Sensor]:
    """The load of the integrated GPU, which the kernel gives in tenths of a percent."""
    # The first is the place up to JetPack 5, the second that of JetPack 6.
    for place in ("devices/gpu.0/load", "devices/platform/gpu.0/load"):
        if (sys / place).is_file():
            return [FileSensor(sys / place, Kind.LOAD, "gpu", _MILLI)]
    return []


class RaplDomain:
    """An energy counter in microjoules, which starts over at its range; what is told does not."""

    def __init__(self, name: str, folder: Path) -> None:
        """Count the energy of the domain in `folder` from now on."""
        self._name = name
        self._path = folder / "energy_uj"
        self._range = number_in(folder / "max_energy_range_uj") or 0.0
        self._last = number_in(self._path)
        self._counted = 0.0

    def read(self) -> List[Reading]:
        """The energy since the domain was found; see `Sensor.read`."""
        now = number_in(self._path)
        if now is None:
            return []
        if self._last is not None:
            step = now - self._last
            self._counted += step if step >= 0 else step + self._range
        self._last = now
        return [Reading(Kind.ENERGY, self._name, self._counted * _MICRO)]


def rapl_domains(sys: Path) -> List[Sensor]:
    """The domains of RAPL whose counters may be read; on most machines only root may.

    A package contains its core and uncore. Whether it contains the memory depends on the processor.
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
    """The first thermal zone of each type; the kernel gives thousandths of a degree."""
    found: List[Sensor] = []
    names = set()
    for zone in sorted(sys.glob("class/thermal/thermal_zone*")):
        name = text_in(zone / "type")
        # PMIC-Die of a TX2 always reads 100 degrees.
        if name and name != "PMIC-Die" and name not in names:
            names.add(name)
            found.append(FileSensor(zone / "temp", Kind.TEMPERATURE, name, _MILLI))
    return found
