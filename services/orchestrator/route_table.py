"""Which routes can serve now, and which of them is the least busy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, Mapping, Tuple

from common.domain.errors import PreconditionError, TandemError, UnavailableError
from common.domain.placement import NodePair, Stage, StageAddress
from services.orchestrator.placement import Route, StageHealth, StageStates, configured_pairs


@dataclass(frozen=True)
class _Impasse:
    reason: str
    until: float


class RouteTable:
    """Every route, by what is known of its stages and of the frames that it did not answer.

    Attributes:
        states: what is known of every stage's server.
        pairs: every pair of nodes that is configured.
        in_flight: frames under way, by the stage that they are bound for.
        extra_seconds: that large frames under way may take, all together, by backbone.
    """

    def __init__(self, states: StageStates) -> None:
        """Look things up in `states`, which the monitor keeps up to date."""
        self.states = states
        self.pairs = configured_pairs(states)
        self.in_flight: Counter[StageAddress] = Counter()
        self.extra_seconds: Dict[StageAddress, float] = {}
        self._impasses: Dict[Route, _Impasse] = {}

    @property
    def routes(self) -> Tuple[Route, ...]:
        """Every route that is configured, whether or not it can serve."""
        backbones, transformers = (
            [address for address in self.states if address.stage is stage] for stage in Stage
        )
        return tuple(Route(first, second) for first in backbones for second in transformers)

    def of(self, pair: NodePair) -> Tuple[Route, ...]:
        """Every route of a pair that can serve now; at least one.

        Raises:
            PreconditionError: a node that it needs is not configured.
            UnavailableError: a stage that it needs is down; the message names each.
        """
        backbones, transformers = self._servers(pair)
        missing = [
            f"{stage.value} on {node}"
            for node, stage, found in (
                (pair.backbone, Stage.BACKBONE, backbones),
                (pair.transformer, Stage.TRANSFORMER, transformers),
            )
            if not found
        ]
        if missing:
            raise PreconditionError(
                f"placement {pair.name} needs {' and '.join(missing)}, not configured here"
            )
        down = [
            f"{state.address.name} is down ({state.reason})"
            for group in (backbones, transformers)
            if not any(state.healthy for state in group)
            for state in group
        ]
        if down:
            raise UnavailableError(f"placement {pair.name} cannot serve: {'; '.join(down)}")
        routes = [
            Route(backbone.address, transformer.address)
            for backbone in backbones
            for transformer in transformers
            if backbone.healthy and transformer.healthy
        ]
        passable = tuple(route for route in routes if route not in self._impasses)
        if not passable:
            reasons = "; ".join(sorted({self._impasses[route].reason for route in routes}))
            raise UnavailableError(f"placement {pair.name} cannot serve: {reasons}")
        return passable

    def obstacle(self, pair: NodePair) -> str:
        """Why a pair of nodes cannot serve; empty when it can."""
        try:
            self.of(pair)
        except (PreconditionError, UnavailableError) as error:
            return str(error)
        return ""

    def passable(self, route: Route) -> bool:
        """Whether a route can serve."""
        healthy = all(self.states[each].healthy for each in (route.backbone, route.transformer))
        return healthy and route not in self._impasses

    def settled(self, pair: NodePair, now: float, recovery_seconds: float) -> bool:
        """Whether each stage of a pair has a server that is healthy, and has been for a while."""
        return all(
            any(state.settled(now, recovery_seconds) for state in group)
            for group in self._servers(pair)
        )

    def least_busy(
        self,
        pair: NodePair,
        closed: Mapping[Route, TandemError],
        penalty: Callable[[Route], int] = lambda route: 0,
    ) -> Route:
        """The route of a pair with the fewest frames bound for its stages.

        Args:
            pair: of nodes.
            closed: routes that do not serve this client's stream now, with their reasons.
            penalty: how little a route is wanted; of those with the least, the least busy is taken.

        Raises:
            PreconditionError: a node is not configured, or every route refused.
            UnavailableError: a stage that it needs is down; the message names each.
            TandemError: the reason of a closed route, if all are.
        """
        routes = self.of(pair)
        willing = [route for route in routes if route not in closed]
        if not willing:
            errors = [closed[route] for route in routes]
            # One that may pass is told rather than one that will not.
            raise next((e for e in errors if not isinstance(e, PreconditionError)), errors[0])

        def rank(route: Route) -> Tuple[int, int]:
            return penalty(route), sum(self.in_flight[server] for server in route.servers)

        return min(willing, key=rank)

    def nothing_serves(self, errors: Iterable[TandemError] = ()) -> UnavailableError:
        """The error for a frame that may go anywhere, when it can go nowhere.

        Args:
            errors: why routes that could serve others do not serve its session.
        """
        down = [state.address.name for state in self.states.values() if not state.healthy]
        reasons = [f"down: {', '.join(down)}"] if down else []
        reasons += sorted({impasse.reason for impasse in self._impasses.values()})
        reasons += sorted({str(error) for error in errors})
        return UnavailableError(f"no placement can serve; {'; '.join(reasons) or 'down: nothing'}")

    def block(self, route: Route, reason: str, until: float) -> bool:
        """Take a route out although both of its stages are healthy.

        Args:
            route: that did not answer.
            reason: for messages.
            until: see `expire`.

        Returns:
            Whether this is new; a route that is blocked already stays so for its own time.
        """
        if route in self._impasses:
            return False
        self._impasses[route] = _Impasse(reason, until)
        return True

    def unblock(self, address: StageAddress) -> None:
        """Let all routes through a stage serve again, as far as its health allows."""
        for route in [route for route in self._impasses if route.uses(address)]:
            del self._impasses[route]

    def expire(self, now: float) -> bool:
        """Let routes serve again that were blocked until now; returns whether there were any."""
        over = [route for route, impasse in self._impasses.items() if now >= impasse.until]
        for route in over:
            del self._impasses[route]
        return bool(over)

    def _servers(self, pair: NodePair) -> Tuple[List[StageHealth], List[StageHealth]]:
        """The servers of both stages, healthy or not."""
        backbones, transformers = (
            [
                state
                for address, state in self.states.items()
                if (address.node, address.stage) == wanted
            ]
            for wanted in (
                (pair.backbone, Stage.BACKBONE),
                (pair.transformer, Stage.TRANSFORMER),
            )
        )
        return backbones, transformers
