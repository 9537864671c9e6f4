"""NVIDIA GPUs of a PC, through nvidia-ml-py where it is installed."""

from __future__ import annotations

from typing import Any, List, Tuple

from common.telemetry.sensors.base import Kind, Reading, Sensor

_MILLI = 1e-3


class NvmlGpu:
    """One GPU; what its model does not tell is left out."""

    def __init__(self, nvml: Any, index: int) -> None:
        """Take the GPU with this index; `nvml` is the module `pynvml`, initialised."""
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
                # Not supported by this model, or the driver is busy: left out.
                continue
        return found


def nvml_gpus() -> List[Sensor]:
    """Every GPU that NVML knows; none without the package, the driver or a GPU."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        return [NvmlGpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
