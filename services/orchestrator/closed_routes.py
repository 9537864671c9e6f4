"""The routes that one session does not use for a while; no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Dict, Iterable, Mapping, Optional

from common.domain.errors import TandemError
from common.domain.placement import StageAddress
from services.orchestrator.placement import Route


class Cause(Enum):
    """Why a route is closed; the seconds that it is closed for, at first and at the most."""

    # Refused: until one of its stages changes.
    REFUSED = (float("inf"), float("inf"))
    # Its health soon says what became of the stage.
    LOST = (1.0, 15.0)
    # Health knows nothing of an engine that hangs, or of a link between two other machines. Less
    # than a frame waits for a route by default.
    STALLED = (4.0, 60.0)
    # Too many streams or bytes; room may be made at any moment.
    FULL = (0.1, 2.0)


@dataclass(frozen=True)
class _Closing:
    cause: Cause
    error: TandemError
    until: float


class ClosedRoutes:
    """Closes routes for waits that grow from one time to the next, until they serve again."""

    def __init__(self) -> None:
        """Begin with all of them open."""
        self._closings: Dict[Route, _Closing] = {}
        self._waits_seconds: Dict[Route, float] = {}

    def close(self, route: Route, cause: Cause, error: TandemError, now: float) -> None:
        """Close a route, for longer than the last time if it has not served since.

        Args:
            route: that does not serve this session.
            cause: why.
            error: for the frames that have nowhere else to go.
            now: seconds, of any steady clock.
        """
        first_seconds, most_seconds = cause.value
        wait_seconds = min(max(first_seconds, self._waits_seconds.get(route, 0.0)), most_seconds)
        self._waits_seconds[route] = 2 * wait_seconds
        self._closings[route] = _Closing(cause, error, now + wait_seconds)

    def served(self, route: Route) -> None:
        """A frame came back along a route."""
        self._closings.pop(route, None)
        self._waits_seconds.pop(route, None)

    def reopen(self, routes: Iterable[Route]) -> None:
        """Open routes that were closed for a frame's sake that is not to be sent again."""
        for route in routes:
            if route in self._closings and self._closings[route].cause is not Cause.REFUSED:
                self.served(route)

    def changed(self, server: StageAddress) -> None:
        """A server has changed: it may serve what it did not before."""
        for route in [route for route in self._closings if route.uses(server)]:
            del self._closings[route]

    def errors(self, now: float) -> Mapping[Route, TandemError]:
        """The routes closed now, with what a frame is told that has no other."""
        self._closings = {route: each for route, each in self._closings.items() if each.until > now}
        return {route: closing.error for route, closing in self._closings.items()}

    def next_opening(self) -> Optional[float]:
        """When the first of the closed routes is open again; None if none will be by itself."""
        times = [each.until for each in self._closings.values() if each.until != float("inf")]
        return min(times, default=None)
