"""Every kind of sensor, looked for once."""

from __future__ import annotations

from pathlib import Path
from typing import List

from common.telemetry.sensors.base import Sensor
from common.telemetry.sensors.jetson import gpu_load, hwmon_rails, ina3221_rails
from common.telemetry.sensors.nvml import nvml_gpus
from common.telemetry.sensors.pc import rapl_domains, thermal_zones


def find_sensors(sys: Path = Path("/sys")) -> List[Sensor]:
    """What this machine has.

    Args:
        sys: root of sysfs. GPUs that NVML knows are looked for besides.
    """
    looks = (ina3221_rails, hwmon_rails, gpu_load, rapl_domains, thermal_zones)
    return [sensor for look in looks for sensor in look(sys)] + nvml_gpus()
