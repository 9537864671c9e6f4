"""By which codec a session's features travel: the client's, the bundle's, or a rate chosen here."""

from __future__ import annotations

from collections import deque
from typing import Deque, Dict, List, Optional

from common.domain.codec import Codec
from common.domain.detections import StreamOptions
from common.domain.placement import NodePair
from common.wire.detections import stage_timing_from_wire
from protos.tandem.v1 import detection_pb2
from services.orchestrator.decision.policy import Policy
from services.orchestrator.decision.rates import (
    RateChoice,
    RateDemand,
    available_bytes_per_second,
    choose_rate,
    rate_options,
)
from services.orchestrator.estimation.estimates import Estimates
from services.orchestrator.estimation.limits import engine_frames_per_second
from services.orchestrator.estimation.link_queue import LinkQueue

_ARRIVAL_SECONDS = 2.0
_LEAST_ARRIVALS = 4
# Before a stream or its nodes have shown how fast they are: that of most cameras.
_USUAL_FRAMES_PER_SECOND = 30.0


class RateControl:
    """Chooses the latent rate of one session, for each node pair that its frames take.

    It has no clock of its own: every method is told the time, in seconds of one steady clock.

    Attributes:
        chooses: whether it does; otherwise the client or the bundle has chosen.
    """

    def __init__(self, options: StreamOptions, policy: Policy, *, is_live: bool) -> None:
        """Begin without a choice.

        Args:
            options: those of the client's stream.
            policy: of the automatic choice.
            is_live: whether frames come at a camera's pace, not as fast as they are served.
        """
        self._codec = options.codec
        self._limit = options.max_link_bits_per_second / 8 or None
        self.chooses = options.codec is None and (policy.chooses_rate or self._limit is not None)
        self._is_live = is_live
        self._arrivals: Deque[float] = deque()
        self._queue = LinkQueue()
        self._choices: Dict[NodePair, RateChoice] = {}

    def codec_for(self, node_pair: NodePair, estimates: Estimates, now: float) -> Optional[Codec]:
        """By which codec the next frame's features travel; None is the bundle's default.

        Args:
            node_pair: the nodes that the frame takes.
            estimates: what was measured.
            now: for a first choice.
        """
        if not self.chooses or node_pair.backbone == node_pair.transformer:
            return self._codec
        if node_pair not in self._choices:
            self._choose(node_pair, estimates, now)
        choice = self._choices.get(node_pair)
        return choice.codec if choice else None

    def why(self, node_pair: Optional[NodePair]) -> str:
        """Why the rate is what it is; empty where none is chosen."""
        choice = self._choices.get(node_pair) if node_pair else None
        return choice.why if choice else ""

    def arrived(self, now: float) -> None:
        """A frame of the client's has come; costs the same however many came before."""
        self._arrivals.append(now)
        while self._arrivals[0] < now - _ARRIVAL_SECONDS:
            self._arrivals.popleft()

    def answered(
        self,
        node_pair: NodePair,
        timing: detection_pb2.Timing,
        *,
        backlogged: bool,
        round_trip_seconds: float,
        now: float,
    ) -> None:
        """Take note of an answer.

        Args:
            node_pair: the nodes that served the frame.
            timing: what both stages tell of it.
            backlogged: whether further frames of the session were waiting.
            round_trip_seconds: of a small message over the link between the nodes; 0: not known.
            now: when the answer came.
        """
        if self.chooses:
            self._queue.observe(
                node_pair,
                stage_timing_from_wire(timing.backbone),
                stage_timing_from_wire(timing.transformer),
                backlogged=backlogged,
                round_trip_seconds=round_trip_seconds,
                now=now,
            )

    def decide(self, estimates: Estimates, now: float) -> List[Codec]:
        """Choose anew for the node pairs in use; call it at regular intervals.

        Returns:
            Each codec that has taken another's place.
        """
        before = dict(self._choices)
        for node_pair in before:
            self._choose(node_pair, estimates, now)
        return [
            after.codec
            for node_pair, after in self._choices.items()
            if after.codec is not before[node_pair].codec
        ]

    def _choose(self, node_pair: NodePair, estimates: Estimates, now: float) -> None:
        options = rate_options(node_pair, estimates)
        if not options:
            self._choices.pop(node_pair, None)
            return
        before = self._choices.get(node_pair)
        demand = self._demand(node_pair, estimates, before, now)
        self._choices[node_pair] = choose_rate(before, options, demand, now)

    def _demand(
        self, node_pair: NodePair, estimates: Estimates, before: Optional[RateChoice], now: float
    ) -> RateDemand:
        carried = self._queue.carried_bytes_per_second(node_pair, now)
        since = before.since if before else now
        return RateDemand(
            frames_per_second=self._frames_per_second(node_pair, estimates, now),
            link_bytes_per_second=available_bytes_per_second(
                estimates.link(node_pair.backbone, node_pair.transformer), carried
            ),
            limit_bytes_per_second=self._limit,
            carried_bytes_per_second=(
                carried if self._queue.is_full(node_pair, since, now) else None
            ),
        )

    def _frames_per_second(self, node_pair: NodePair, estimates: Estimates, now: float) -> float:
        """What a live stream brings, and of any stream no more than the engines can serve."""
        engines = engine_frames_per_second(node_pair, estimates)
        arriving = self._arriving_frames_per_second(now) if self._is_live else None
        known = [rate for rate in (engines, arriving) if rate is not None]
        return min(known, default=_USUAL_FRAMES_PER_SECOND)

    def _arriving_frames_per_second(self, now: float) -> Optional[float]:
        recent = [at for at in self._arrivals if at >= now - _ARRIVAL_SECONDS]
        if len(recent) < _LEAST_ARRIVALS:
            return None
        return (len(recent) - 1) / max(recent[-1] - recent[0], 1e-3)
