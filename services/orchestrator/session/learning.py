"""What a session learns from its answers: how fast its route is, and how many frames to keep on it.

Everything here is done without waiting, between an answer's coming and its writing.
"""

from __future__ import annotations

import time
from typing import Optional

from common.domain.codec import Codec
from common.domain.placement import NodePair
from common.telemetry.metrics import Metrics
from common.wire.frames import known_codec_from_wire
from protos.tandem.v1 import detection_pb2
from services.orchestrator.routing.router import Router
from services.orchestrator.routing.routes import Route
from services.orchestrator.session.crowd import SessionTurns, Turn
from services.orchestrator.session.gate import NewestWinsGate, WindowSlots
from services.orchestrator.session.rate_control import RateControl
from services.orchestrator.session.window import MIN_WINDOW, Transfer, WindowEstimator


class SessionLearning:
    """Learns from a session's answers.

    Attributes:
        node_pair: that served its latest frame; None before the first.
        codec: by which the features of that frame travelled; None: not known.
        slots: of its window.
        gate: of a live stream, lets its newest frame in; None for any other stream.
    """

    def __init__(
        self,
        router: Router,
        rates: RateControl,
        turns: SessionTurns,
        metrics: Metrics,
        *,
        window: int,
        is_live: bool,
    ) -> None:
        """Begin with nothing known.

        Args:
            router: of the session's model.
            rates: of the session.
            turns: of the session.
            metrics: those of this service.
            window: frames in flight; 0: as many as is found to be best.
            is_live: whether the newest frame takes the place of those that wait.
        """
        self.node_pair: Optional[NodePair] = None
        self.codec: Optional[Codec] = None
        self._router = router
        self._rates = rates
        self._turns = turns
        self._metrics = metrics
        self.gate = NewestWinsGate(MIN_WINDOW, turns) if is_live else None
        self._estimator = WindowEstimator(is_live=is_live)
        self._adapts_window = is_live or not window
        self.slots = WindowSlots(window or self._estimator.window)

    def begin(self) -> None:
        """The session has begun, and its window counts."""
        self._metrics.window.inc(self.slots.size)

    def learn(
        self,
        route: Route,
        timing: detection_pb2.Timing,
        turn: Turn,
        needed_bytes: Optional[int],
        frames_in_flight: int,
    ) -> None:
        """Learn from a frame that was answered with detections.

        Args:
            route: that it took.
            timing: what both stages tell of it, and how long it took in all.
            turn: that it has.
            needed_bytes: of video, what a frame like this takes on the way; None: a picture.
            frames_in_flight: of the session, this one among them.
        """
        node_pair = route.node_pair
        if node_pair != self.node_pair:
            self.node_pair = node_pair
            self._estimator.reset()
            self._turns.join(node_pair)
        window_is_full = frames_in_flight >= self.slots.size
        backlogged = window_is_full if self.gate is None else self.gate.crowded
        self._router.served(route, timing, backlogged=backlogged, frame_bytes=needed_bytes)
        self._learn_rate(node_pair, timing, backlogged=backlogged)
        self._adapt_windows(timing, backlogged, turn)

    def end(self) -> None:
        """The session has ended, and its window with it."""
        self._resize_window(0)

    def _learn_rate(
        self, node_pair: NodePair, timing: detection_pb2.Timing, *, backlogged: bool
    ) -> None:
        self.codec = known_codec_from_wire(timing.backbone.codec)
        if not self._rates.chooses:
            return
        estimates = self._router.measurements.estimates
        link = estimates.link(node_pair.backbone, node_pair.transformer)
        self._rates.answered(
            node_pair,
            timing,
            backlogged=backlogged,
            round_trip_seconds=link.latency_seconds if link else 0.0,
            now=time.monotonic(),
        )

    def _adapt_windows(self, timing: detection_pb2.Timing, backlogged: bool, turn: Turn) -> None:
        backbone, transformer = timing.backbone, timing.transformer
        queue_seconds = backbone.queue_seconds + transformer.queue_seconds
        transfers = _transfer(backbone), _transfer(transformer)
        execute_seconds = backbone.execute_seconds + transformer.execute_seconds
        turn.learn(queue_seconds, execute_seconds, transfers)
        if not self._adapts_window:
            return
        if not backlogged:
            self._estimator.pause()
            return
        self._estimator.observe(
            time.perf_counter(),
            timing.total_seconds,
            queue_seconds + turn.waited_seconds,
            transfers,
            max(backbone.execute_seconds, transformer.execute_seconds),
        )
        window = self._estimator.window
        if self.gate is not None:
            self.gate.resize(window)
        elif window != self.slots.size:
            self._resize_window(window)

    def _resize_window(self, size: int) -> None:
        self._metrics.window.inc(size - self.slots.size)
        self.slots.resize(size)


def _transfer(timing: detection_pb2.StageTiming) -> Transfer:
    return Transfer(timing.request_bytes, timing.transfer_seconds)
