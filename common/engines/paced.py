"""An engine that imitates a device of known speed; what runs on it is labelled simulated."""

from __future__ import annotations

import time
from typing import Dict, Mapping

import numpy as np

from common.engines.base import Engine


class PacedEngine:
    """Holds each result of a real engine until a given time has passed since its start."""

    def __init__(self, engine: Engine, duration_seconds: float) -> None:
        """Pace `engine` to `duration_seconds` an execution, or its own time if that is longer."""
        self._engine = engine
        self._duration_seconds = duration_seconds

    @property
    def description(self) -> str:
        """The real engine's, labelled simulated."""
        milliseconds = self._duration_seconds * 1000
        return f"{self._engine.description}, simulated pace {milliseconds:g} ms"

    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Execute once; see `common.engines.base.Engine.run`."""
        end = time.perf_counter() + self._duration_seconds
        outputs = self._engine.run(inputs)
        time.sleep(max(0.0, end - time.perf_counter()))
        return outputs

    def close(self) -> None:
        """Release the real engine."""
        self._engine.close()
