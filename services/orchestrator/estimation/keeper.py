"""Running estimates, from the timing that comes back with every answer."""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from dataclasses import replace
from typing import DefaultDict, Deque, Dict, Mapping, Optional, Tuple

from common.domain.codec import Codec, RateFigures
from common.domain.detections import StageTiming
from common.domain.placement import ORCHESTRATOR, NodePair, Stage
from common.domain.video import FrameCodec
from services.orchestrator.estimation.estimates import (
    Estimates,
    PairEstimate,
)
from services.orchestrator.estimation.limits import (
    is_measured,
    link_limits,
    modelled_compute_limit,
    stage_keys,
)
from services.orchestrator.estimation.machines import Machines
from services.orchestrator.estimation.pair_rates import PairRate
from services.orchestrator.estimation.payload_sizes import PayloadSizes, usual_size
from services.orchestrator.estimation.stage_times import StageKey, StageTimes

_KEPT_PAYLOADS = 64
# A rate is of now when it is no older.
_FRESH_SECONDS = 1.0
# When a link slows down, the pair's rate falls before the link's estimate does. The best rate over
# this time is not misled by that.
_SHARE_SECONDS = 3.0
# A pair that reaches more than this share of what a link allows is held back by that link.
_LINK_BOUND_SHARE = 0.85
# Shares of what execution times alone allow; outside these something was measured wrongly.
_LEAST_COMPUTE_SHARE = 0.2
_MOST_COMPUTE_SHARE = 4.0


