"""Mirrored requests: copies of served frames, sent where a route is to be prepared or measured."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Callable, Dict, Optional

from common.server.account import StreamBytes
from protos.tandem.v1 import detector_pb2
from services.orchestrator.decision.mirroring import SentBefore
from services.orchestrator.routing.router import Router
from services.orchestrator.routing.routes import Route
from services.orchestrator.session.attempts import FrameAttempts
from services.orchestrator.session.deadlines import FrameWeight
from services.orchestrator.session.groups import NOTHING, KeptVideo, Place
from services.orchestrator.session.route_choice import RouteChoice
from services.orchestrator.session.sender import FrameSender, ignore_sending

# Clients' frame ids count up from anywhere, so mirrored requests get ids from the far end.
_IDS_FROM = (1 << 64) - 1


class MirroredRequests:
    """Sends one session's mirrored requests, at most one at a time along each route.

    Only frames that have been served are mirrored, so that a frame which brings stages down goes
    nowhere unseen.
    """

    def __init__(
        self,
        router: Router,
        choice: RouteChoice,
        sender: FrameSender,
        account: StreamBytes,
        video: KeptVideo,
        *,
        measures: bool,
    ) -> None:
        """Begin with none under way.

        Args:
            router: tells which route to measure.
            choice: tells which route to prepare.
            sender: sends them.
            account: of the bytes that the session holds.
            video: of the session.
            measures: whether this session's frames may be mirrored to measure a route.
        """
        self._router = router
        self._choice = choice
        self._sender = sender
        self._account = account
        self._video = video
        self._measures = measures
        self._under_way: Dict[Route, asyncio.Task[None]] = {}
        self._next_id = _IDS_FROM

    def mirror(
        self, frame: detector_pb2.Frame, weight: FrameWeight, place: Optional[Place] = None
    ) -> None:
        """Mirror a frame that has been served, if a route is to be prepared or measured now.

        One of video goes where the decoder has not come past it.

        Args:
            frame: that has been served.
            weight: of this frame.
            place: of the frame in the session's video; None if it is a picture.
        """
        to_prepare = self._choice.take_route_to_prepare()
        if to_prepare is None and not (self._measures and self._router.measures):
            return
        unusable = {*self._under_way, *self._choice.unavailable()}
        route = to_prepare
        if route is None and self._measures:
            route = self._router.take_mirror_route(unusable, lambda each: self._before(each, place))
        if route is None or route in unusable or self._before(route, place) is None:
            return
        charge = self._account.try_copy(weight.data_bytes)
        if charge is None:
            # There is no room for a copy: the session switches without.
            self._choice.current = to_prepare or self._choice.current
            return
        on_sent = ignore_sending if to_prepare is not None else self._router.events.mirrored
        copy = self._copy_of(frame)
        task = asyncio.ensure_future(self._serve(route, copy, weight, place, on_sent))
        self._under_way[route] = task
        if place is not None:
            self._video.hold(place)
            task.add_done_callback(partial(self._let_go, place))
        task.add_done_callback(lambda _: self._under_way.pop(route, None))
        task.add_done_callback(lambda _: charge.release())

    async def close(self) -> None:
        """Give up those under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _before(self, route: Route, place: Optional[Place]) -> Optional[SentBefore]:
        """What a mirrored request would bring along; None if the decoder is past the frame."""
        lack = NOTHING if place is None else self._sender.lack(route, place)
        return None if lack is None else SentBefore(len(lack.frames), lack.data_bytes)

    def _let_go(self, place: Place, _: object) -> None:
        self._video.release(place)

    def _copy_of(self, frame: detector_pb2.Frame) -> detector_pb2.Frame:
        copy = detector_pb2.Frame()
        copy.CopyFrom(frame)
        copy.frame_id = self._next_id
        self._next_id -= 1
        return copy

    async def _serve(
        self,
        route: Route,
        copy: detector_pb2.Frame,
        weight: FrameWeight,
        place: Optional[Place],
        on_sent: Callable[[], None],
    ) -> None:
        attempts = FrameAttempts()
        result = await self._sender.send(route, copy, weight, attempts, place, on_sent=on_sent)
        if result is not None and result.WhichOneof("result") == "detections":
            frame_bytes = None if place is None else weight.data_bytes
            self._router.served(route, result.timing, backlogged=False, frame_bytes=frame_bytes)
            self._choice.prepared(route)
            return
        for server in attempts.failed_servers:
            self._router.server_failed(server)
        if result is not None or attempts.failed_servers:
            self._choice.failed_on_mirrored_request(route)
