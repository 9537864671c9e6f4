"""Which routes are available now, and which of them is the least busy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, Iterator, List, Mapping, Tuple

from common.domain.errors import PreconditionError, TandemError, UnavailableError
from common.domain.placement import NodePair, Stage, StageAddress
from services.orchestrator.routing.routes import NOT_SERVING, Route, StageHealth, configured_pairs

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

    Attributes:
        health: what is known of every stage's server.
        pairs: every node pair that is configured.
        in_flight: frames under way, by the server that they are bound for.
        extra_seconds: how long large frames under way may take beyond others, all together, by
            backbone.
    """

    def __init__(self, health: Iterable[StageHealth]) -> None:
        """Begin with what is known of each configured server."""
        self.health: Dict[StageAddress, StageHealth] = {each.address: each for each in health}
        self.pairs = configured_pairs(self.health)
        self.in_flight: Counter[StageAddress] = Counter()
        self.extra_seconds: Dict[StageAddress, float] = {}
        self._unavailable: Dict[Route, _Unavailability] = {}

    def update(self, health: StageHealth) -> None:
        """Take over a server's new health, which explains what was wrong with its routes."""
        self.health[health.address] = health
        for route in [route for route in self._unavailable if route.uses(health.address)]:
            del self._unavailable[route]

    @property
    def routes(self) -> Tuple[Route, ...]:
        """Every route that is configured, available or not."""
        backbones, transformers = (
            [address for address in self.health if address.stage is stage] for stage in Stage
        )
        return tuple(Route(first, second) for first in backbones for second in transformers)

    def routes_of(self, node_pair: NodePair) -> Tuple[Route, ...]:
        """Every route of a node pair that is available now; at least one.

        Raises:
            PreconditionError: a stage that it needs is not configured; the message names each.
            UnavailableError: a stage or every route is unavailable; the message says which.
        """
        backbones, transformers = self._servers(node_pair)
        _check_configured(node_pair, backbones, transformers)
        _check_healthy(node_pair, backbones, transformers)
        routes = [
            Route(backbone.address, transformer.address)
            for backbone in backbones
            for transformer in transformers
            if backbone.healthy and transformer.healthy
        ]
        available = tuple(route for route in routes if route not in self._unavailable)
        if not available:
            reasons = "; ".join(sorted({self._unavailable[route].reason for route in routes}))
            raise UnavailableError(f"placement {node_pair.name} cannot serve: {reasons}")
        return available

    def unavailable_reason(self, node_pair: NodePair) -> str:
        """Why a node pair cannot serve; empty when it can."""
        try:
            self.routes_of(node_pair)
        except (PreconditionError, UnavailableError) as error:
            return str(error)
        return ""

    def is_available(self, route: Route) -> bool:
        """Whether a route can serve."""
        healthy = all(self.health[server].healthy for server in route.servers)
        return healthy and route not in self._unavailable

    def has_recovered(self, node_pair: NodePair, now: float, recovery_seconds: float) -> bool:
        """Whether each stage of a pair has a server that is healthy, and has been for a while."""
        return all(
            any(server.has_recovered(now, recovery_seconds) for server in servers)
            for servers in self._servers(node_pair)
        )

    def least_busy(
        self,
        node_pair: NodePair,
        unavailable: Mapping[Route, TandemError],
        penalty: Penalty = no_penalty,
    ) -> Route:
        """The route of a node pair with the fewest frames bound for its servers.

        Args:
            node_pair: the nodes that run the stages.
            unavailable: routes that do not serve this client's stream now, with their reasons.
            penalty: how little a route is wanted; of those with the least the least busy is taken.

        Raises:
            PreconditionError: a node is not configured, or no route takes this client's stream.
            UnavailableError: the node pair is unavailable; the message says why.
            TandemError: the reason of one of the routes, if all are unavailable to this stream.
        """
        routes = self.routes_of(node_pair)
        candidates = [route for route in routes if route not in unavailable]
        if not candidates:
            errors = [unavailable[route] for route in routes]
            # One that may pass is told rather than one that will not.
            raise next((e for e in errors if not isinstance(e, PreconditionError)), errors[0])

        def rank(route: Route) -> Tuple[int, int]:
            return penalty(route), sum(self.in_flight[server] for server in route.servers)

        return min(candidates, key=rank)

    def nothing_available(self, errors: Iterable[TandemError] = ()) -> UnavailableError:
        """The error of a frame that may go anywhere and finds no route.

        Args:
            errors: why routes that could serve others do not serve this frame's stream.
        """
        unhealthy = [each for each in self.health.values() if not each.healthy]
        names = ", ".join(each.address.name for each in unhealthy)
        reasons = [f"unavailable: {names}"] if unhealthy else []
        reasons += sorted({each.reason for each in unhealthy if each.fault == NOT_SERVING})
        reasons += sorted({each.reason for each in self._unavailable.values()})
        reasons += sorted({str(error) for error in errors})
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
        return True

    def expire(self, now: float) -> bool:
        """Let routes serve again that were unavailable until now; returns whether any were."""
        over = [route for route, each in self._unavailable.items() if now >= each.until]
        for route in over:
            del self._unavailable[route]
        return bool(over)

    def _servers(self, node_pair: NodePair) -> Tuple[List[StageHealth], List[StageHealth]]:
        """The servers of both stages, healthy or not."""
        return (
            self._servers_of(node_pair.backbone, Stage.BACKBONE),
            self._servers_of(node_pair.transformer, Stage.TRANSFORMER),
        )

    def _servers_of(self, node: str, stage: Stage) -> List[StageHealth]:
        return [
            health
            for address, health in self.health.items()
            if (address.node, address.stage) == (node, stage)
        ]


def _check_configured(
    node_pair: NodePair, backbones: List[StageHealth], transformers: List[StageHealth]
) -> None:
    missing = []
    if not backbones:
        missing.append(f"{Stage.BACKBONE.value} on {node_pair.backbone}")
    if not transformers:
        missing.append(f"{Stage.TRANSFORMER.value} on {node_pair.transformer}")
    if missing:
        raise PreconditionError(
            f"placement {node_pair.name} needs {' and '.join(missing)}, not configured here"
        )


def _check_healthy(node_pair: NodePair, *stages: List[StageHealth]) -> None:
    unavailable = [reason for servers in stages for reason in _unhealthy(servers)]
    if unavailable:
        raise UnavailableError(f"placement {node_pair.name} cannot serve: {'; '.join(unavailable)}")


def _unhealthy(servers: List[StageHealth]) -> Iterator[str]:
    """Why none of a stage's servers is healthy; nothing if one is."""
    if any(server.healthy for server in servers):
        return
    for server in servers:
        yield f"{server.address.name} is unavailable ({server.reason})"
