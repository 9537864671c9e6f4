"""What is counted, for the status and for Prometheus: events, and the frames of each node pair."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from typing import DefaultDict, Deque, Optional

from common.domain.models import DEFAULT_MODEL
from common.domain.placement import NodePair
from common.domain.status import EventCounts
from common.telemetry.metrics import Metrics
from common.telemetry.tracing import NOT_TRACED, Span

RATE_WINDOW_SECONDS = 10.0


class EventCounters:
    """Counts switches, faults, retries and mirrored requests since the orchestrator started."""

    def __init__(self, metrics: Metrics) -> None:
        """Begin at zero."""
        self._metrics = metrics
        self._switches: Counter[str] = Counter()
        self._failovers: Counter[str] = Counter()
        self._retried_frames = 0
        self._mirrored_frames = 0

    @property
    def counts(self) -> EventCounts:
        """The counts as they are now."""
        return EventCounts(
            dict(self._switches),
            dict(self._failovers),
            self._retried_frames,
            self._mirrored_frames,
        )

    def switched(self, reason: str) -> None:
        """The active node pair was replaced by another."""
        self._switches[reason] += 1
        self._metrics.switches.labels(reason).inc()

    def became_unavailable(self, fault: str) -> None:
        """A stage or a route became unavailable by this kind of fault."""
        self._failovers[fault] += 1
        self._metrics.failovers.labels(fault).inc()

    def retried(self) -> None:
        """A frame is sent again."""
        self._retried_frames += 1
        self._metrics.replayed_frames.inc()

    def mirrored(self) -> None:
        """A mirrored request was sent."""
        self._mirrored_frames += 1
        self._metrics.probe_frames.inc()


class PairCounters:
    """Counts how many frames each node pair serves."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._served: Counter[NodePair] = Counter()
        self._recent: DefaultDict[NodePair, Deque[float]] = defaultdict(deque)

    def served(self, node_pair: NodePair, now: float) -> None:
        """Count a frame answered with detections; `now` by `time.monotonic`."""
        self._served[node_pair] += 1
        recent = self._recent[node_pair]
        recent.append(now)
        _forget_old(recent, now)

    def frames(self, node_pair: NodePair) -> int:
        """Frames answered with detections since the start."""
        return self._served[node_pair]

    def recent_frames(self, node_pair: NodePair) -> int:
        """Frames answered with detections over the last `RATE_WINDOW_SECONDS`."""
        recent = self._recent.get(node_pair)
        if recent is None:
            return 0
        _forget_old(recent, time.monotonic())
        return len(recent)


class FrameCounters:
    """Counts answered frames, and how many each node pair serves, of all models and of each."""

    def __init__(self, metrics: Metrics) -> None:
        """Begin at zero."""
        self._metrics = metrics
        self._started_at = time.monotonic()
        self._all = PairCounters()
        self._of_models: DefaultDict[str, PairCounters] = defaultdict(PairCounters)

    @property
    def uptime_seconds(self) -> float:
        """Time since the orchestrator started."""
        return time.monotonic() - self._started_at

    def answered(
        self,
        node_pair: Optional[NodePair],
        outcome: str,
        seconds: float,
        span: Span = NOT_TRACED,
        *,
        model: str = DEFAULT_MODEL,
    ) -> None:
        """Count one answer.

        Args:
            node_pair: nodes that served the frame; None when none did.
            outcome: `detections`, `error` or `dropped`.
            seconds: from reading the frame to its answer.
            span: of the frame, if it is traced.
            model: that the frame was for.
        """
        self._metrics.count_model_frame(model, outcome)
        name = node_pair.name if node_pair else "none"
        if outcome == "dropped":
            # It was not served, so that its latency would say nothing.
            self._metrics.count_frame(name, outcome)
            return
        self._metrics.observe_frame(name, outcome, seconds, span)
        if node_pair is not None and outcome == "detections":
            now = time.monotonic()
            self._all.served(node_pair, now)
            self._of_models[model].served(node_pair, now)

    def frames_served(self, node_pair: NodePair, model: Optional[str] = None) -> int:
        """Frames answered with detections since the start, of a model; None: of all."""
        return self._counters(model).frames(node_pair)

    def frames_per_second(self, node_pair: NodePair, model: Optional[str] = None) -> float:
        """The same a second, over the last `RATE_WINDOW_SECONDS`."""
        elapsed_seconds = min(RATE_WINDOW_SECONDS, self.uptime_seconds)
        return self._counters(model).recent_frames(node_pair) / max(elapsed_seconds, 1e-3)

    def _counters(self, model: Optional[str]) -> PairCounters:
        return self._all if model is None else self._of_models.get(model, PairCounters())


def _forget_old(recent: Deque[float], now: float) -> None:
    oldest = now - RATE_WINDOW_SECONDS
    while recent and recent[0] < oldest:
        recent.popleft()
