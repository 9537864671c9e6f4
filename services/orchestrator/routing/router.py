"""Chooses the route that the next frame takes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Callable, Container, List, Mapping, Optional, Sequence

import structlog

from common.domain.errors import PreconditionError, ResourceExhaustedError, TandemError
from common.domain.models import DEFAULT_MODEL, StageModels
from common.domain.placement import NodePair, StageAddress
from protos.tandem.v1 import detection_pb2
from services.orchestrator.counters import EventCounters
from services.orchestrator.decision.decider import START, Decider, Decision
from services.orchestrator.decision.mirroring import NOTHING_BEFORE, SentBefore
from services.orchestrator.decision.policy import Policy
from services.orchestrator.routing.circuit_breaker import (
    FAILURES_IN_A_ROW,
    NO_PROGRESS_SECONDS,
)
from services.orchestrator.routing.measurements import Measurements
from services.orchestrator.routing.mirroring import Mirroring
from services.orchestrator.routing.route_table import Penalty, RouteTable, no_penalty
from services.orchestrator.routing.routes import LEFT, NO_PROGRESS, Route, StageHealth
from services.orchestrator.routing.shared_routing import SharedRouting

log = structlog.get_logger()

# For a route without progress where no other one can serve: to keep frames away from it for longer
# would be an outage longer than what held it up.
_ONLY_ROUTE_SECONDS = 2.0


@dataclass(frozen=True)
class RoutingOptions:
    """How frames are routed.

    Attributes:
        policy: what the automatic choice aims at, and what it must not do.
        unavailable_after_seconds: how long a frame waits for a route before it is answered
            UNAVAILABLE.
        recovery_seconds: how long a stage that was unavailable has to be healthy before it is
            chosen again.
        mirror_share: how many mirrored requests there are at most, as a share of the frames.
    """

    policy: Policy
    unavailable_after_seconds: float
    recovery_seconds: float
    mirror_share: float


class Router:
    """The automatic choice among the routes for one model, and the requests that overrule it.

    What happens to stages and routes concerns the routers of all models: any of them may be told.

    Attributes:
        model: whose frames are routed.
        table: the routes, and which of them are available.
        measurements: what is known of the speed of stages and links.
        options: how frames are routed.
        events: counts what happens to routes and frames.
        decision: the automatic choice.
    """

    def __init__(
        self,
        table: RouteTable,
        measurements: Measurements,
        options: RoutingOptions,
        events: EventCounters,
        operator_pair: Optional[NodePair] = None,
        *,
        model: str = DEFAULT_MODEL,
        shared: Optional[SharedRouting] = None,
    ) -> None:
        """Decide for the first time, by what is known already.

        Args:
            table: see above, as for the next three.
            measurements: likewise.
            options: likewise.
            events: likewise.
            operator_pair: where frames go whose client asked for no node pair; None: where the
                automatic choice sends them.
            model: whose frames are routed.
            shared: with the routers of other models; None: there are none yet.
        """
        self.model = model
        self._shared = shared or SharedRouting(operator_pair)
        self._shared.routers[model] = self
        self.table = table
        self.measurements = measurements
        self.options = options
        self.events = events
        self._decider = Decider(options.policy)
        self._mirroring = Mirroring(options.mirror_share, options.policy.located_at, model)
        self.decision: Decision = self._decide()

    @property
    def operator_pair(self) -> Optional[NodePair]:
        """Where frames go whose client asked for no node pair; None: by the automatic choice."""
        return self._shared.operator_pair

    @property
    def all_models(self) -> Sequence[Router]:
        """The routers of the models that were asked for so far, this one among them."""
        return tuple(self._shared.routers.values())

    def of(self, model: str) -> Router:
        """The router of a model; it is made when it is asked for the first time."""
        known = self._shared.routers.get(model)
        if known is not None:
            return known
        serving = [
            server
            for server, health in self.table.health.items()
            if health.healthy and self.table.models.may_serve(server, model)
        ]
        measurements = self.measurements.of_another_model(serving)
        return Router(
            *(self.table, measurements, self.options, self.events),
            model=model,
            shared=self._shared,
        )

    def choose(
        self,
        requested_pair: Optional[NodePair],
        unavailable: Mapping[Route, TandemError],
        penalty: Penalty = no_penalty,
    ) -> Route:
        """Where a frame goes now.

        Args:
            requested_pair: nodes that its client asked for; None leaves the choice to the server.
            unavailable: routes that do not serve this client's stream now, with their reasons.
            penalty: how little a route is wanted for this frame; the pair that is chosen otherwise
                is taken only among those with the least.

        Raises:
            PreconditionError: the nodes are not configured, or no route takes this client's stream.
            UnavailableError: no route can serve now; the message names what is unavailable.
            ResourceExhaustedError: no route has room for this client's stream now.
        """
        fixed_pair = requested_pair or self._shared.operator_pair
        if not unavailable:
            only = self._only_route(fixed_pair)
            if only is not None and not penalty(only):
                # Nearly every frame: there is nothing to choose from.
                return only
        if fixed_pair is not None:
            return self.table.least_busy(fixed_pair, unavailable, penalty, self.model)
        chosen = self.decision.node_pair
        if chosen is None or self.table.unavailable_reason(chosen, self.model):
            self.decide()
        best: Optional[Route] = None
        errors: List[TandemError] = []
        for node_pair in self.decision.by_preference(self.table.pairs):
            try:
                route = self.table.least_busy(node_pair, unavailable, penalty, self.model)
            except TandemError as error:
                errors.append(error)
                continue
            if best is None or penalty(route) < penalty(best):
                best = route
            if not penalty(best):
                return best
        if best is None:
            raise self._error_of(errors, unavailable)
        return best

    def active_pair(self) -> Optional[NodePair]:
        """Where frames go whose client asked for no node pair; None when nothing can serve."""
        try:
            return self.choose(None, {}).node_pair
        except TandemError:
            return None

    def set_operator_pair(self, node_pair: Optional[NodePair]) -> None:
        """Say where frames go whose client asked for no node pair; None is the automatic choice.

        Raises:
            PreconditionError: a node is not configured.
            UnavailableError: the pair cannot serve now; what was set before remains.
        """
        if node_pair is not None:
            self.table.routes_of(node_pair, self.model)
        self._shared.operator_pair = node_pair
        self.events.switched("set")
        self._shared.notify()

    def stage_changed(self, health: StageHealth) -> None:
        """Take over a server's new health."""
        server = health.address
        was_healthy = self.table.health[server].healthy
        if was_healthy and not health.healthy and health.fault != LEFT:
            self.events.became_unavailable(health.fault)
        self.table.update(health)
        self._server_changed(server)

    def server_removed(self, server: StageAddress) -> None:
        """Forget a server that is gone."""
        self.table.remove(server)
        self.measurements.forget(server)
        self._shared.breaker.succeeded(server)
        self._shared.progress.forget(server)
        self._decide_all()

    def models_changed(self, server: StageAddress, models: Optional[StageModels]) -> None:
        """Take over what a server serves; None: it is gone."""
        self.table.models_changed(server, models)
        self._server_changed(server)

    def is_available(self, route: Route) -> bool:
        """Whether a route can serve frames of the model."""
        return self.table.is_available(route, self.model)

    def ends_in_good_order(self, server: StageAddress) -> bool:
        """Whether a server serves the model no more because it was told so, or says so itself."""
        return self.table.ends_in_good_order(server, self.model)

    def no_progress(self, route: Route, session_id: str, deadline_seconds: float) -> None:
        """No frame of a session came back from a route in time.

        That session goes elsewhere. The others go on there, until another one's frames do not come
        back either: then it is the route that is at fault, and not a frame.
        """
        log.warning(
            "route without progress",
            route=route.node_pair.name,
            session=session_id,
            seconds=deadline_seconds,
        )
        self.events.became_unavailable(NO_PROGRESS)
        if not self._shared.progress.no_progress(route, session_id, time.monotonic()):
            return
        others = (each for each in self.table.routes if each != route)
        has_other = any(self.table.is_available(each) for each in others)
        seconds = NO_PROGRESS_SECONDS if has_other else _ONLY_ROUTE_SECONDS
        reason = f"{route.node_pair.name} answered nothing for {deadline_seconds:.1f} s"
        self._mark_unavailable([route], reason, seconds)

    def server_failed(self, server: StageAddress) -> None:
        """A server failed on a frame that another one has served since."""
        seconds = self._shared.breaker.failed(server)
        if not seconds:
            return
        reason = f"{server.name} failed on {FAILURES_IN_A_ROW} frames that others then served"
        log.error("circuit breaker", server=server.name, open_seconds=seconds)
        routes = [route for route in self.table.routes if route.uses(server)]
        self._mark_unavailable(routes, reason, seconds)

    def served(
        self,
        route: Route,
        timing: detection_pb2.Timing,
        *,
        backlogged: bool,
        frame_bytes: Optional[int] = None,
    ) -> None:
        """Learn from a frame that was served; see `Measurements.observe_answer`."""
        self._mirroring.earn()
        for server in route.servers:
            self._shared.breaker.succeeded(server)
        self.measurements.observe_answer(
            route, timing, backlogged=backlogged, frame_bytes=frame_bytes
        )

    @property
    def measures(self) -> bool:
        """Whether there is something that a mirrored request should measure."""
        return self._mirroring.has_target

    def take_mirror_route(
        self,
        unusable: Container[Route],
        sent_before: Callable[[Route], Optional[SentBefore]] = lambda route: NOTHING_BEFORE,
    ) -> Optional[Route]:
        """The route that a mirrored request should take now, to measure it; usually None.

        Args:
            unusable: routes that cannot be taken.
            sent_before: what it would bring along on a route; None: it cannot go there.
        """
        return self._mirroring.take_route(unusable, sent_before, self.table, self.measurements)

    def next_change(self) -> asyncio.Future[None]:
        """Done once something may have become possible that was not."""
        return self._shared.next_change()

    def tick(self) -> None:
        """Look anew at everything that changes with time."""
        now = time.monotonic()
        available_again = self.table.expire(now)
        for router in self.all_models:
            router._look_anew(now)
        if available_again:
            self._shared.notify()

    def decide(self) -> None:
        """Bring the automatic choice up to date."""
        before = self.decision.node_pair
        self.decision = self._decide()
        after, reason = self.decision.node_pair, self.decision.reason
        if after == before:
            return
        log.info(
            "placement chosen",
            placement=after.name if after else "none",
            before=before.name if before else "none",
            reason=reason,
            **({"model": self.model} if self.model else {}),
        )
        if before is not None and after is not None and reason != START:
            self.events.switched(reason)
        self._shared.notify()

    def _only_route(self, fixed_pair: Optional[NodePair]) -> Optional[Route]:
        """The only route of the pair that frames take, if it has just one that is available."""
        chosen = fixed_pair or self.decision.node_pair
        if chosen is None or (fixed_pair is None and chosen in self.decision.excluded):
            return None
        return self.table.only_route(chosen, self.model)

    def _look_anew(self, now: float) -> None:
        self.measurements.refresh(now)
        self.decide()
        self._mirroring.look(self.decision, self.table, self.measurements)

    def _server_changed(self, server: StageAddress) -> None:
        for router in self.all_models:
            serving = self.table.serving(server.node, server.stage, router.model)
            router.measurements.replicas_changed(server, serving)
        self._decide_all()
        self._shared.notify()

    def _decide_all(self) -> None:
        for router in self.all_models:
            router.decide()

    def _decide(self) -> Decision:
        now, table = time.monotonic(), self.table
        reasons = {each: table.unavailable_reason(each, self.model) for each in table.pairs}
        available = [each for each, reason in reasons.items() if not reason]
        recovery_seconds = self.options.recovery_seconds
        recovered = [
            each
            for each in available
            if table.has_recovered(each, now, recovery_seconds, self.model)
        ]
        usable = recovered or available
        unavailable = {
            each: reason or f"{each.name} was unavailable a moment ago and is not chosen again yet"
            for each, reason in reasons.items()
            if each not in usable
        }
        return self._decider.decide(now, usable, self.measurements.estimates, unavailable)

    def _error_of(
        self, errors: List[TandemError], unavailable: Mapping[Route, TandemError]
    ) -> TandemError:
        """The error of a frame that no node pair can serve, by those of each pair."""
        passing = [each for each in errors if not isinstance(each, PreconditionError)]
        if errors and not passing:
            return errors[0]
        for error in passing:
            if isinstance(error, ResourceExhaustedError):
                return error
        own = (e for e in passing if e in unavailable.values())
        return self.table.nothing_available(own, self.model, passing)

    def _mark_unavailable(self, routes: List[Route], reason: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        # A list: each of them is to be marked, whether or not another one is new.
        if any([self.table.mark_unavailable(route, reason, until) for route in routes]):
            self._decide_all()
            self._shared.notify()
