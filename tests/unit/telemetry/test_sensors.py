"""Sensors found in trees like a TX2's, an Orin's and a PC's, and on this machine."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path
from typing import Dict, List

import pytest

from common.telemetry.sensors import Kind, find_sensors
from common.telemetry.sensors.base import Reading
from common.telemetry.sensors.nvidia import JtopBoard, jtop_board, nvml_gpus

DATA = Path(__file__).parents[2] / "data"


def values(sensors: list) -> Dict[Kind, Dict[str, float]]:
    found: Dict[Kind, Dict[str, float]] = {}
    for sensor in sensors:
        for reading in sensor.read():
            found.setdefault(reading.kind, {})[reading.name] = reading.value
    return found


def read(tree: str) -> Dict[Kind, Dict[str, float]]:
    return values(find_sensors(DATA / tree))


def test_a_tx2() -> None:
    found = read("sysfs-tx2")
    assert found[Kind.POWER] == {
        "VDD_SYS_GPU": pytest.approx(0.152),
        "VDD_SYS_SOC": pytest.approx(0.381),
        "VDD_4V0_WIFI": pytest.approx(0.019),
        "VDD_IN": pytest.approx(2.098),
        "VDD_SYS_CPU": pytest.approx(0.305),
        "VDD_SYS_DDR": pytest.approx(0.363),
    }
    assert found[Kind.LOAD] == {"gpu": pytest.approx(0.437)}
    assert found[Kind.TEMPERATURE]["GPU-therm"] == pytest.approx(32.0)
    assert "PMIC-Die" not in found[Kind.TEMPERATURE]
    assert Kind.ENERGY not in found


def test_an_orin() -> None:
    found = read("sysfs-orin")
    assert found[Kind.POWER] == {
        "VDD_IN": pytest.approx(6.2),
        "VDD_CPU_GPU_CV": pytest.approx(1.48),
        "VDD_SOC": pytest.approx(1.6),
    }
    assert found[Kind.LOAD] == {"gpu": pytest.approx(0.12)}
    assert len(found[Kind.TEMPERATURE]) == 4


def test_a_pc(tmp_path: Path) -> None:
    tree = tmp_path / "sys"
    shutil.copytree(str(DATA / "sysfs-pc"), str(tree))
    sensors = find_sensors(tree)
    assert values(sensors)[Kind.ENERGY] == {
        "package-0": 0,
        "package-0-core": 0,
        "package-0-dram": 0,
    }
    rapl = tree / "class" / "powercap"
    # The package's counter passes its range and starts over.
    (rapl / "intel-rapl:0" / "energy_uj").write_text("671150\n")
    (rapl / "intel-rapl:0:0" / "energy_uj").write_text("3500000\n")
    found = values(sensors)
    assert found[Kind.ENERGY]["package-0"] == pytest.approx(1.0)
    assert found[Kind.ENERGY]["package-0-core"] == pytest.approx(2.5)
    assert found[Kind.TEMPERATURE] == {"acpitz": 27.8, "x86_pkg_temp": 41.0}
    assert Kind.POWER not in found


def test_a_machine_without_sensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if nvidia-ml-py were not installed.
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_sensors(tmp_path) == []


def test_what_cannot_be_read_now_is_left_out(tmp_path: Path) -> None:
    tree = tmp_path / "sys"
    shutil.copytree(str(DATA / "sysfs-tx2"), str(tree))
    sensors = find_sensors(tree)
    (tree / "devices" / "gpu.0" / "load").unlink()
    (tree / "class" / "thermal" / "thermal_zone2" / "temp").write_text("N/A")
    found = values(sensors)
    assert Kind.LOAD not in found
    assert "GPU-therm" not in found[Kind.TEMPERATURE]
    assert len(found[Kind.POWER]) == 6


def test_this_machine() -> None:
    for sensor in find_sensors():
        for reading in sensor.read():
            assert reading.name
            assert reading.value >= -50
            assert reading.kind is not Kind.LOAD or reading.value <= 1


class _NvmlError(Exception):
    pass


def _nvml(**functions: object) -> types.ModuleType:
    """`pynvml` with these functions; the others say that the model does not support them."""

    def unsupported(*_: object) -> None:
        raise _NvmlError("Not Supported")

    names = (
        *("nvmlDeviceGetPowerUsage", "nvmlDeviceGetTotalEnergyConsumption"),
        *("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetTemperature"),
    )
    module = types.ModuleType("pynvml")
    given = {
        "NVMLError": _NvmlError,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        **dict.fromkeys(names, unsupported),
        **functions,
    }
    vars(module).update(given)
    return module


def nvml_readings(monkeypatch: pytest.MonkeyPatch, **functions: object) -> List[Reading]:
    monkeypatch.setitem(sys.modules, "pynvml", _nvml(**functions))
    return [reading for gpu in nvml_gpus() for reading in gpu.read()]


def test_a_gpu_of_a_pc(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = types.SimpleNamespace(used=2 << 30, total=8 << 30)
    readings = nvml_readings(
        monkeypatch,
        nvmlDeviceGetPowerUsage=lambda _: 21500,
        nvmlDeviceGetTotalEnergyConsumption=lambda _: 1500,
        nvmlDeviceGetUtilizationRates=lambda _: types.SimpleNamespace(gpu=42, memory=7),
        nvmlDeviceGetMemoryInfo=lambda _: memory,
    )
    assert readings == [
        Reading(Kind.POWER, "gpu0", 21.5),
        Reading(Kind.ENERGY, "gpu0", 1.5),
        Reading(Kind.LOAD, "gpu0", 0.42),
        Reading(Kind.MEMORY, "gpu0_used", 2 << 30),
        Reading(Kind.MEMORY, "gpu0_total", 8 << 30),
    ]


def test_a_pc_whose_driver_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise _NvmlError("Driver Not Loaded")

    assert nvml_readings(monkeypatch, nvmlInit=fail) == []


class _Jtop:
    """A client of jetson-stats, with what version 7.2 tells of an Orin NX."""

    power = {
        "rail": {
            "VDD_CPU_GPU_CV": {"online": True, "volt": 4992, "curr": 120, "power": 599},
            "VDD_SOC": {"online": False},
        },
        "tot": {"name": "VDD_IN", "power": 4720, "avg": 4700},
    }
    gpu = {"gpu": {"type": "integrated", "status": {"load": 43.7}}}
    temperature = {"cpu": {"online": True, "temp": 46.5}, "cv0": {"online": False, "temp": -256}}

    def __init__(self, ok: object = True, fault: object = None) -> None:
        self._ok, self._fault = ok, fault

    def start(self) -> None:
        if self._fault:
            raise self._fault

    def ok(self, spin: bool) -> object:
        assert spin, "else it waits for the next second"
        if isinstance(self._ok, Exception):
            raise self._ok
        return self._ok


def test_a_jetson_by_its_service() -> None:
    assert values([JtopBoard(_Jtop())]) == {
        Kind.POWER: {"VDD_CPU_GPU_CV": pytest.approx(0.599), "VDD_IN": pytest.approx(4.72)},
        Kind.LOAD: {"gpu": pytest.approx(0.437)},
        Kind.TEMPERATURE: {"cpu": 46.5},
    }


def test_a_jetson_whose_board_has_no_rail_of_its_own() -> None:
    client = _Jtop()
    client.power = {"rail": {"CPU": {"power": 500}}, "tot": {"power": 500, "avg": 500}}
    assert values([JtopBoard(client)])[Kind.POWER] == {"CPU": 0.5}


@pytest.mark.parametrize("ok", [False, OSError("Lost connection with jtop server")])
def test_a_service_that_stopped_tells_nothing(ok: object) -> None:
    assert JtopBoard(_Jtop(ok)).read() == []


@pytest.mark.parametrize("fault", [None, "stopped", "missing"])
def test_the_service_of_jetson_stats_is_optional(
    fault: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class JtopError(Exception):
        pass

    socket = tmp_path / "jtop.sock"
    assert jtop_board(socket) == []
    socket.touch()
    module = types.ModuleType("jtop")
    raised = JtopError("The jtop.service is not active") if fault == "stopped" else None
    module.JtopException, module.jtop = JtopError, lambda: _Jtop(fault=raised)
    monkeypatch.setitem(sys.modules, "jtop", None if fault == "missing" else module)
    assert len(jtop_board(socket)) == (0 if fault else 1)
