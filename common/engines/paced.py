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
        self,
        engine: Engine,
        duration_seconds: float,
        device: Optional[SharedDevice] = None,
        batch_seconds: Optional[Mapping[int, float]] = None,
    ) -> None:
        """Pace `engine` to `duration_seconds` an execution, or its own time if that is longer.

        Args:
            engine: what computes.
            duration_seconds: of one frame's execution.
            device: which is taken for that time; None for one of the engine's own. It is closed
                with the engine.
            batch_seconds: of one execution of so many frames at once; see `paced_seconds`.
        """
        self._engine = engine
        self._duration_seconds = duration_seconds
        self._device = device
        self._batch_seconds = dict(batch_seconds or {})

    @property
    def description(self) -> str:
        """The real engine's, labelled simulated."""
        pace = f"simulated pace {self._duration_seconds * 1000:g} ms"
        for frames, seconds in sorted(self._batch_seconds.items()):
            pace += f", {seconds * 1000:g} ms for {frames} frames"
        shared = f" on shared device {self._device.name}" if self._device else ""
        return f"{self._engine.description}, {pace}{shared}"

    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Execute once; see `common.engines.base.Engine.run`."""
        frames = next(iter(inputs.values())).shape[0]
        seconds = paced_seconds(frames, self._duration_seconds, self._batch_seconds)
        start = time.monotonic()
        if self._device is not None:
            start = self._device.reserve(seconds)
            _sleep_until(start)
        outputs = self._engine.run(inputs)
        _sleep_until(start + seconds)
        return outputs

    def close(self) -> None:
        """Release the real engine, and leave the device."""
        self._engine.close()
        if self._device is not None:
            self._device.close()


def paced_seconds(frames: int, seconds_of_one: float, batch_seconds: Mapping[int, float]) -> float:
    """How long an imitated device takes for so many frames at once.

    Args:
        frames: in one execution; at least 1.
        seconds_of_one: for a single frame.
        batch_seconds: for some larger numbers of frames. Between two of the numbers known the time
            is proportional; beyond the largest, the device gains nothing more.
    """
    known = sorted({**batch_seconds, 1: seconds_of_one}.items())
    most, most_seconds = known[-1]
    if frames > most:
        return most_seconds * frames / most
    return float(np.interp(frames, [each for each, _ in known], [each for _, each in known]))


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
