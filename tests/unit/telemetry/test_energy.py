"""Energy from power, power from energy, and both as metrics."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Dict, List, Optional

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from common.telemetry.exposition import MetricsServer
from common.telemetry.metrics import Metrics
from common.telemetry.sensors import Kind, find_sensors
from common.telemetry.sensors.base import Reading
from common.telemetry.sensors.meter import EnergyMeter

DATA = Path(__file__).parents[2] / "data"


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> EnergyMeter:
    return EnergyMeter(clock)


def power(watts: float, rail: str = "VDD_IN") -> List[Reading]:
    return [Reading(Kind.POWER, rail, watts)]


def counter(joules: float, rail: str = "package-0") -> List[Reading]:
    return [Reading(Kind.ENERGY, rail, joules)]


def test_power_is_integrated_by_trapezoids(clock: Clock, meter: EnergyMeter) -> None:
    for seconds, watts in ((0, 2), (1, 4), (3, 0), (4, 0)):
        clock.seconds = 100 + seconds
        meter.add(power(watts))
    assert meter.joules() == {"VDD_IN": pytest.approx(3 + 4)}
    assert meter.watts() == {"VDD_IN": 0}


@pytest.mark.parametrize(
    ("rails", "expected"),
    [
        ({}, None),
        ({"VDD_SYS_GPU": 3.0}, None),
        ({"VDD_IN": 9.0, "VDD_SYS_GPU": 3.0}, 9.0),
        ({"package-0": 30.0, "package-0-core": 20.0, "package-1": 5.0, "gpu0": 100.0}, 135.0),
    ],
)
def test_the_power_of_the_whole_device(
    meter: EnergyMeter, rails: Dict[str, float], expected: Optional[float]
) -> None:
    meter.add([reading for rail, watts in rails.items() for reading in power(watts, rail)])
    assert meter.device_watts() == expected


def test_energy_starts_at_zero(meter: EnergyMeter) -> None:
    meter.add(power(5) + counter(9000))
    assert meter.joules() == {"VDD_IN": 0, "package-0": 0}
    assert meter.watts() == {"VDD_IN": 5}


def test_a_long_gap_counts_nothing(clock: Clock, meter: EnergyMeter) -> None:
    meter.add(power(5))
    clock.seconds += 3600
    meter.add(power(5))
    clock.seconds += 1
    meter.add(power(5))
    assert meter.joules() == {"VDD_IN": pytest.approx(5)}


def test_a_counter_gives_energy_and_power(clock: Clock, meter: EnergyMeter) -> None:
    for joules in (9000, 9010, 9050):
        meter.add(counter(joules))
        clock.seconds += 2
    assert meter.joules() == {"package-0": 50}
    assert meter.watts() == {"package-0": 20}


def test_a_counter_that_goes_back_counts_nothing(clock: Clock, meter: EnergyMeter) -> None:
    meter.add(counter(9000))
    clock.seconds += 1
    meter.add(counter(10))
    clock.seconds += 1
    meter.add(counter(15))
    assert meter.joules() == {"package-0": 5}


def test_a_rail_with_both_is_not_counted_twice(clock: Clock, meter: EnergyMeter) -> None:
    for joules in (0, 7):
        meter.add(power(50, "gpu0") + counter(joules, "gpu0"))
        clock.seconds += 1
    assert meter.joules() == {"gpu0": 7}
    assert meter.watts() == {"gpu0": 50}


def test_a_rail_that_is_gone_has_no_power(clock: Clock, meter: EnergyMeter) -> None:
    meter.add(power(5))
    clock.seconds += 1
    meter.add([])
    assert meter.watts() == {}
    assert meter.joules() == {"VDD_IN": 0}


def served(metrics: Metrics) -> str:
    server = MetricsServer(metrics, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{server.port}/metrics"
        with urllib.request.urlopen(url, timeout=60) as response:
            return response.read().decode()
    finally:
        server.close()


@pytest.mark.parametrize("tree", ["sysfs-tx2", "sysfs-orin", "sysfs-pc"])
def test_sensors_are_served_as_metrics(tree: str) -> None:
    text = served(Metrics(find_sensors(DATA / tree)))
    families = {family.name: family for family in text_string_to_metric_families(text)}
    rails = {sample.labels["rail"] for sample in families["tandem_energy_joules"].samples}
    assert rails >= ({"package-0"} if tree == "sysfs-pc" else {"VDD_IN"})
    powers = {one.labels["rail"]: one.value for one in families["tandem_power_watts"].samples}
    assert powers.get("VDD_IN") == {"sysfs-tx2": 2.098, "sysfs-orin": 6.2}.get(tree)
    assert families["tandem_temperature_celsius"].samples
    kinds = {sample.labels["kind"] for sample in families["tandem_memory_bytes"].samples}
    assert kinds >= {"process_rss", "system_used", "system_total"}
    promtool = shutil.which("promtool")
    if promtool is not None:
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, text=True
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


class Counting:
    """A sensor that tells on which threads it is read."""

    def __init__(self) -> None:
        self.threads: List[str] = []

    def read(self) -> List[Reading]:
        self.threads.append(threading.current_thread().name)
        return power(5)


def test_sensors_are_read_by_a_thread_of_their_own_and_never_by_a_scrape() -> None:
    sensor = Counting()
    metrics = Metrics([sensor])
    server = MetricsServer(metrics, "127.0.0.1", 0)
    for _ in range(20):
        generate_latest(metrics.registry)
    deadline = time.monotonic() + 60
    while len(sensor.threads) < 2 and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    server.close()
    assert sensor.threads[1:] == ["sensors"] * (len(sensor.threads) - 1) != []
    assert sensor.threads[0] == threading.current_thread().name
    assert not any(thread.name == "sensors" for thread in threading.enumerate())
