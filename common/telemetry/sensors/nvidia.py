"""Sensors behind NVIDIA's libraries: a PC's GPUs through NVML, a Jetson through jetson-stats.

Neither package is a dependency: each is used where it is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Tuple

from common.telemetry.sensors.base import Kind, Reading, Sensor

JTOP_SOCKET = Path("/run/jtop.sock")
"""Where the service of jetson-stats listens; a container has to mount it."""

_MILLI = 1e-3
# What jetson-stats reports for a zone that is switched off.
_OFFLINE_CELSIUS = -256


class NvmlGpu:
    """One GPU. Values that its model does not tell are left out."""

    def __init__(self, nvml: Any, index: int) -> None:
        """Read the GPU with this index; `nvml` is the module `pynvml`, initialised."""
        self._nvml = nvml
        self._name = f"gpu{index}"
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def read(self) -> List[Reading]:
        """See `Sensor.read`."""
        nvml = self._nvml
        values: Tuple[Tuple[Kind, str, Any], ...] = (
            (Kind.POWER, "", lambda h: nvml.nvmlDeviceGetPowerUsage(h) * _MILLI),
            (Kind.ENERGY, "", lambda h: nvml.nvmlDeviceGetTotalEnergyConsumption(h) * _MILLI),
            (Kind.LOAD, "", lambda h: nvml.nvmlDeviceGetUtilizationRates(h).gpu / 100),
            (Kind.MEMORY, "_used", lambda h: nvml.nvmlDeviceGetMemoryInfo(h).used),
            (Kind.MEMORY, "_total", lambda h: nvml.nvmlDeviceGetMemoryInfo(h).total),
            (
                Kind.TEMPERATURE,
                "",
                lambda h: nvml.nvmlDeviceGetTemperature(h, nvml.NVML_TEMPERATURE_GPU),
            ),
        )
        found = []
        for kind, suffix, value in values:
            try:
                found.append(Reading(kind, self._name + suffix, float(value(self._handle))))
            except nvml.NVMLError:
                # This model does not support it, or the driver is busy.
                continue
        return found


def nvml_gpus() -> List[Sensor]:
    """Every GPU that NVML knows. There is none without the package, the driver or a GPU."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        return [NvmlGpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


class JtopBoard:
    """A Jetson as the service of jetson-stats (4.0 or later) sees it."""

    def __init__(self, client: Any) -> None:
        """Read from `client`, a `jtop.jtop` that was started."""
        self._client = client

    def read(self) -> List[Reading]:
        """Its values of the last second; see `Sensor.read`."""
        try:
            # Raises what ended the client's thread, such as a service that was stopped.
            if not self._client.ok(spin=True):
                return []
            return self._power() + self._load() + self._temperatures()
        # jetson-stats raises what its sockets and its dictionaries do.
        except Exception:
            return []

    def _power(self) -> List[Reading]:
        rails, total = dict(self._client.power["rail"]), self._client.power["tot"]
        # The rail that feeds the whole board, on boards that measure it; else a sum of the others.
        if "name" in total:
            rails[total["name"]] = total
        return [
            Reading(Kind.POWER, name, rail["power"] * _MILLI)
            for name, rail in rails.items()
            if "power" in rail
        ]

    def _load(self) -> List[Reading]:
        return [
            Reading(Kind.LOAD, name, gpu["status"]["load"] / 100)
            for name, gpu in self._client.gpu.items()
            if "load" in gpu["status"]
        ]

    def _temperatures(self) -> List[Reading]:
        return [
            Reading(Kind.TEMPERATURE, name, float(zone["temp"]))
            for name, zone in self._client.temperature.items()
            if zone.get("online", True) and zone["temp"] > _OFFLINE_CELSIUS
        ]


def jtop_board(socket: Path = JTOP_SOCKET) -> List[Sensor]:
    """The board, if jetson-stats is installed here and its service answers on `socket`."""
    if not socket.exists():
        return []
    try:
        from jtop import JtopException, jtop
    except ImportError:
        return []
    client = jtop()
    try:
        client.start()
    # The service is stopped, is of another version, or is not for this user.
    except (JtopException, OSError, EOFError):
        return []
    return [JtopBoard(client)]
