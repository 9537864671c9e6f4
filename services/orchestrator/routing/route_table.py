"""Which routes are available now, and which of them is the least busy."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Tuple

from common.domain.errors import PreconditionError, TandemError, UnavailableError
from common.domain.models import DEFAULT_MODEL, StageModels
from common.domain.placement import NodePair, Stage, StageAddress
from protos.tandem.v1 import stage_pb2
from services.orchestrator.routing.pair_checks import (
    check_configured,
    check_healthy,
    check_served,
)
from services.orchestrator.routing.routes import (
    LEAVING,
    LEFT,
    NOT_SERVING,
    SERVING,
    UNAVAILABLE,
    AvailableRoutes,
    Route,
    StageHealth,
    configured_pairs,
)
from services.orchestrator.routing.served_models import ServedModels, told_model

Penalty = Callable[[Route], int]
"""How little a route is wanted for a frame: of several, those with the least are taken."""


def no_penalty(route: Route) -> int:
    """Every route is as good as another."""
    return 0


@dataclass(frozen=True)
class _Unavailability:
    reason: str
    until: float


class RouteTable:
    """Every route, by the health of its servers and by the frames that it did not answer.

    Methods that take a model tell what is there for its streams.

    Attributes:
        health: what is known of every stage's server.
        pairs: every node pair that is configured.
        in_flight: frames under way, by the server that they are bound for.
        of_others: frames of other orchestrators in a server, by what it told last.
        extra_seconds: how long large frames under way may take beyond others, all together, by
            backbone.
        models: what each server serves.
    """

    def __init__(
        self, health: Iterable[StageHealth], models: Optional[ServedModels] = None
    ) -> None:
        """Begin with what is known of each configured server, and of what it serves."""
        self.models = models or ServedModels()
        self.health: Dict[StageAddress, StageHealth] = {each.address: each for each in health}
        self.pairs = configured_pairs(self.health)
        self.in_flight: Counter[StageAddress] = Counter()
        self.of_others: Dict[StageAddress, int] = {}
        self.extra_seconds: Dict[StageAddress, float] = {}
        self._unavailable: Dict[Route, _Unavailability] = {}
        # Until something changes; every frame asks.
        self._available: Dict[Tuple[NodePair, str], AvailableRoutes] = {}

    def update(self, health: StageHealth) -> None:
        """Take over a server's new health, which explains what was wrong with its routes."""
        self.health[health.address] = health
        self._available.clear()
        if not health.healthy:
            self.of_others.pop(health.address, None)
            self.models.forget_order(health.address)
        self._forget_faults(health.address)

    def models_changed(self, server: StageAddress, models: Optional[StageModels]) -> None:
        """Take over what a server serves; None: it is gone."""
        if models is None:
            self.models.left(server)
        else:
            self.models.told(server, models, time.monotonic())
        self._available.clear()

    def add(self, server: StageAddress) -> None:
        """A server was found; it serves once its health says so."""
        self.health[server] = StageHealth.unknown(server)
        self._available.clear()

    def remove(self, server: StageAddress) -> None:
        """A server is gone; no frame may be bound for it."""
        del self.health[server]
        self._available.clear()
        for known in (self.of_others, self.in_flight, self.extra_seconds):
            known.pop(server, None)
        self._forget_faults(server)

    def keeps(self, route: Route) -> bool:
        """Whether both servers of a route are there to stay."""
        known = [self.health.get(server) for server in route.servers]
        return all(health is not None and health.fault != LEFT for health in known)

    def ends_in_good_order(self, server: StageAddress, model: str = DEFAULT_MODEL) -> bool:
        """Whether a server ends because it was told so; one that is gone was."""
        health = self.health.get(server)
        return health is None or self.models.health_with(health, model).in_good_order

    def serving(self, node: str, stage: Stage, model: str = DEFAULT_MODEL) -> int:
        """How many servers of a node's stage serve a model."""
        return sum(health.healthy for health in self._servers_of(node, stage, model))

    def states(self, node: str, stage: Stage) -> Dict[str, int]:
        """How many servers of a node's stage are in each state."""
        states = dict.fromkeys((SERVING, UNAVAILABLE, LEAVING), 0)
        for address, health in self.health.items():
            if (address.node, address.stage) == (node, stage) and not address.is_name:
                states[health.state] += 1
        return states

    def note_in_flight(self, server: StageAddress, frames: int) -> None:
        """A server has told how many frames of all orchestrators it holds.

        Those of this one are known, and some may not have reached it yet: what is more than
        those is of others.
        """
        if server in self.health:
            self.of_others[server] = max(0, frames - self.in_flight[server])

    def note_result(self, route: Route, result: stage_pb2.FrameResult) -> None:
        """Take note of what both stages of a route tell of themselves with an answer."""
        if result.HasField("backbone_in_flight"):
            self.note_in_flight(route.backbone, result.backbone_in_flight)
        if result.HasField("transformer_in_flight"):
            self.note_in_flight(route.transformer, result.transformer_in_flight)

    def frames_in(self, server: StageAddress) -> int:
        """Frames of all orchestrators that are bound for a server, as far as is known."""
        return self.in_flight[server] + self.of_others.get(server, 0)

    def _forget_faults(self, server: StageAddress) -> None:
        for route in [route for route in self._unavailable if route.uses(server)]:
            del self._unavailable[route]

    @property
    def routes(self) -> Tuple[Route, ...]:
        """Every route that is configured, available or not."""
        backbones, transformers = (
            [address for address in self.health if address.stage is stage] for stage in Stage
        )
        return tuple(Route(first, second) for first in backbones for second in transformers)

    def routes_of(self, node_pair: NodePair, model: str = DEFAULT_MODEL) -> Tuple[Route, ...]:
        """Every route of a node pair that is available now; at least one.

        Raises:
            PreconditionError: a stage that it needs is not configured, or does not serve the model,
                or its halves do not match; the message names each.
            UnavailableError: a stage or every route is unavailable, or its halves do not match and
                one of them has just changed; the message says which.
        """
        return tuple(route for route, _, _ in self._available_of(node_pair, model).routes)

    def _available_of(self, node_pair: NodePair, model: str) -> AvailableRoutes:
        """See `routes_of`."""
        known = self._available.get((node_pair, model))
        if known is not None:
            return known
        check_configured(node_pair, *self._servers(node_pair))
        backbones, transformers = self._servers(node_pair, model)
        check_served(node_pair, backbones, transformers, model)
        check_healthy(node_pair, backbones, transformers)
        routes = [
            Route(backbone.address, transformer.address)
            for backbone in backbones
            for transformer in transformers
            if backbone.healthy and transformer.healthy
        ]
        matching = [route for route in routes if self.models.matches(route, model)]
        if routes and not matching:
            now = time.monotonic()
            are_changing = any(self.models.is_changing(route, now) for route in routes)
            kind = UnavailableError if are_changing else PreconditionError
            raise kind(
                f"placement {node_pair.name} has halves of different bundles for "
                f"{told_model(model)}"
            )
        routes = matching
        available = AvailableRoutes.of([each for each in routes if each not in self._unavailable])
        if not available.routes:
            reasons = "; ".join(sorted({self._unavailable[route].reason for route in routes}))
            raise UnavailableError(f"placement {node_pair.name} cannot serve: {reasons}")
        self._available[node_pair, model] = available
        return available

    def unavailable_reason(self, node_pair: NodePair, model: str = DEFAULT_MODEL) -> str:
        """Why a node pair cannot serve; empty when it can."""
        try:
            self._available_of(node_pair, model)
        except (PreconditionError, UnavailableError) as error:
            return str(error)
        return ""

    def is_available(self, route: Route, model: str = DEFAULT_MODEL) -> bool:
        """Whether a route can serve."""
        if route in self._unavailable:
            return False
        known = [self.health.get(server) for server in route.servers]
        return all(
            health is not None and self.models.health_with(health, model).healthy
            for health in known
        )

    def has_recovered(
        self,
        node_pair: NodePair,
        now: float,
        recovery_seconds: float,
        model: str = DEFAULT_MODEL,
    ) -> bool:
        """Whether each stage of a pair has a server that is healthy, and has been for a while."""
        return all(
            any(server.has_recovered(now, recovery_seconds) for server in servers)
            for servers in self._servers(node_pair, model)
        )

    def only_route(self, node_pair: NodePair, model: str = DEFAULT_MODEL) -> Optional[Route]:
        """The route of a node pair that has just one; None if there are others, or none."""
        available = self._available.get((node_pair, model))
        if available is None or len(available.routes) != 1:
            return None
        return available.routes[0][0]

    def least_busy(
        self,
        node_pair: NodePair,
        unavailable: Mapping[Route, TandemError],
        penalty: Penalty = no_penalty,
        model: str = DEFAULT_MODEL,
    ) -> Route:
        """The route of a node pair with the fewest frames bound for its servers, of whomever.

        Args:
            node_pair: the nodes that run the stages.
            unavailable: routes that do not serve this client's stream now, with their reasons.
            penalty: how little a route is wanted; of those with the least the least busy is taken.
            model: that is to serve the frame.

        Raises:
            PreconditionError: a node is not configured, or no route takes this client's stream.
            UnavailableError: the node pair is unavailable; the message says why.
            TandemError: the reason of one of the routes, if all are unavailable to this stream.
        """
        servers, routes = self._available_of(node_pair, model)
        frames = [self.frames_in(server) for server in servers]
        best, least = None, (0, 0)
        for route, backbone, transformer in routes:
            if unavailable and route in unavailable:
                continue
            rank = penalty(route), frames[backbone] + frames[transformer]
            if best is None or rank < least:
                best, least = route, rank
        if best is not None:
            return best
        errors = [unavailable[route] for route, _, _ in routes]
        # One that may pass is told rather than one that will not.
        raise next((e for e in errors if not isinstance(e, PreconditionError)), errors[0])

    def nothing_available(
        self,
        errors: Iterable[TandemError] = (),
        model: str = DEFAULT_MODEL,
        otherwise: Iterable[TandemError] = (),
    ) -> UnavailableError:
        """The error of a frame that may go anywhere and finds no route.

        Args:
            errors: why routes that could serve others do not serve this frame's stream.
            model: that is to serve the frame.
            otherwise: what is told where there is nothing else to tell.
        """
        known = [
            each for each in self.health.values() if self.models.may_serve(each.address, model)
        ]
        unhealthy = [
            each
            for each in (self.models.health_with(one, model) for one in known)
            if not each.healthy
        ]
        names = ", ".join(each.address.name for each in unhealthy)
        reasons = [f"unavailable: {names}"] if unhealthy else []
        reasons += sorted({each.reason for each in unhealthy if each.fault == NOT_SERVING})
        reasons += sorted({each.reason for each in self._unavailable.values()})
        reasons += sorted({str(error) for error in errors})
        reasons = reasons or sorted({str(error) for error in otherwise})
        nothing = "none is configured, or the settings exclude those that are"
        return UnavailableError(f"no placement can serve; {'; '.join(reasons) or nothing}")

    def mark_unavailable(self, route: Route, reason: str, until: float) -> bool:
        """Send no more frames along a route although both of its servers are healthy.

        Args:
            route: that did not answer.
            reason: for messages.
            until: when it is to be tried again; see `expire`.

        Returns:
            Whether this is new; a route that is unavailable already stays so for its own time.
        """
        if route in self._unavailable:
            return False
        self._unavailable[route] = _Unavailability(reason, until)
        self._available.clear()
        return True

    def expire(self, now: float) -> bool:
        """Let routes serve again that were unavailable until now; returns whether any were."""
        over = [route for route, each in self._unavailable.items() if now >= each.until]
        for route in over:
            del self._unavailable[route]
            self._available.clear()
        return bool(over)

    def _servers(
        self, node_pair: NodePair, model: str = DEFAULT_MODEL
    ) -> Tuple[List[StageHealth], List[StageHealth]]:
        """The servers of both stages that have a model, healthy or not."""
        return (
            self._servers_of(node_pair.backbone, Stage.BACKBONE, model),
            self._servers_of(node_pair.transformer, Stage.TRANSFORMER, model),
        )

    def _servers_of(self, node: str, stage: Stage, model: str) -> List[StageHealth]:
        return [
            self.models.health_with(health, model)
            for address, health in self.health.items()
            if (address.node, address.stage) == (node, stage)
            and self.models.may_serve(address, model)
        ]
