"""Power and energy of every rail, although most sensors tell only one of the two."""

from __future__ import annotations

import re
import threading
import time
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from common.telemetry.sensors.base import Kind, Reading, Sensor

_PERIOD_SECONDS = 1.0
# After such a long pause, as of a suspended machine, nobody knows what was drawn meanwhile.
_LONGEST_GAP_SECONDS = 60.0
# Of a Jetson; it contains the other rails. A Xavier or a Thor and a Nano have other names for it.
_MODULE_RAILS = ("VDD_IN", "VIN", "POM_5V_IN")
# RAPL's domains of whole processors, and the GPUs that NVML knows.
_OUTER_RAIL = re.compile(r"(package-|gpu)\d+")


class EnergyMeter:
    """Integrates power to energy by trapezoids, and differentiates energy to power.

    Energy starts at 0 with the first sample. Power is taken to change linearly between two samples,
    unless they are more than a minute apart: such a gap adds no energy. A rail that has an energy
    counter of its own (RAPL, NVML) is not integrated.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the time from `clock`, which counts seconds."""
        self._clock = clock
        self._last: Dict[Tuple[Kind, str], Tuple[float, float]] = {}
        self._joules: Dict[str, float] = {}
        self._watts: Dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, readings: Sequence[Reading]) -> None:
        """Add one sample of every rail. Readings of other kinds are ignored."""
        now = self._clock()
        counted = {reading.name for reading in readings if reading.kind is Kind.ENERGY}
        told = {reading.name for reading in readings if reading.kind is Kind.POWER}
        with self._lock:
            # The power of a rail that cannot be read any more is unknown.
            self._watts = {
                name: self._watts.get(name, 0.0) for name in counted - told if name in self._watts
            }
            for reading in readings:
                if reading.kind is Kind.POWER:
                    self._watts[reading.name] = reading.value
                    if reading.name not in counted:
                        self._integrate(reading, now)
                elif reading.kind is Kind.ENERGY:
                    self._count(reading, now, reading.name not in told)

    def joules(self) -> Dict[str, float]:
        """The energy of every rail since its first sample, joules."""
        with self._lock:
            return dict(self._joules)

    def watts(self) -> Dict[str, float]:
        """The power of every rail at the last sample, or between the last two, watts."""
        with self._lock:
            return dict(self._watts)

    def device_watts(self) -> Optional[float]:
        """The power of the whole device, watts; None where no sensor tells it.

        On a Jetson this is the rail that feeds the module, else processors and GPUs together.
        """
        watts = self.watts()
        for rail in _MODULE_RAILS:
            if rail in watts:
                return watts[rail]
        outer = [value for rail, value in watts.items() if _OUTER_RAIL.fullmatch(rail)]
        return sum(outer) if outer else None

    def _previous(self, reading: Reading, now: float) -> Tuple[float, float]:
        """Time and value of the previous sample, or of this one if it is the first."""
        key = (reading.kind, reading.name)
        previous = self._last.get(key, (now, reading.value))
        self._last[key] = (now, reading.value)
        self._joules.setdefault(reading.name, 0.0)
        return previous

    def _integrate(self, reading: Reading, now: float) -> None:
        then, before = self._previous(reading, now)
        if now - then <= _LONGEST_GAP_SECONDS:
            self._joules[reading.name] += (before + reading.value) / 2 * (now - then)

    def _count(self, reading: Reading, now: float, is_power_wanted: bool) -> None:
        then, before = self._previous(reading, now)
        # A counter goes back when its driver is loaded anew.
        step = max(0.0, reading.value - before)
        self._joules[reading.name] += step
        if is_power_wanted and now > then:
            self._watts[reading.name] = step / (now - then)


class Sampler:
    """Reads sensors once a second on a thread of its own, so that no frame waits for them."""

    def __init__(self, sensors: Sequence[Sensor], meter: EnergyMeter) -> None:
        """Prepare to add samples of `sensors` to `meter`; `start` begins."""
        self._sensors = sensors
        self._meter = meter
        self._latest: List[Reading] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sensors", daemon=True)

    @property
    def latest(self) -> List[Reading]:
        """The last readings, of every kind."""
        return self._latest

    def start(self) -> None:
        """Read all sensors once, and then on the thread; without sensors there is no thread."""
        if self._sensors:
            self._sample()
            self._thread.start()

    def close(self) -> None:
        """Stop sampling."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_PERIOD_SECONDS):
            self._sample()

    def _sample(self) -> None:
        readings = [reading for sensor in self._sensors for reading in sensor.read()]
        self._meter.add(readings)
        self._latest = readings
