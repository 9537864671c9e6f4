"""What became of one frame's attempts, and whether there may be another; no I/O, no clock."""

from __future__ import annotations

from typing import List, Optional

from common.domain.errors import InternalError, ResourceExhaustedError, TandemError
from common.domain.placement import StageAddress
from services.orchestrator.routing.routes import Route

# Of a frame that was under way when its route failed. One failure is anybody's, two are the
# frame's: such frames are sent again one at a time, so that no other one fails for its sake.
MOST_ROUTE_FAILURES = 2
# Of a frame that a stage failed on: once more on another server, which tells whose fault it is.
MOST_SERVER_FAILURES = 2
# Of a frame whose message a stage refused although its stream was open.
MOST_REJECTIONS = 3


class FrameAttempts:
    """The attempts to have one frame served.

    Attributes:
        failed_routes: routes that failed while the frame was under way.
        failed_servers: servers that failed on the frame.
        rejections: how often an open stream had no room for the frame.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.failed_routes: List[Route] = []
        self.failed_servers: List[StageAddress] = []
        self.rejections = 0
        self._tried: List[Route] = []
        self._latest_failure: Optional[TandemError] = None

    @property
    def is_retry(self) -> bool:
        """Whether the frame has been on a route before."""
        return bool(self._tried)

    @property
    def is_suspect(self) -> bool:
        """Whether a route failed with the frame, which may be what brings its stages down."""
        return bool(self.failed_routes)

    @property
    def seems_fatal(self) -> bool:
        """Whether so many routes failed with the frame that it is taken to be the cause."""
        return len(self.failed_routes) >= MOST_ROUTE_FAILURES

    def route_failed(self, route: Route) -> None:
        """The route failed while the frame was under way."""
        self._tried.append(route)
        self.failed_routes.append(route)

    def server_failed(self, route: Route, server: StageAddress, error: TandemError) -> None:
        """A server of the route failed on the frame."""
        self._tried.append(route)
        self.failed_servers.append(server)
        self._latest_failure = error

    def rejected(self, route: Route, error: ResourceExhaustedError) -> None:
        """The route's stream was open, and there was no room for the frame.

        Raises:
            ResourceExhaustedError: that happened too often: there is room for other frames, but
                not for this one.
        """
        self._tried.append(route)
        self.rejections += 1
        if self.rejections >= MOST_REJECTIONS:
            raise error

    def penalty(self, route: Route) -> int:
        """How little a route is wanted for the next attempt.

        Returns:
            0 for one without any server that the frame has been to; 2 for one that failed with the
            frame, or that has a server which failed on it; 1 for any other.
        """
        if not self._tried:
            return 0
        if any(route.uses(server) for server in self.failed_servers) or route in self.failed_routes:
            return 2
        servers = {server for tried in self._tried for server in tried.servers}
        return 1 if servers.intersection(route.servers) else 0

    def verdict(self, next_route: Optional[Route] = None) -> Optional[TandemError]:
        """The error to answer the frame with; None while it may be sent again.

        Args:
            next_route: the best that is left for it; None if that is not known.
        """
        if self.seems_fatal:
            routes = " and then ".join(route.node_pair.name for route in self.failed_routes)
            return InternalError(
                f"this frame was under way when {routes} failed; it is not sent a third time, "
                "since it may be what brings them down"
            )
        if len(self.failed_servers) >= MOST_SERVER_FAILURES:
            servers = " and ".join(server.name for server in self.failed_servers)
            return InternalError(
                f"this frame failed on {servers}, so that the fault is taken to be the frame's: "
                f"{self._latest_failure}"
            )
        if next_route is not None and any(next_route.uses(each) for each in self.failed_servers):
            # There is no other server to try.
            return self._latest_failure
        return None
