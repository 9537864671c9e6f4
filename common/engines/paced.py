"""An engine that imitates a device of known speed; what runs on it is labelled simulated."""

from __future__ import annotations

import time
from typing import Dict, Mapping, Optional

import numpy as np

from common.engines.base import Engine
from common.engines.device import SharedDevice


class PacedEngine:
    """Holds each result of a real engine until a given time has passed since its start.

    On a shared device the start is when the executions queued there before are over.
    """

    def __init__(
        self, engine: Engine, duration_seconds: float, device: Optional[SharedDevice] = None
    ) -> None:
        """Pace `engine` to `duration_seconds` an execution, or its own time if that is longer.

        Args:
            engine: what computes.
            duration_seconds: of one execution.
            device: which is taken for that time; None for one of the engine's own. It is closed
                with the engine.
        """
        self._engine = engine
        self._duration_seconds = duration_seconds
        self._device = device

    @property
    def description(self) -> str:
        """The real engine's, labelled simulated."""
        pace = f"simulated pace {self._duration_seconds * 1000:g} ms"
        shared = f" on shared device {self._device.name}" if self._device else ""
        return f"{self._engine.description}, {pace}{shared}"

    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Execute once; see `common.engines.base.Engine.run`."""
        start = time.monotonic()
        if self._device is not None:
            start = self._device.reserve(self._duration_seconds)
            _sleep_until(start)
        outputs = self._engine.run(inputs)
        _sleep_until(start + self._duration_seconds)
        return outputs

    def close(self) -> None:
        """Release the real engine, and leave the device."""
        self._engine.close()
        if self._device is not None:
            self._device.close()


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
