"""`Detector` and `Operations`."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, Dict

import structlog

from common.domain.errors import InvalidInputError, TandemError, UnavailableError
from common.server.guard import GuardedStream, StreamGuard
from common.wire.errors import grpc_status, public_message
from common.wire.placements import requested_pair_from_wire
from protos.tandem.v1 import detector_pb2_grpc, operations_pb2, operations_pb2_grpc
from services.orchestrator.session import Session
from services.orchestrator.status import system_status
from services.orchestrator.system import System

log = structlog.get_logger()

Context = Any  # grpc.aio.ServicerContext, whose type arguments differ from method to method.

_MIN_WATCH_INTERVAL_SECONDS = 0.1
_DEFAULT_WATCH_INTERVAL_SECONDS = 1.0
# Ten thousand years: google.protobuf.Duration's own bound.
_MAX_DURATION_SECONDS = 315_576_000_000


class DetectorServicer(detector_pb2_grpc.DetectorServicer):
    """Clients' streams.

    Attributes:
        sessions: those that are open, by id.
    """

    def __init__(self, system: System, guard: StreamGuard) -> None:
        """Serve with `system`; `guard` admits streams."""
        self._system = system
        self._guard = guard
        self.sessions: Dict[str, Session] = {}

    async def Detect(self, request_iterator: Any, context: Context) -> None:  # noqa: N802
        """See detector.proto."""
        await self._guard.run(request_iterator, context, self._serve)

    async def _serve(self, stream: GuardedStream) -> None:
        session = Session(uuid.uuid4().hex[:12], self._system)
        self.sessions[session.session_id] = session
        log.info("session opened", session=session.session_id, client=stream.peer)
        try:
            await session.run(stream)
            if self._system.draining.is_set():
                raise UnavailableError("the server is draining")
        finally:
            del self.sessions[session.session_id]
            log.info("session closed", session=session.session_id, frames=session.frames_answered)


class OperationsServicer(operations_pb2_grpc.OperationsServicer):
    """Status, and the placement of streams that leave it to the server."""

    def __init__(self, system: System, sessions: Dict[str, Session]) -> None:
        """Report on `system` and on the open `sessions`."""
        self._system = system
        self._sessions = sessions

    async def GetStatus(  # noqa: N802
        self, request: operations_pb2.GetStatusRequest, context: Context
    ) -> operations_pb2.SystemStatus:
        """See operations.proto."""
        return system_status(self._system, self._sessions.values())

    async def WatchStatus(  # noqa: N802
        self, request: operations_pb2.WatchStatusRequest, context: Context
    ) -> None:
        """See operations.proto."""
        try:
            interval_seconds = _interval_seconds(request)
        except InvalidInputError as error:
            await context.abort(grpc_status(error), public_message(error))
        while not self._system.draining.is_set():
            await context.write(system_status(self._system, self._sessions.values()))
            try:
                await asyncio.wait_for(self._system.draining.wait(), interval_seconds)
            except asyncio.TimeoutError:
                continue

    async def SetPlacement(  # noqa: N802
        self, request: operations_pb2.SetPlacementRequest, context: Context
    ) -> operations_pb2.SystemStatus:
        """See operations.proto."""
        try:
            pair = requested_pair_from_wire(
                request.placement, request.backbone_node, request.transformer_node
            )
            self._system.router.set(pair)
        except TandemError as error:
            await context.abort(grpc_status(error), public_message(error))
        log.info("placement set", placement=pair.name if pair else "auto")
        self._system.show_choice()
        return system_status(self._system, self._sessions.values())


def _interval_seconds(request: operations_pb2.WatchStatusRequest) -> float:
    """The interval asked for, or the default.

    Raises:
        InvalidInputError: it is no duration as protobuf defines one, or too short.
    """
    if not request.HasField("interval"):
        return _DEFAULT_WATCH_INTERVAL_SECONDS
    seconds, nanos = request.interval.seconds, request.interval.nanos
    if abs(seconds) > _MAX_DURATION_SECONDS or abs(nanos) >= 10**9 or seconds * nanos < 0:
        raise InvalidInputError(f"interval of {seconds} s and {nanos} ns is no valid duration")
    interval_seconds = seconds + nanos * 1e-9
    if interval_seconds < _MIN_WATCH_INTERVAL_SECONDS:
        raise InvalidInputError(f"interval {interval_seconds:g} s is under 100 ms")
    return interval_seconds
