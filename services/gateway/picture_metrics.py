"""Metrics of the single pictures that doors take."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)


class PictureMetrics:
    """Counts pictures and the streams that serve them.

    Attributes:
        pictures: by outcome: detections; error, of the picture's own; failed; left, by its caller.
        seconds: from a picture's coming to its detections, waits included.
        streams: of the orchestrator that are open for pictures.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register them."""
        self.pictures = Counter(
            "tandem_pictures",
            "Single pictures that doors took, by outcome (detections, error, failed, left).",
            ["outcome"],
            registry=registry,
        )
        self.seconds = Histogram(
            "tandem_picture_seconds",
            "From a picture's coming at the gateway to its detections.",
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self.streams = Gauge(
            "tandem_picture_streams",
            "Streams of the orchestrator that are open for single pictures.",
            registry=registry,
        )
