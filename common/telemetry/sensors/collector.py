"""Sensors as Prometheus metrics, in base units."""

from __future__ import annotations

from typing import Iterator, Optional, Sequence

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from common.telemetry.sensors.base import Kind, Sensor
from common.telemetry.sensors.meter import EnergyMeter, Sampler


class SensorCollector(Collector):
    """Tells the last samples of sensors, and the memory of process and system when scraped."""

    def __init__(self, sensors: Sequence[Sensor]) -> None:
        """Tell what `sensors` read; `start` begins to read them."""
        self._meter = EnergyMeter()
        self._sampler = Sampler(sensors, self._meter)

    def start(self) -> None:
        """Start sampling."""
        self._sampler.start()

    def device_watts(self) -> Optional[float]:
        """The power of the whole device at the last sample, watts; None if no sensor tells it."""
        return self._meter.device_watts()

    def close(self) -> None:
        """Stop sampling."""
        self._sampler.close()

    def describe(self) -> Iterator[Metric]:
        """Yield the same families, for scrapes that ask for some of them by name."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield all families. Those without a sensor have no samples."""
        power = GaugeMetricFamily(
            "tandem_power_watts",
            "Power drawn, by rail; no samples where no sensor can be read.",
            labels=["rail"],
        )
        for rail, watts in sorted(self._meter.watts().items()):
            power.add_metric([rail], watts)
        yield power
        energy = CounterMetricFamily(
            "tandem_energy_joules",
            "Energy drawn since this service started, by rail.",
            labels=["rail"],
        )
        for rail, joules in sorted(self._meter.joules().items()):
            energy.add_metric([rail], joules)
        yield energy
        load = GaugeMetricFamily(
            "tandem_gpu_load_ratio", "Share of the time that a GPU is at work.", labels=["gpu"]
        )
        yield self._with(load, Kind.LOAD)
        temperature = GaugeMetricFamily(
            "tandem_temperature_celsius", "Temperature, by zone.", labels=["zone"]
        )
        yield self._with(temperature, Kind.TEMPERATURE)
        yield self._with(_memory(), Kind.MEMORY)

    def _with(self, family: GaugeMetricFamily, kind: Kind) -> GaugeMetricFamily:
        for reading in self._sampler.latest:
            if reading.kind is kind:
                family.add_metric([reading.name], reading.value)
        return family


def _memory() -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "tandem_memory_bytes",
        "Memory, by kind: process_rss of this service, system_used and system_total, and of each "
        "GPU with memory of its own.",
        labels=["kind"],
    )
    system = psutil.virtual_memory()
    family.add_metric(["process_rss"], psutil.Process().memory_info().rss)
    family.add_metric(["system_used"], system.total - system.available)
    family.add_metric(["system_total"], system.total)
    return family
