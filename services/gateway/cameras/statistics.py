"""What a camera reaches: frames a second, latency, drops."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable

_WINDOW_SECONDS = 5.0


class CameraStatistics:
    """Counts a camera's answers.

    Attributes:
        frames: answered with detections.
        dropped: that a newer one replaced.
        failed: answered with an error.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing has been answered; `clock` is in seconds."""
        self.frames = self.dropped = self.failed = 0
        self._clock = clock
        self._started = self._answered_at = clock()
        self._latest: deque[tuple[float, float]] = deque()

    def note_detections(self, latency_seconds: float) -> None:
        """A frame was answered with detections."""
        self.frames += 1
        self._answered_at = self._clock()
        self._latest.append((self._answered_at, latency_seconds))
        self._forget()

    @property
    def silent_seconds(self) -> float:
        """Since the latest answer with detections."""
        return self._clock() - self._answered_at

    @property
    def frames_per_second(self) -> float:
        """Of the answers with detections in the last seconds."""
        self._forget()
        age = self._clock() - self._started
        return len(self._latest) / max(1.0, min(_WINDOW_SECONDS, age))

    @property
    def latency_seconds(self) -> float:
        """Median of the last seconds; 0 without any answer."""
        self._forget()
        return statistics.median(seconds for _, seconds in self._latest) if self._latest else 0.0

    def _forget(self) -> None:
        oldest = self._clock() - _WINDOW_SECONDS
        while self._latest and self._latest[0][0] < oldest:
            self._latest.popleft()
