"""What all sessions share: stages' states, the placement set, counts."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Deque, Dict, Mapping, Optional

import grpc

from common.domain.errors import TandemError
from common.domain.placement import Placement, StageAddress
from common.telemetry.metrics import Metrics
from services.orchestrator.placement import (
    Route,
    StageHealth,
    StageStates,
    choose_route,
)

RATE_WINDOW_SECONDS = 10.0


class System:
    """The orchestrator's state.

    Attributes:
        channels: to each stage.
        metrics: of this service.
        draining: set once SIGTERM has come.
        window: frames of one session in flight; 0: each session finds its own.
        setting: placement of the streams that leave it to the server; None is automatic.
        started: when the orchestrator began, by `time.monotonic`.
    """

    def __init__(
        self,
        *,
        channels: Mapping[StageAddress, grpc.aio.Channel],
        states: StageStates,
        metrics: Metrics,
        draining: asyncio.Event,
        window: int,
        setting: Optional[Placement],
    ) -> None:
        """Take over what was composed; `states` is kept up to date by the monitor."""
        self.channels = channels
        self.metrics = metrics
        self.draining = draining
        self.window = window
        self.setting = setting
        self.started = time.monotonic()
        self._states = states
        self._served: Dict[Placement, int] = dict.fromkeys(Placement, 0)
        self._recent: Dict[Placement, Deque[float]] = {each: deque() for each in Placement}

    @property
    def states(self) -> StageStates:
        """What is known of every stage."""
        return self._states

    def route(self, wanted: Optional[Placement]) -> Route:
        """Where a frame goes now.

        Args:
            wanted: what its client asked for; None leaves it to the server.

        Raises:
            PreconditionError: a node that the placement needs is not configured.
            UnavailableError: no route can serve; the message names what is down.
        """
        return choose_route(wanted or self.setting, self._states)

    def current(self) -> Optional[Placement]:
        """Where a stream that leaves it to the server would go; None when nothing can serve."""
        try:
            return self.route(None).placement
        except TandemError:
            return None

    def set_placement(self, placement: Optional[Placement]) -> None:
        """Set the placement of the streams that leave it to the server; None is automatic.

        Raises:
            PreconditionError: a node that the placement needs is not configured.
            UnavailableError: it cannot serve now; the setting stays as it was.
        """
        choose_route(placement, self._states)
        self.setting = placement
        self.show_placement()

    def note(self, state: StageHealth) -> None:
        """Take over a stage's new state."""
        address = state.address
        self.metrics.node_up.labels(address.node, address.stage.value).set(state.healthy)
        self.show_placement()

    def show_placement(self) -> None:
        """Bring the placement metric up to date."""
        current = self.current()
        for placement in Placement:
            self.metrics.placement.labels(placement.value).set(placement is current)

    def count(self, placement: Optional[Placement], outcome: str, seconds: float) -> None:
        """Count one answer."""
        name = placement.value if placement else "none"
        if outcome == "dropped":
            # It was not served, so that its latency would say nothing.
            self.metrics.frames.labels(name, outcome).inc()
            return
        self.metrics.observe_frame(name, outcome, seconds)
        if placement is not None and outcome == "detections":
            self._served[placement] += 1
            self._recent[placement].append(time.monotonic())
            self._forget_old(placement)

    def frames_served(self, placement: Placement) -> int:
        """Frames answered with detections, since the start."""
        return self._served[placement]

    def frames_per_second(self, placement: Placement) -> float:
        """Frames answered with detections a second, over the last `RATE_WINDOW_SECONDS`."""
        self._forget_old(placement)
        elapsed = min(RATE_WINDOW_SECONDS, time.monotonic() - self.started)
        return len(self._recent[placement]) / max(elapsed, 1e-3)

    def _forget_old(self, placement: Placement) -> None:
        recent = self._recent[placement]
        oldest = time.monotonic() - RATE_WINDOW_SECONDS
        while recent and recent[0] < oldest:
            recent.popleft()
