"""Where the next frame of one session goes, and when the session switches to another route."""

from __future__ import annotations

import asyncio
import time
from typing import Callable, Iterable, Mapping, Optional, Set

from common.domain.errors import (
    PreconditionError,
    ResourceExhaustedError,
    TandemError,
    UnavailableError,
)
from common.domain.placement import NodePair, StageAddress
from services.orchestrator.routing.router import Router
from services.orchestrator.routing.routes import Route
from services.orchestrator.session.attempts import FrameAttempts
from services.orchestrator.session.unavailable_routes import Cause, UnavailableRoutes


def _never_changes(route: Route) -> bool:
    """The stages serve what they serve."""
    return False


class RouteChoice:
    """Where a session's next frame goes.

    The route is changed while frames flow: the next one is opened, and has served a mirrored
    request, before the first frame goes there; until then frames take the current one.

    Attributes:
        current: the route that frames take; None before the first frame.
    """

    def __init__(
        self,
        router: Router,
        requested_pair: Optional[NodePair],
        is_open: Callable[[Route], bool],
        draining: asyncio.Event,
        is_changing: Callable[[Route], bool] = _never_changes,
    ) -> None:
        """Begin without a route.

        Args:
            router: knows the routes.
            requested_pair: nodes that the client asked for; None leaves the choice to the server.
            is_open: whether frames can be sent along a route at once.
            draining: set once frames should wait for nothing any more.
            is_changing: whether a half of a route has changed a moment ago, so that halves which
                do not match are about to.
        """
        self.current: Optional[Route] = None
        self._router = router
        self._requested_pair = requested_pair
        self._is_open = is_open
        self._draining = draining
        self._is_changing = is_changing
        self._unavailable = UnavailableRoutes()
        # Routes that have served a frame of this session, and whose stream is open still.
        self._prepared: Set[Route] = set()
        self._to_prepare: Optional[Route] = None
        self._outage_since: Optional[float] = None

    async def next_route(self, attempts: FrameAttempts) -> Route:
        """The route of a frame's next attempt; waits while there is none.

        Raises:
            UnavailableError: no route was available for as long as the server waits.
            ResourceExhaustedError: none had room for as long.
            PreconditionError: the nodes asked for are not configured, or do not fit together.
            TandemError: no route is left that has not failed on the frame.
        """
        while True:
            change = self._router.next_change()
            try:
                best = self._router.choose(
                    self._requested_pair, self.unavailable(), attempts.penalty
                )
            except (UnavailableError, ResourceExhaustedError, PreconditionError) as refusal:
                is_passing = (
                    not isinstance(refusal, PreconditionError) or self._unavailable.are_changing()
                )
                wait_seconds = self._wait_seconds() if is_passing else None
                if wait_seconds is None:
                    raise
                await asyncio.wait([change], timeout=wait_seconds)
                continue
            error = attempts.verdict(best)
            if error is not None:
                raise error
            return best if attempts.is_retry else self._switch_or_stay(best)

    def route_at_once(self) -> Optional[Route]:
        """The route of a frame's first attempt; None if it may have to wait for one."""
        try:
            return self._switch_or_stay(
                self._router.choose(self._requested_pair, self.unavailable())
            )
        except TandemError:
            return None

    def is_usable(self, route: Route) -> bool:
        """Whether this session's frames may take a route now."""
        return self._router.is_available(route) and route not in self.unavailable()

    def unavailable(self) -> Mapping[Route, TandemError]:
        """The routes that this session does not use now, with the reasons."""
        return self._unavailable.errors(time.monotonic())

    def served(self, route: Route) -> None:
        """A frame has come back along a route, with detections or an error of its own."""
        self._outage_since = None
        self.prepared(route)

    def prepared(self, route: Route) -> None:
        """A route has served, so that frames can switch to it."""
        self._unavailable.served(route)
        self._prepared.add(route)

    def failed(self, route: Route, cause: Cause, error: TandemError) -> None:
        """A route did not serve a frame."""
        if cause is Cause.INCOMPATIBLE and self._is_changing(route):
            cause = Cause.CHANGING
        # One without progress stays unavailable for longer than one that fails as it is given up.
        if route not in self.unavailable():
            self._unavailable.add(route, cause, error, time.monotonic())
        self._prepared.discard(route)
        self._begin_outage()

    def failed_on_mirrored_request(self, route: Route) -> None:
        """A route failed on what another one has served; no frame waits for it."""
        error = UnavailableError(f"{route.node_pair.name} failed on a frame that was served before")
        self._unavailable.add(route, Cause.FAILED, error, time.monotonic())

    def no_progress(self, route: Route, reason: str, now: float) -> None:
        """A route has not answered in time; `now` by `time.monotonic`."""
        self._unavailable.add(route, Cause.NO_PROGRESS, UnavailableError(reason), now)
        self._prepared.discard(route)

    def given_up(self, route: Route) -> None:
        """The route's stream is gone."""
        self._prepared.discard(route)

    def forgive(self, routes: Iterable[Route]) -> None:
        """Routes failed for the sake of a frame that is not sent again: it tells nothing of them.

        The frames were answered, even if with an error, so that no outage goes on.
        """
        self._unavailable.forgive(routes)
        self._outage_since = None

    def stage_changed(self, server: StageAddress) -> None:
        """A server has changed: it may serve what it did not before."""
        self._unavailable.stage_changed(server)

    def server_removed(self, server: StageAddress) -> None:
        """A server is gone, and with it its routes."""
        self._unavailable.server_removed(server)

    def keep_open(self, routes: Iterable[Route]) -> None:
        """Only these routes have a stream still."""
        self._prepared.intersection_update(routes)

    def take_route_to_prepare(self) -> Optional[Route]:
        """The route to switch to once it has served a mirrored request; given out once."""
        route, self._to_prepare = self._to_prepare, None
        return route

    def _wait_seconds(self) -> Optional[float]:
        """How long a frame without a route should wait now; None if it has waited long enough."""
        now = time.monotonic()
        patience_seconds = self._router.options.unavailable_after_seconds
        left_seconds = self._begin_outage() + patience_seconds - now
        if left_seconds <= 0 or self._draining.is_set():
            return None
        next_end = self._unavailable.next_end()
        return left_seconds if next_end is None else min(left_seconds, next_end - now)

    def _begin_outage(self) -> float:
        """When frames stopped being served; now, if they were until now."""
        if self._outage_since is None:
            self._outage_since = time.monotonic()
        return self._outage_since

    def _switch_or_stay(self, best: Route) -> Route:
        current = self.current
        if current is best or current == best:
            return best
        stays = current is not None and self.is_usable(current) and self._is_open(current)
        ready = best in self._prepared and self._is_open(best)
        if current is None or not stays or ready:
            self.current = best
        else:
            self._to_prepare = best
        return self.current or best
