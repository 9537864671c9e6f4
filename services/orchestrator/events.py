"""What happened since the orchestrator started: counted for status and for Prometheus."""

from __future__ import annotations

from collections import Counter

from common.telemetry.metrics import Metrics


class Events:
    """Counts switches, faults, replays and copies.

    Attributes:
        switches: changes of the automatic placement, by reason.
        failovers: stages and routes lost, by kind of fault.
        replayed_frames: frames sent again since their route was lost.
        probe_frames: copies of frames sent for measurement only.
    """

    def __init__(self, metrics: Metrics) -> None:
        """Begin at zero."""
        self._metrics = metrics
        self.switches: Counter[str] = Counter()
        self.failovers: Counter[str] = Counter()
        self.replayed_frames = 0
        self.probe_frames = 0

    def switched(self, reason: str) -> None:
        """Frames go another way from now on."""
        self.switches[reason] += 1
        self._metrics.switches.labels(reason).inc()

    def failed(self, fault: str) -> None:
        """A stage or a route was lost."""
        self.failovers[fault] += 1
        self._metrics.failovers.labels(fault).inc()

    def replayed(self) -> None:
        """A frame is sent again."""
        self.replayed_frames += 1
        self._metrics.replayed_frames.inc()

    def probed(self) -> None:
        """A copy of a frame was sent for measurement."""
        self.probe_frames += 1
        self._metrics.probe_frames.inc()
