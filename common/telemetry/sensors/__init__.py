"""Power, energy, load, memory and temperature, as far as this machine tells.

`find_sensors` looks once, at start; what is absent then is simply absent.
"""

from common.telemetry.sensors.base import Kind, Reading, Sensor
from common.telemetry.sensors.found import find_sensors

__all__ = ["Kind", "Reading", "Sensor", "find_sensors"]
