"""The power mode, in trees like a Jetson's and a PC's, and of this machine."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import asdict
from pathlib import Path
from typing import Mapping

import pytest

from common.telemetry.power_mode import Clock, power_mode

NVPMODEL = """
# as /etc/nvpmodel.conf of a TX2 has it
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_1 1
< POWER_MODEL ID=1 NAME=MAXQ >
"""
CPUFREQ = "sys/devices/system/cpu/cpufreq"


@pytest.fixture(autouse=True)
def _without_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)


def write(root: Path, files: Mapping[str, object]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")


def tx2(root: Path, lowest_cpu: int) -> None:
    write(
        root,
        {
            "etc/nvpmodel.conf": NVPMODEL,
            "var/lib/nvpmodel/status": "pmode:0001 fmode:quiet",
            f"{CPUFREQ}/policy0/scaling_governor": "schedutil",
            f"{CPUFREQ}/policy0/scaling_min_freq": lowest_cpu,
            f"{CPUFREQ}/policy0/scaling_max_freq": 2035200,
            "sys/class/devfreq/17000000.gp10b/governor": "nvhost_podgov",
            "sys/class/devfreq/17000000.gp10b/min_freq": 1300500000,
            "sys/class/devfreq/17000000.gp10b/max_freq": 1300500000,
            "sys/class/devfreq/15340000.vic/max_freq": 1024000000,
        },
    )


def test_a_jetson_in_its_mode(tmp_path: Path) -> None:
    tx2(tmp_path, lowest_cpu=345600)
    mode = power_mode(tmp_path)
    assert (mode.nvpmodel, mode.jetson_clocks) == ("MAXQ", False)
    assert mode.clocks == (
        Clock("policy0", "schedutil", 345.6e6, 2035.2e6),
        Clock("17000000.gp10b", "nvhost_podgov", 1300.5e6, 1300.5e6),
    )


def test_a_jetson_with_locked_clocks(tmp_path: Path) -> None:
    tx2(tmp_path, lowest_cpu=2035200)
    assert power_mode(tmp_path).jetson_clocks is True


def test_a_mode_that_the_configuration_does_not_name(tmp_path: Path) -> None:
    write(tmp_path, {"var/lib/nvpmodel/status": "pmode:0007"})
    assert power_mode(tmp_path).nvpmodel == "7"


def test_a_pc_with_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NvmlError(Exception):
        pass

    def unsupported(*_: object) -> None:
        raise NvmlError("Not Supported")

    nvml = types.ModuleType("pynvml")
    vars(nvml).update(
        NVMLError=NvmlError,
        NVML_CLOCK_SM=1,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMaxClockInfo=lambda handle, clock: 2100 if handle == 0 else unsupported(),
        nvmlDeviceGetEnforcedPowerLimit=lambda handle: 215000,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    write(tmp_path, {f"{CPUFREQ}/policy0/scaling_governor": "powersave"})
    mode = power_mode(tmp_path)
    assert (mode.nvpmodel, mode.jetson_clocks) == (None, None)
    assert mode.clocks == (
        Clock("policy0", "powersave"),
        Clock("gpu0", max_hertz=2.1e9, power_limit_watts=215.0),
        Clock("gpu1", power_limit_watts=215.0),
    )


def test_this_machine_fits_in_a_record() -> None:
    assert "clocks" in json.loads(json.dumps(asdict(power_mode())))
