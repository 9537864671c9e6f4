"""Metrics of the cameras that the gateway reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS_BUCKETS = (0.02, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)


class CameraMetrics:
    """Counts cameras' frames; cameras are named by the configuration alone.

    Attributes:
        latency: from reading a frame to its answer, seconds.
        up: 1 while pictures come and are answered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register them."""
        self._frames = Counter(
            "tandem_camera_frames",
            "Frames of the gateway's cameras, by outcome (detections, error, dropped).",
            ["camera", "outcome"],
            registry=registry,
        )
        self.latency = Histogram(
            "tandem_camera_latency_seconds",
            "From reading a camera's frame to its detections.",
            ["camera"],
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self.up = Gauge(
            "tandem_camera_up",
            "1 while a camera's pictures come and are answered.",
            ["camera"],
            registry=registry,
        )

    def count(self, camera: str, outcome: str) -> None:
        """Count a frame's answer."""
        self._frames.labels(camera, outcome).inc()
