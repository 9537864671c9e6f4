"""The routes that one session does not use for a while; no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Dict, Iterable, Mapping, Optional

from common.domain.errors import TandemError
from common.domain.placement import StageAddress
from services.orchestrator.routing.routes import Route


class Cause(Enum):
    """Why a route is unavailable to a session; for how many seconds, at first and at the most."""

    # Its stages do not take the session's stream: until one of them changes.
    INCOMPATIBLE = (float("inf"), float("inf"))
    # The same, while its stages change over one after the other to another bundle.
    CHANGING = (0.1, 1.0)
    # Its health soon says what became of the stage.
    FAILED = (1.0, 15.0)
    # Health knows nothing of an engine that hangs, or of a link between two other machines. Less
    # than a frame waits for a route by default.
    NO_PROGRESS = (4.0, 60.0)
    # Too many streams or bytes; room may be made at any moment.
    FULL = (0.1, 2.0)


@dataclass(frozen=True)
class _Unavailability:
    cause: Cause
    error: TandemError
    until: float


class UnavailableRoutes:
    """The routes that one session does not use for a while.

    The whiles grow from one time to the next, until the route serves again.
    """

    def __init__(self) -> None:
        """Begin with all routes available."""
        self._routes: Dict[Route, _Unavailability] = {}
        self._waits_seconds: Dict[Route, float] = {}

    def add(self, route: Route, cause: Cause, error: TandemError, now: float) -> None:
        """Do not use a route, for longer than the last time if it has not served since.

        Args:
            route: that does not serve this session.
            cause: why.
            error: for the frames that have nowhere else to go.
            now: seconds, of any steady clock.
        """
        first_seconds, most_seconds = cause.value
        wait_seconds = min(max(first_seconds, self._waits_seconds.get(route, 0.0)), most_seconds)
        self._waits_seconds[route] = 2 * wait_seconds
        self._routes[route] = _Unavailability(cause, error, now + wait_seconds)

    def served(self, route: Route) -> None:
        """A frame came back along a route."""
        self._routes.pop(route, None)
        self._waits_seconds.pop(route, None)

    def forgive(self, routes: Iterable[Route]) -> None:
        """Use routes again that failed for the sake of a frame which is not to be sent again."""
        for route in routes:
            if route in self._routes and self._routes[route].cause is not Cause.INCOMPATIBLE:
                self.served(route)

    def stage_changed(self, server: StageAddress) -> None:
        """A server has changed: it may serve what it did not before."""
        for route in [route for route in self._routes if route.uses(server)]:
            del self._routes[route]

    def server_removed(self, server: StageAddress) -> None:
        """A server is gone, and with it its routes."""
        self.stage_changed(server)
        for route in [route for route in self._waits_seconds if route.uses(server)]:
            del self._waits_seconds[route]

    def errors(self, now: float) -> Mapping[Route, TandemError]:
        """The routes not to be used now, with what a frame is told that has no other."""
        if not self._routes:
            return {}
        self._routes = {route: each for route, each in self._routes.items() if each.until > now}
        return {route: each.error for route, each in self._routes.items()}

    def are_changing(self) -> bool:
        """Whether the stages of one of them are just changing over."""
        return any(each.cause is Cause.CHANGING for each in self._routes.values())

    def next_end(self) -> Optional[float]:
        """When the first of them may be used again; None if none will be by itself."""
        times = [each.until for each in self._routes.values() if each.until != float("inf")]
        return min(times, default=None)
