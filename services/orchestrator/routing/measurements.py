"""Learns the speed of stages and links from answered frames and from heartbeats."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from typing import Dict, Iterable, Optional, Tuple

from common.domain.codec import Codec, RateFigures
from common.domain.placement import StageAddress
from common.domain.video import FrameCodec
from common.wire.detections import stage_timing_from_wire
from protos.tandem.v1 import detection_pb2
from services.orchestrator.estimation.estimates import Estimates
from services.orchestrator.estimation.keeper import EstimateKeeper
from services.orchestrator.routing.routes import Route

# Of which something is remembered: those served now, and some before.
_MOST_BUNDLES = 64


class Measurements:
    """What was measured so far with one model.

    Attributes:
        estimates: what is known, as of the latest `refresh`.
    """

    def __init__(
        self,
        located_at: str,
        servers: Iterable[StageAddress],
        frame_codec: Optional[FrameCodec] = None,
        *,
        beside: Optional[Measurements] = None,
    ) -> None:
        """Begin with nothing known of the model.

        Args:
            located_at: place of the orchestrator: a node's name, or `ORCHESTRATOR`.
            servers: every stage's server that is configured.
            frame_codec: that pictures are encoded by before they cross a link; None: they cross it
                as they came.
            beside: those of another model, with which all is shared that depends on no model; None:
                there is no other.
        """
        replicas = Counter((server.node, server.stage) for server in servers)
        self._located_at = located_at
        self._frame_codec = frame_codec
        machines = None if beside is None else beside._keeper.machines
        self._keeper: EstimateKeeper = EstimateKeeper(located_at, replicas, frame_codec, machines)
        self._latent_rates: OrderedDict[str, Tuple[RateFigures, ...]] = OrderedDict()
        self._answered_at: Dict[StageAddress, float] = {}
        if beside is not None:
            # A digest stands for the same bundle, and a server for the same machine.
            self._latent_rates, self._answered_at = beside._latent_rates, beside._answered_at
        self.estimates: Estimates = self._keeper.snapshot(time.monotonic())

    def of_another_model(self, servers: Iterable[StageAddress]) -> Measurements:
        """Measurements of another model, which these servers serve."""
        return Measurements(self._located_at, servers, self._frame_codec, beside=self)

    def observe_answer(
        self,
        route: Route,
        timing: detection_pb2.Timing,
        *,
        backlogged: bool,
        frame_bytes: Optional[int] = None,
    ) -> None:
        """Learn from a frame that was served.

        Args:
            route: that the frame took.
            timing: what both stages tell of it.
            backlogged: whether further frames were waiting, so that the route was kept busy.
            frame_bytes: what a frame like this takes on the way to a backbone; None: what this one
                took. A frame of video may have brought others along that its decoder lacked.
        """
        now = time.monotonic()
        self._answered_at[route.backbone] = self._answered_at[route.transformer] = now
        # By the names of the configuration, whatever the stages call themselves.
        backbone = stage_timing_from_wire(timing.backbone, route.backbone.node)
        transformer = stage_timing_from_wire(timing.transformer, route.transformer.node)
        self._keeper.observe(
            *(route.node_pair, backbone, transformer),
            now=now,
            backlogged=backlogged,
            frame_bytes=frame_bytes,
        )
        if backbone.power_watts is not None:
            self._keeper.observe_power(backbone.node, backbone.power_watts)
        if transformer.power_watts is not None:
            self._keeper.observe_power(transformer.node, transformer.power_watts)

    def observe_heartbeat(self, server: StageAddress, seconds: float) -> None:
        """Learn from the round trip of a heartbeat."""
        self._keeper.observe_round_trip(server.node, seconds, now=time.monotonic())

    def observe_encoding(self, seconds: float) -> None:
        """Learn from a picture that was encoded for a link; in how many seconds."""
        self._keeper.observe_encoding(seconds)

    def observe_codecs(
        self,
        node: str,
        default: Optional[Codec],
        latent_rates: Tuple[RateFigures, ...],
        bundle_digest: str = "",
    ) -> None:
        """Learn from a backbone's answer to the opening of a stream; known at once.

        Args:
            node: of the backbone.
            default: its bundle's default codec; None where it was not told.
            latent_rates: what the rates of its bundle's bottleneck cost and keep.
            bundle_digest: of that bundle.
        """
        self._latent_rates.pop(bundle_digest, None)
        self._latent_rates[bundle_digest] = latent_rates
        while len(self._latent_rates) > _MOST_BUNDLES:
            self._latent_rates.popitem(last=False)
        self._keeper.observe_codecs(node, default, latent_rates)
        if self.estimates.latent_rates.get(node, ()) != latent_rates:
            self.refresh(time.monotonic())

    def latent_rates_of(self, bundle_digest: str) -> Tuple[RateFigures, ...]:
        """What the rates of a bundle cost and keep; none if it has none, or has not told yet."""
        return self._latent_rates.get(bundle_digest, ())

    def answered_at(self, server: StageAddress) -> float:
        """When a frame that a server has served was answered last, by `time.monotonic`."""
        return self._answered_at.get(server, float("-inf"))

    def replicas_changed(self, server: StageAddress, serving: int) -> None:
        """So many servers of this one's node and stage serve now."""
        self._keeper.replicas_changed(server.node, server.stage, serving)

    def forget(self, server: StageAddress) -> None:
        """A server is gone."""
        self._answered_at.pop(server, None)

    def refresh(self, now: float) -> None:
        """Bring `estimates` up to date."""
        self.estimates = self._keeper.snapshot(now)

    def link_bytes_per_second(self, route: Route) -> Optional[float]:
        """Rate of the link from the orchestrator to a route's backbone; None while not known."""
        link = self.estimates.link(self._located_at, route.backbone.node)
        return link.bytes_per_second if link else None
