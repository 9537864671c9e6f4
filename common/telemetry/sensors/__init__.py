"""Power, energy, load, memory and temperature, as far as this machine tells them.

`find_sensors` looks once, when a service starts. A sensor that is absent then stays absent.
"""

from pathlib import Path
from typing import List

from common.telemetry.sensors.base import Kind, Reading, Sensor
from common.telemetry.sensors.nvidia import jtop_board, nvml_gpus
from common.telemetry.sensors.sysfs import sysfs_sensors

__all__ = ["Kind", "Reading", "Sensor", "find_sensors"]


def find_sensors(sys: Path = Path("/sys")) -> List[Sensor]:
    """Find every sensor of this machine.

    A Jetson's rails are read from sysfs. The service of jetson-stats is asked only where sysfs has
    none of them, as in a container without the host's `/sys`.

    Args:
        sys: root of sysfs. GPUs that NVML knows are looked for besides.
    """
    found = sysfs_sensors(sys)
    has_power = any(reading.kind is Kind.POWER for sensor in found for reading in sensor.read())
    return found + nvml_gpus() + ([] if has_power else jtop_board())
