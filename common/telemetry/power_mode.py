"""How fast this machine is allowed to run: what a measurement has to be read with.

A Jetson's speed is set by `nvpmodel` and `jetson_clocks`, a PC's by the governors of its processors
and the power limit of its GPU.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

from common.telemetry.sensors.base import number_in, text_in

_KILO = 1e3
_MEGA = 1e6
_MILLI = 1e-3
_ACTIVE_MODE = re.compile(r"pmode:(\d+)")
_MODE = re.compile(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)")
# The integrated GPUs of the TX1 and Nano, TX2, Xavier, Orin and Thor among the kernel's devices.
_GPU = re.compile(r"gpu|g[mpv]\d+b|ga10b|gb10b")


@dataclass(frozen=True)
class Clock:
    """The clock of a GPU, or of processor cores that share one.

    Attributes:
        name: of the kernel's cpufreq policy or devfreq device; `gpu0` for the first GPU of a PC.
        governor: what chooses the frequency; None for a PC's GPU, which does so itself.
        min_hertz: lowest frequency allowed; None if it is not told.
        max_hertz: highest frequency allowed; None if it is not told.
        power_limit_watts: that the driver holds a PC's GPU to; None for all others.
    """

    name: str
    governor: Optional[str] = None
    min_hertz: Optional[float] = None
    max_hertz: Optional[float] = None
    power_limit_watts: Optional[float] = None

    @property
    def is_locked(self) -> bool:
        """Whether one frequency only is allowed."""
        return self.max_hertz is not None and self.min_hertz == self.max_hertz


@dataclass(frozen=True)
class PowerMode:
    """How fast this machine is allowed to run.

    Attributes:
        nvpmodel: name of a Jetson's power mode, such as MAXN; None on other machines.
        jetson_clocks: whether a Jetson's clocks are locked, as `jetson_clocks` does; None on other
            machines.
        clocks: of processors, then GPUs, by name.
    """

    nvpmodel: Optional[str]
    jetson_clocks: Optional[bool]
    clocks: Tuple[Clock, ...]


def power_mode(root: Path = Path("/")) -> PowerMode:
    """Read the power mode in force now; needs no privileges.

    Args:
        root: of the file system. A PC's GPUs are asked through NVML besides.
    """
    nvpmodel = _nvpmodel(root)
    kernel = _cpu_clocks(root / "sys") + _gpu_clocks(root / "sys")
    locked = all(clock.is_locked for clock in kernel) if nvpmodel and kernel else None
    return PowerMode(nvpmodel, locked, tuple(kernel + _nvml_clocks()))


def _nvpmodel(root: Path) -> Optional[str]:
    """What `nvpmodel -q` says, from the files that it reads: it may need root itself."""
    active = _ACTIVE_MODE.search(text_in(root / "var/lib/nvpmodel/status") or "")
    if active is None:
        return None
    number = int(active.group(1))
    modes = _MODE.findall(text_in(root / "etc/nvpmodel.conf") or "")
    names = {int(each): str(name) for each, name in modes}
    return names.get(number, str(number))


def _cpu_clocks(sys: Path) -> List[Clock]:
    found = []
    for policy in sorted(sys.glob("devices/system/cpu/cpufreq/policy*")):
        lowest, highest = (number_in(policy / f"scaling_{end}_freq") for end in ("min", "max"))
        governor = text_in(policy / "scaling_governor")
        found.append(Clock(policy.name, governor, _times(lowest, _KILO), _times(highest, _KILO)))
    return found


def _gpu_clocks(sys: Path) -> List[Clock]:
    found = []
    for device in sorted(sys.glob("class/devfreq/*")):
        if _GPU.search(device.name):
            governor = text_in(device / "governor")
            lowest, highest = (number_in(device / f"{end}_freq") for end in ("min", "max"))
            found.append(Clock(device.name, governor, lowest, highest))
    return found


def _nvml_clocks() -> List[Clock]:
    try:
        import pynvml as nvml
    except ImportError:
        return []
    try:
        nvml.nvmlInit()
        handles = [
            nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())
        ]
    except nvml.NVMLError:
        return []

    def told(function: str, *arguments: object) -> Optional[float]:
        try:
            return float(getattr(nvml, function)(*arguments))
        except nvml.NVMLError:
            return None

    return [
        Clock(
            f"gpu{index}",
            max_hertz=_times(told("nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM), _MEGA),
            power_limit_watts=_times(told("nvmlDeviceGetEnforcedPowerLimit", handle), _MILLI),
        )
        for index, handle in enumerate(handles)
    ]


def _times(value: Optional[float], factor: float) -> Optional[float]:
    return None if value is None else value * factor
