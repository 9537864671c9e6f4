"""`Detector` and `Operations`, the orchestrator's services."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from common.bundle.reading import is_plain_name
from common.domain.errors import InvalidInputError, TandemError
from common.domain.models import is_digest
from common.security.identity import Role
from common.server.authorization import calling_identity
from common.server.guard import StreamGuard
from common.wire.errors import grpc_status, public_message
from common.wire.operations import system_status_to_wire
from common.wire.placements import checked_model, requested_pair_from_wire
from protos.tandem.v1 import detector_pb2_grpc, operations_pb2, operations_pb2_grpc
from services.orchestrator.deployment import Deployments
from services.orchestrator.session.sessions import Sessions
from services.orchestrator.status_report import status_for_client, system_status

log = structlog.get_logger()

Context = Any  # grpc.aio.ServicerContext, whose type arguments differ from method to method.

_MIN_WATCH_INTERVAL_SECONDS = 0.1
_DEFAULT_WATCH_INTERVAL_SECONDS = 1.0
# Ten thousand years: google.protobuf.Duration's own bound.
_MAX_DURATION_SECONDS = 315_576_000_000


class DetectorServicer(detector_pb2_grpc.DetectorServicer):
    """Clients' streams."""

    def __init__(self, sessions: Sessions, guard: StreamGuard) -> None:
        """Serve each stream that `guard` admits by a session."""
        self._sessions = sessions
        self._guard = guard

    async def Detect(self, request_iterator: Any, context: Context) -> None:  # noqa: N802
        """See detector.proto."""
        await self._guard.run(request_iterator, context, self._sessions.serve)


class OperationsServicer(operations_pb2_grpc.OperationsServicer):
    """Status, where the frames go of clients that asked for no node pair, and by which bundle.

    With TLS a client may ask for its status, too, and is told of its own sessions only.
    """

    def __init__(self, sessions: Sessions, deployments: Deployments) -> None:
        """Report on `sessions` and on what they are served with; deploy by `deployments`."""
        self._sessions = sessions
        self._deployments = deployments
        self._draining = sessions.resources.draining

    async def GetStatus(  # noqa: N802
        self, request: operations_pb2.GetStatusRequest, context: Context
    ) -> operations_pb2.SystemStatus:
        """See operations.proto."""
        return self._status()

    async def WatchStatus(  # noqa: N802
        self, request: operations_pb2.WatchStatusRequest, context: Context
    ) -> None:
        """See operations.proto."""
        try:
            interval_seconds = _interval_seconds(request)
        except InvalidInputError as error:
            await context.abort(grpc_status(error), public_message(error))
        while not self._draining.is_set():
            await context.write(self._status())
            try:
                await asyncio.wait_for(self._draining.wait(), interval_seconds)
            except asyncio.TimeoutError:
                continue

    async def SetPlacement(  # noqa: N802
        self, request: operations_pb2.SetPlacementRequest, context: Context
    ) -> operations_pb2.SystemStatus:
        """See operations.proto."""
        try:
            operator_pair = requested_pair_from_wire(
                request.placement, request.backbone_node, request.transformer_node
            )
            self._sessions.resources.router.set_operator_pair(operator_pair)
        except TandemError as error:
            await context.abort(grpc_status(error), public_message(error))
        log.info("placement set", placement=operator_pair.name if operator_pair else "auto")
        self._sessions.show_choice()
        return self._status()

    async def DeployBundle(  # noqa: N802
        self, request: operations_pb2.DeployBundleRequest, context: Context
    ) -> operations_pb2.SystemStatus:
        """See operations.proto."""
        if not is_plain_name(request.bundle):
            raise InvalidInputError(f"{request.bundle!r} is no name of a folder")
        if not is_digest(request.bundle_digest):
            raise InvalidInputError("the digest of a bundle is a sha256 in lower-case hexadecimal")
        checked_model(request.model)
        await self._deployments.deploy(request.model, request.bundle, request.bundle_digest)
        return self._status()

    def _status(self) -> operations_pb2.SystemStatus:
        caller = calling_identity()
        if caller is not None and caller.role is Role.CLIENT:
            return system_status_to_wire(status_for_client(self._sessions, caller))
        return system_status_to_wire(system_status(self._sessions))


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
