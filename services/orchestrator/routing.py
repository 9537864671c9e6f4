"""Chooses the route that the next frame takes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Callable, Container, Dict, List, Mapping, Optional, Tuple

import structlog

from common.domain.errors import PreconditionError, ResourceExhaustedError, TandemError
from common.domain.placement import NodePair, StageAddress
from common.wire.detections import stage_timing_from_wire
from protos.tandem.v1 import detection_pb2
from services.orchestrator.breaker import FAILURES_IN_A_ROW, CircuitBreaker
from services.orchestrator.decision import START, Decider, Decision, Policy
from services.orchestrator.estimates import EstimateKeeper
from services.orchestrator.events import Events
from services.orchestrator.measured import Estimates
from services.orchestrator.placement import Route, StageHealth
from services.orchestrator.probing import ProbeBudget, pair_to_probe
from services.orchestrator.route_table import RouteTable

log = structlog.get_logger()

STALLED = "stalled"
# Sessions that a route has to stall within so long, before it is closed for all for as long again.
_STALLED_SESSIONS = 2
_STALLED_SECONDS = 15.0
# Instead, where no other route can serve: it would be out for longer than what made it stall.
_ONLY_ROUTE_STALLED_SECONDS = 2.0


@dataclass(frozen=True)
class RoutingOptions:
    """How frames are routed.

    Attributes:
        policy: what the automatic choice aims at, and what it must not do.
        patience_seconds: how long a frame waits for a route before it is answered UNAVAILABLE.
        recovery_seconds: how long a lost stage has to be healthy before it is chosen again.
        probe_share: of the frames, how many are copied for measurement at most.
    """

    policy: Policy
    patience_seconds: float
    recovery_seconds: float
    probe_share: float


class Router:
    """The automatic choice among the routes, and the settings that overrule it.

    Attributes:
        table: the routes, and which of them can serve.
        options: how frames are routed.
        setting: nodes of the streams that leave it to the server; None: the automatic choice.
        events: counts.
        draining: set to True once the service ends; frames wait for nothing any more.
        suspects: held by the one frame under way, of all sessions, that a route was lost with.
    """

    def __init__(
        self,
        table: RouteTable,
        options: RoutingOptions,
        setting: Optional[NodePair],
        events: Events,
    ) -> None:
        """Take over what was composed."""
        self.table = table
        self.setting = setting
        self.events = events
        self.draining = False
        self.options = options
        replicas = Counter((address.node, address.stage) for address in table.states)
        self._keeper = EstimateKeeper(options.policy.located_at, replicas)
        self._decider = Decider(options.policy)
        self.suspects = asyncio.Lock()
        self._breaker = CircuitBreaker()
        self._stalled_at: Dict[Route, Dict[str, float]] = {}
        self._heard_at: Dict[StageAddress, float] = {}
        self._budget = ProbeBudget(options.probe_share)
        self._probe: Optional[NodePair] = None
        self._change: Optional[asyncio.Future[None]] = None
        self.estimates: Estimates = self._keeper.snapshot(time.monotonic())
        self.decision: Decision = self._decide()

    def route(
        self,
        wanted: Optional[NodePair],
        closed: Mapping[Route, TandemError],
        penalty: Callable[[Route], int] = lambda route: 0,
    ) -> Route:
        """Where a frame goes now.

        Args:
            wanted: nodes that its client asked for; None leaves it to the server.
            closed: routes that do not serve this client's stream now, with their reasons.
            penalty: how little a route is wanted for this frame; the pair that is chosen otherwise
                is taken only among those with the least.

        Raises:
            PreconditionError: the nodes are not configured, or every route refused.
            UnavailableError: no route can serve now; the message names what is down.
            ResourceExhaustedError: none has room for this client's stream now.
        """
        pinned = wanted or self.setting
        if pinned is not None:
            return self.table.least_busy(pinned, closed, penalty)
        if self.decision.pair is None or self.table.obstacle(self.decision.pair):
            self.decide()
        best: Optional[Route] = None
        refusals: List[TandemError] = []
        for pair in self._by_preference():
            try:
                route = self.table.least_busy(pair, closed, penalty)
            except TandemError as error:
                refusals.append(error)
                continue
            if best is None or penalty(route) < penalty(best):
                best = route
            if not penalty(best):
                return best
        if best is not None:
            return best
        passing = [each for each in refusals if not isinstance(each, PreconditionError)]
        if refusals and not passing:
            raise refusals[0]
        for refusal in passing:
            if isinstance(refusal, ResourceExhaustedError):
                raise refusal
        raise self.table.nothing_serves(each for each in passing if each in closed.values())

    def current(self) -> Optional[NodePair]:
        """Where a stream that leaves it to the server goes; None when nothing can serve."""
        try:
            return self.route(None, {}).pair
        except TandemError:
            return None

    def set(self, pair: Optional[NodePair]) -> None:
        """Set the nodes of the streams that leave it to the server; None is automatic.

        Raises:
            PreconditionError: a node is not configured.
            UnavailableError: it cannot serve now; the setting stays as it was.
        """
        if pair is not None:
            self.table.of(pair)
        self.setting = pair
        self.events.switched("set")
        self._changed()

    def note(self, state: StageHealth, was_healthy: bool) -> None:
        """Take over a stage's new state, which the table holds already.

        Args:
            state: the new one.
            was_healthy: whether it is news that it is not; of one that is down the reason varies.
        """
        if not state.healthy and was_healthy:
            self.events.failed(state.fault)
        # Whatever was wrong with its routes: the stage explains it, or has started anew.
        self.table.unblock(state.address)
        self.decide()
        self._changed()

    def stalled(self, route: Route, session_id: str, deadline_seconds: float) -> None:
        """No frame of a session came back from a route in time.

        The session itself goes elsewhere. The others go on there, until another one's frames do
        not come back either: then it is the route that is at fault, and not a frame.
        """
        now = time.monotonic()
        log.warning(
            "route stalled", route=route.pair.name, session=session_id, seconds=deadline_seconds
        )
        self.events.failed(STALLED)
        stalls = self._stalled_at.setdefault(route, {})
        stalls[session_id] = now
        for other in [each for each, at in stalls.items() if at < now - _STALLED_SECONDS]:
            del stalls[other]
        if len(stalls) >= _STALLED_SESSIONS:
            reason = f"{route.pair.name} answered nothing for {deadline_seconds:.1f} s"
            others = (each for each in self.table.routes if each != route)
            has_other = any(self.table.passable(each) for each in others)
            seconds = _STALLED_SECONDS if has_other else _ONLY_ROUTE_STALLED_SECONDS
            self._block([route], reason, seconds)

    def failed(self, server: StageAddress) -> None:
        """A server failed on a frame that another one has served since."""
        seconds = self._breaker.failed(server)
        if not seconds:
            return
        reason = f"{server.name} failed on {FAILURES_IN_A_ROW} frames that others then served"
        log.error("circuit breaker", server=server.name, closed_seconds=seconds)
        self._block([each for each in self.table.routes if each.uses(server)], reason, seconds)

    def latency_seconds(self, route: Route) -> float:
        """Of a frame on a route, as predicted; 0 while that is not known."""
        prediction = self.decision.predictions.get(route.pair)
        return (prediction.latency_seconds if prediction else None) or 0.0

    def link_bytes_per_second(self, route: Route) -> Optional[float]:
        """Of the way from the orchestrator to a route's backbone; None while it is not known."""
        located_at = self.options.policy.located_at
        link = self.estimates.link(located_at, route.backbone.node)
        return link.bytes_per_second if link else None

    def observe(self, route: Route, timing: detection_pb2.Timing, backlogged: bool) -> None:
        """Learn from an answer.

        Args:
            route: that the frame took.
            timing: of both stages.
            backlogged: whether further frames were waiting, so that the route was kept busy.
        """
        self._budget.earn()
        self._heard_at.update(dict.fromkeys((route.backbone, route.transformer), time.monotonic()))
        for server in route.servers:
            self._breaker.succeeded(server)
        stages = [
            # By the names of the configuration, whatever the stages call themselves.
            replace(stage_timing_from_wire(each), node=server.node)
            for each, server in zip((timing.backbone, timing.transformer), route.servers)
        ]
        self._keeper.observe(route.pair, *stages, now=time.monotonic(), backlogged=backlogged)
        for stage in stages:
            if stage.power_watts is not None:
                self._keeper.observe_power(stage.node, stage.power_watts)

    def heard_at(self, address: StageAddress) -> float:
        """When a frame that a stage served was answered last, by `time.monotonic`."""
        return self._heard_at.get(address, float("-inf"))

    def observe_round_trip(self, address: StageAddress, seconds: float) -> None:
        """Learn from a heartbeat."""
        self._keeper.observe_round_trip(address.node, seconds, now=time.monotonic())

    def take_probe(self, unusable: Container[Route]) -> Optional[Route]:
        """The route that a copy of a frame should take now, to measure it; usually None.

        Args:
            unusable: routes that cannot be taken.
        """
        if self._probe is None or not self._budget.enough:
            return None
        pair, self._probe = self._probe, None
        if self.table.obstacle(pair):
            return None
        for route in self.table.of(pair):
            if route not in unusable:
                self._budget.spend()
                return route
        return None

    def next_change(self) -> asyncio.Future[None]:
        """Done once something may have become possible that was not."""
        if self._change is None:
            self._change = asyncio.get_running_loop().create_future()
        return self._change

    def tick(self) -> None:
        """Look anew at everything that changes with time."""
        now = time.monotonic()
        unblocked = self.table.expire(now)
        self.estimates = self._keeper.snapshot(now)
        self.decide()
        self._probe = self._next_probe()
        if unblocked:
            self._changed()

    def decide(self) -> None:
        """Bring the automatic choice up to date."""
        before = self.decision.pair
        self.decision = self._decide()
        after = self.decision.pair
        if after == before:
            return
        log.info(
            "placement chosen",
            placement=after.name if after else "none",
            before=before.name if before else "none",
            reason=self.decision.reason,
        )
        if before is not None and after is not None and self.decision.reason != START:
            self.events.switched(self.decision.reason)
        self._changed()

    def _decide(self) -> Decision:
        now = time.monotonic()
        down = {pair: self.table.obstacle(pair) for pair in self.table.pairs}
        usable = [pair for pair in self.table.pairs if not down[pair]]
        recovery_seconds = self.options.recovery_seconds
        proven = [pair for pair in usable if self.table.settled(pair, now, recovery_seconds)]
        choice = proven or usable
        for pair in usable:
            if pair in choice:
                del down[pair]
            else:
                down[pair] = f"{pair.name} is not chosen again yet: it was lost a moment ago"
        return self._decider.decide(now, choice, self.estimates, down)

    def _by_preference(self) -> List[NodePair]:
        """The pairs that are not ruled out: the chosen one, then the faster ones first."""
        decision = self.decision
        allowed = [pair for pair in self.table.pairs if not decision.ruled_out.get(pair)]

        def rank(pair: NodePair) -> Tuple[bool, float]:
            prediction = decision.predictions.get(pair)
            known = prediction.frames_per_second if prediction else None
            return pair != decision.pair, -(known or 0.0)

        return sorted(allowed, key=rank)

    def _next_probe(self) -> Optional[NodePair]:
        current = self.decision.pair
        if current is None:
            return None
        candidates = [
            pair
            for pair in self.table.pairs
            if not self.decision.ruled_out.get(pair) and not self.table.obstacle(pair)
        ]
        return pair_to_probe(candidates, current, self.estimates, self.options.policy.located_at)

    def _block(self, routes: List[Route], reason: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        # A list: each of them is to be blocked, whether or not another one is new.
        if any([self.table.block(route, reason, until) for route in routes]):
            self.decide()
            self._changed()

    def _changed(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)
        self._change = None
