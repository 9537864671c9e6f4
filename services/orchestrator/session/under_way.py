"""Counts the frames that are on their way to stages, of all sessions."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from typing import Dict, Iterator, Optional

from common.domain.placement import StageAddress
from services.orchestrator.routing.routes import Route
from services.orchestrator.session.route_stream import RouteStream


class UnderWay:
    """The frames under way, by the stages that they are bound for."""

    def __init__(
        self,
        in_flight: Counter[StageAddress],
        extra_seconds: Optional[Dict[StageAddress, float]] = None,
    ) -> None:
        """Count in what all sessions share.

        Args:
            in_flight: counts the frames, by stage.
            extra_seconds: adds up what large frames may take, by backbone.
        """
        self._in_flight = in_flight
        self._extra_seconds = {} if extra_seconds is None else extra_seconds

    @contextmanager
    def counted(self, used: RouteStream, route: Route, extra_seconds: float) -> Iterator[object]:
        """Count a frame while it is under way; gives its mark."""
        mark = object()
        self.begin(mark, used, route, extra_seconds)
        try:
            yield mark
        finally:
            self.end(mark, used, route, extra_seconds)

    def begin(self, mark: object, used: RouteStream, route: Route, extra_seconds: float) -> None:
        """Count a frame, by its mark, until `end` is told the same."""
        if not used.frames:
            used.progress = time.monotonic()
        used.was_used = True
        used.frames.append(mark)
        self._in_flight[route.backbone] += 1
        self._in_flight[route.transformer] += 1
        if extra_seconds:
            self._add_extra(used, route, extra_seconds)

    def end(self, mark: object, used: RouteStream, route: Route, extra_seconds: float) -> None:
        """A frame is under way no more."""
        used.frames.remove(mark)
        self._in_flight[route.backbone] -= 1
        self._in_flight[route.transformer] -= 1
        if extra_seconds:
            self._add_extra(used, route, -extra_seconds)

    def extra_seconds(self, backbone: StageAddress) -> float:
        """What all large frames that are bound for a backbone may take."""
        return self._extra_seconds.get(backbone, 0.0)

    def _add_extra(self, used: RouteStream, route: Route, seconds: float) -> None:
        used.extra_seconds += seconds
        total = self._extra_seconds.get(route.backbone, 0.0) + seconds
        self._extra_seconds[route.backbone] = total