class EstimateKeeper:
    """Keeps estimates of every stage, link and node pair that frames of one model have used.

    Noting an answer costs the same however many came before; the work is done by `snapshot`.
    All times are seconds of one steady clock.

    Attributes:
        machines: what the models have in common.
    """

    def __init__(
        self,
        located_at: str = ORCHESTRATOR,
        replicas: Optional[Mapping[StageKey, int]] = None,
        frame_codec: Optional[FrameCodec] = None,
        machines: Optional[Machines] = None,
    ) -> None:
        """Begin with nothing known of the model.

        Args:
            located_at: place of the orchestrator: a node's name, or `ORCHESTRATOR`.
            replicas: number of processes of each stage; one for a stage that is left out.
            frame_codec: that pictures are encoded by before they cross a link; None: they cross it
                as they came.
            machines: what keepers of other models measure as well; None: there are none.
        """
        self.machines = machines or Machines(located_at)
        self._located_at = located_at
        self._frame_codec = frame_codec
        self._stages = StageTimes(replicas)
        self._pairs: DefaultDict[NodePair, PairRate] = defaultdict(PairRate)
        self._compute_shares: Dict[NodePair, Deque[Tuple[float, float]]] = {}
        self._frame_bytes: Deque[int] = deque(maxlen=_KEPT_PAYLOADS)
        self._feature_bytes: Deque[int] = deque(maxlen=_KEPT_PAYLOADS)
        self._codecs = PayloadSizes()
        self._latent_rates: Dict[str, Tuple[RateFigures, ...]] = {}
        self._default_codecs: Dict[str, Codec] = {}

    def replicas_changed(self, node: str, stage: Stage, serving: int) -> None:
        """So many processes of a node's stage serve now; what is known of it supposes one."""
        self._stages.replicas_changed((node, stage), max(1, serving))

    def observe(
        self,
        node_pair: NodePair,
        backbone: StageTiming,
        transformer: StageTiming,
        *,
        now: float,
        backlogged: bool,
        frame_bytes: Optional[int] = None,
    ) -> None:
        """Take note of an answer.

        Args:
            node_pair: the nodes that served the frame.
            backbone: what the backbone tells of the frame.
            transformer: what the transformer tells of the frame.
            now: when the answer came.
            backlogged: whether the frame's session had its window full on this pair, so that the
                pair was kept busy; never for a mirrored request.
            frame_bytes: see `Measurements.observe_answer`.
        """
        self._stages.observe(backbone, transformer, backlogged=backlogged, now=now)
        self.machines.used(self, stage_keys(node_pair), now)
        self._observe_link(self._located_at, node_pair.backbone, Stage.BACKBONE, backbone, now)
        self._observe_link(
            *(node_pair.backbone, node_pair.transformer), Stage.TRANSFORMER, transformer, now
        )
        if frame_bytes is not None:
            self._frame_bytes.append(frame_bytes)
        elif self._frame_codec is None or node_pair.backbone != self._located_at:
            # A picture that crosses no link is not encoded, and tells nothing of those that are.
            self._frame_bytes.append(backbone.request_bytes)
        self._feature_bytes.append(transformer.request_bytes)
        if backbone.codec is not None:
            self._codecs.observe(backbone.codec, transformer.request_bytes, now)
        self._pairs[node_pair].observe(
            backbone.queue_seconds + transformer.queue_seconds,
            backbone.transfer_seconds + transformer.transfer_seconds,
            backlogged=backlogged,
            now=now,
        )

    def _observe_link(
        self, sender: str, receiver: str, stage: Stage, timing: StageTiming, now: float
    ) -> None:
        # It crossed before it was held; behind a slow link that can be seconds ago.
        crossed_at = now - timing.held_seconds
        self.machines.links.observe(
            (sender, receiver, stage), timing.request_bytes, timing.transfer_seconds, crossed_at
        )

    def observe_round_trip(self, node: str, seconds: float, now: float) -> None:
        """See `Machines.observe_round_trip`."""
        self.machines.observe_round_trip(node, seconds, now)

    def observe_codecs(
        self, node: str, default: Optional[Codec], latent_rates: Tuple[RateFigures, ...]
    ) -> None:
        """Take note of what a backbone tells of its bundle.

        Args:
            node: of the backbone.
            default: the codec of streams that ask for none; None where that was not told.
            latent_rates: what the rates of its bottleneck cost and keep, the finest first.
        """
        self._latent_rates[node] = latent_rates
        if default is not None:
            self._default_codecs[node] = default

    def observe_encoding(self, seconds: float) -> None:
        """See `Machines.observe_encoding`."""
        self.machines.observe_encoding(seconds)

    def observe_power(self, node: str, watts: float) -> None:
        """Take note of a node's power at work."""
        self.machines.watts[node] = watts

    def snapshot(self, now: float) -> Estimates:
        """What is known now."""
        for rate in self._pairs.values():
            rate.measure()
        measured = Estimates(
            stages=self._stages.estimates(now, self._shared_seconds()),
            links=self.machines.links.estimates(
                now, lambda *places: self.machines.round_trip(places, now)
            ),
            frame_bytes=self._usual_frame_bytes(),
            frame_codec=self._frame_codec,
            encode_seconds=self.machines.encode_seconds,
            feature_bytes=_mean(self._feature_bytes),
            watts=dict(self.machines.watts),
            codecs=self._codecs.estimates(now),
            latent_rates=dict(self._latent_rates),
            default_codecs=dict(self._default_codecs),
        )
        pairs = {
            node_pair: self._pair_estimate(node_pair, rate, rate.frames_per_second, measured, now)
            for node_pair, rate in self._pairs.items()
            if rate.frames_per_second is not None
        }
        return replace(measured, pairs=pairs)

    def _usual_frame_bytes(self) -> Optional[float]:
        """Of video the size without key frames: there is none after the first of a stream."""
        if self._frame_codec is None or not self._frame_bytes:
            return _mean(self._frame_bytes)
        return usual_size(self._frame_bytes)

    def _shared_seconds(self) -> Dict[str, float]:
        """Between two frames of a node that serves both stages, where it was saturated."""
        return {
            node_pair.backbone: 1 / rate.frames_per_second
            for node_pair, rate in self._pairs.items()
            if node_pair.backbone == node_pair.transformer and rate.frames_per_second
        }

    def _pair_estimate(
        self,
        node_pair: NodePair,
        rate: PairRate,
        frames_per_second: float,
        measured: Estimates,
        now: float,
    ) -> PairEstimate:
        age_seconds = max(0.0, now - rate.measured_at)
        if age_seconds <= _FRESH_SECONDS and is_measured(node_pair, measured):
            self._note_compute_share(node_pair, rate, frames_per_second, measured, now)
        return PairEstimate(frames_per_second, age_seconds, self._compute_share(node_pair))

    def _note_compute_share(
        self,
        node_pair: NodePair,
        rate: PairRate,
        frames_per_second: float,
        measured: Estimates,
        now: float,
    ) -> None:
        """Compare the rate with what times allow.

        One that a link or another model's frames hold back is only a lower bound.
        """
        interval_seconds = modelled_compute_limit(node_pair, measured).seconds_per_frame
        share = frames_per_second * interval_seconds
        links = link_limits(node_pair, measured, self._located_at)
        link_seconds = max((limit.seconds_per_frame for limit in links), default=0.0)
        link_bound = frames_per_second * link_seconds >= _LINK_BOUND_SHARE
        # Frames of other models have taken a part of what the devices can do.
        is_shared = self.machines.is_shared(
            self, (node_pair.backbone, node_pair.transformer), rate.measured_at
        )
        is_lower_bound = link_bound or is_shared or not rate.engines_are_limit or not rate.steady
        if is_lower_bound and share <= (self._compute_share(node_pair) or 1.0):
            return
        shares = self._compute_shares.setdefault(node_pair, deque())
        shares.append((now, min(max(share, _LEAST_COMPUTE_SHARE), _MOST_COMPUTE_SHARE)))
        while shares[0][0] < now - _SHARE_SECONDS:
            shares.popleft()

    def _compute_share(self, node_pair: NodePair) -> Optional[float]:
        shares = self._compute_shares.get(node_pair)
        return max(share for _, share in shares) if shares else None


def _mean(values: Deque[int]) -> Optional[float]:
    return statistics.fmean(values) if values else None
