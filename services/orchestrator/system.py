"""What all sessions share: the router, channels to the stages, counts."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Deque, Dict, Mapping, Optional, Set

import grpc

from common.domain.placement import NodePair, StageAddress
from common.server.account import StreamBytes
from common.telemetry.metrics import Metrics
from protos.tandem.v1 import detector_pb2
from services.orchestrator.dispatch import Dispatcher
from services.orchestrator.placement import StageHealth
from services.orchestrator.routing import Router

RATE_WINDOW_SECONDS = 10.0
# Often enough to find a route that makes no progress well before people do.
_TICK_SECONDS = 0.25


class System:
    """The orchestrator's state.

    Attributes:
        router: knows where frames go.
        metrics: of this service.
        draining: set once SIGTERM has come.
        window: frames of one session in flight; 0: each session finds its own.
        started: when the orchestrator began, by `time.monotonic`.
    """

    def __init__(
        self,
        *,
        channels: Mapping[StageAddress, grpc.aio.Channel],
        router: Router,
        metrics: Metrics,
        draining: asyncio.Event,
        window: int,
    ) -> None:
        """Take over what was composed."""
        self.router = router
        self.metrics = metrics
        self.draining = draining
        self.window = window
        self.started = time.monotonic()
        self._channels = channels
        self._dispatchers: Set[Dispatcher] = set()
        self._healthy: Set[StageAddress] = set()
        self._served: Dict[NodePair, int] = dict.fromkeys(router.table.pairs, 0)
        self._recent: Dict[NodePair, Deque[float]] = {each: deque() for each in router.table.pairs}

    def dispatcher(
        self,
        session_id: str,
        wanted: Optional[NodePair],
        options: detector_pb2.StreamOptions,
        account: StreamBytes,
    ) -> Dispatcher:
        """A new session's dispatcher; to be given back by `dismiss`."""
        dispatcher = Dispatcher(
            session_id, wanted, options, self.router, self._channels, account=account
        )
        self._dispatchers.add(dispatcher)
        return dispatcher

    async def dismiss(self, dispatcher: Dispatcher) -> None:
        """A session ends: close its routes."""
        self._dispatchers.discard(dispatcher)
        await dispatcher.close()

    def note(self, state: StageHealth) -> None:
        """Take over a stage's new state."""
        address = state.address
        self.router.note(state, was_healthy=address in self._healthy)
        if state.healthy:
            self._healthy.add(address)
        else:
            self._healthy.discard(address)
        for dispatcher in self._dispatchers:
            # One that drains still answers what it has read.
            if state.silent:
                dispatcher.stage_lost(address, state.reason)
            dispatcher.stage_changed(address)
        self._show_health(address)

    async def run(self) -> None:
        """Look after routes, choice and metrics until cancelled."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self.router.draining = self.draining.is_set()
            now = time.monotonic()
            for dispatcher in tuple(self._dispatchers):
                dispatcher.check(now)
                await dispatcher.leave_idle_routes(now)
            self.router.tick()
            self.show_choice()

    def show_choice(self) -> None:
        """Bring the metrics of placement and estimates up to date."""
        current = self.router.current()
        for pair in self.router.table.pairs:
            self.metrics.placement.labels(pair.name).set(pair == current)
            prediction = self.router.decision.predictions.get(pair)
            if prediction is not None and prediction.frames_per_second is not None:
                self.metrics.predicted_frames_per_second.labels(pair.name).set(
                    prediction.frames_per_second
                )
        estimates = self.router.estimates
        for (node, stage), estimate in estimates.stages.items():
            self.metrics.stage_estimate.labels(node, stage.value).set(estimate.execute_seconds)
        for (source, destination), link in estimates.links.items():
            self.metrics.link_estimate.labels(source, destination).set(link.bytes_per_second)

    def count(self, pair: Optional[NodePair], outcome: str, seconds: float) -> None:
        """Count one answer."""
        name = pair.name if pair else "none"
        if outcome == "dropped":
            # It was not served, so that its latency would say nothing.
            self.metrics.count_frame(name, outcome)
            return
        self.metrics.observe_frame(name, outcome, seconds)
        if pair is not None and outcome == "detections":
            self._served[pair] += 1
            self._recent[pair].append(time.monotonic())
            self._forget_old(pair)

    def frames_served(self, pair: NodePair) -> int:
        """Frames answered with detections, since the start."""
        return self._served.get(pair, 0)

    def frames_per_second(self, pair: NodePair) -> float:
        """Frames answered with detections a second, over the last `RATE_WINDOW_SECONDS`."""
        if pair not in self._recent:
            return 0.0
        self._forget_old(pair)
        elapsed = min(RATE_WINDOW_SECONDS, time.monotonic() - self.started)
        return len(self._recent[pair]) / max(elapsed, 1e-3)

    def _show_health(self, address: StageAddress) -> None:
        """A stage of a node is up while one of its replicas is."""
        up = any(
            state.healthy
            for other, state in self.router.table.states.items()
            if (other.node, other.stage) == (address.node, address.stage)
        )
        self.metrics.node_up.labels(address.node, address.stage.value).set(up)
        self.show_choice()

    def _forget_old(self, pair: NodePair) -> None:
        recent = self._recent[pair]
        oldest = time.monotonic() - RATE_WINDOW_SECONDS
        while recent and recent[0] < oldest:
            recent.popleft()
