"""A Jetson's own: power by rail, load of the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List

from common.telemetry.sensors.base import FileSensor, Kind, Reading, Sensor, number_in, text_in

_MILLI = 1e-3
_CHANNELS = range(8)


def ina3221_rails(sys: Path) -> List[Sensor]:
    """JetPack 4's driver of the INA3221: milliwatts of each channel, with the rail's name.

    On a TX2 VDD_IN is the whole module, and contains the others.

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
    """A rail of which voltage (mV) and current (mA) are read."""

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
    """JetPack 5's and 6's driver of the INA3221: voltage and current of each labelled channel."""
    found: List[Sensor] = []
    for device in sorted(sys.glob("class/hwmon/hwmon*")):
        if text_in(device / "name") != "ina3221":
            continue
        for channel in _CHANNELS:
            rail = text_in(device / f"in{channel}_label")
            voltage, current = device / f"in{channel}_input", device / f"curr{channel}_input"
            # The driver labels the sum of shunt voltages too, which has no current.
            if rail and voltage.is_file() and current.is_file():
                found.append(VoltageTimesCurrent(rail, voltage, current))
    return found


def gpu_load(sys: Path) -> List[Sensor]:
    """Load of the integrated GPU, in tenths of a percent."""
    # Up to JetPack 5; where JetPack 6 has it.
    for place in ("devices/gpu.0/load", "devices/platform/gpu.0/load"):
        if (sys / place).is_file():
            return [FileSensor(sys / place, Kind.LOAD, "gpu", _MILLI)]
    return []
