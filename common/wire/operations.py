"""The system's status on the wire."""

from __future__ import annotations

from common.domain.errors import InvalidInputError
from common.domain.placement import Placement, Stage
from common.domain.status import PlacementStatus, SessionStatus, StageStatus, SystemStatus
from common.wire.placements import placement_from_wire
from protos.tandem.v1 import operations_pb2


def system_status_from_wire(wire: operations_pb2.SystemStatus) -> SystemStatus:
    """The status that an orchestrator told.

    Raises:
        InvalidInputError: it names a placement or a stage that does not exist.
    """
    return SystemStatus(
        placement_setting=placement_from_wire(wire.placement_setting),
        placement=placement_from_wire(wire.placement),
        stages=tuple(_stage_status(stage) for stage in wire.stages),
        placements=tuple(_placement_status(placement) for placement in wire.placements),
        sessions=tuple(
            SessionStatus(
                session_id=session.session_id,
                placement=placement_from_wire(session.placement),
                frames_answered=session.frames_answered,
                frames_in_flight=session.frames_in_flight,
            )
            for session in wire.sessions
        ),
        uptime_seconds=wire.uptime_seconds,
        draining=wire.draining,
    )


def _stage_status(wire: operations_pb2.StageStatus) -> StageStatus:
    try:
        stage = Stage(wire.stage)
    except ValueError as error:
        raise InvalidInputError(f"unknown stage {wire.stage!r}") from error
    return StageStatus(wire.node, stage, wire.address, wire.healthy, wire.reason)


def _placement_status(wire: operations_pb2.PlacementStatus) -> PlacementStatus:
    placement = placement_from_wire(wire.placement)
    if placement is None:
        raise InvalidInputError("the status of a placement does not name it")
    return PlacementStatus(
        placement=Placement(placement),
        available=wire.available,
        reason=wire.reason,
        frames=wire.frames,
        frames_per_second=wire.frames_per_second,
    )
