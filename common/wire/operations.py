"""The system's status on the wire."""

from __future__ import annotations

from common.domain.errors import InvalidInputError
from common.domain.placement import Stage
from common.domain.status import (
    EventCounts,
    LinkStatus,
    PlacementStatus,
    PredictedService,
    ServiceEstimate,
    SessionStatus,
    StageStatus,
    SystemStatus,
)
from common.wire.placements import optional_pair_from_wire
from protos.tandem.v1 import operations_pb2


def system_status_from_wire(wire: operations_pb2.SystemStatus) -> SystemStatus:
    """The status that an orchestrator told.

    Raises:
        InvalidInputError: it names a stage that does not exist, or a placement without nodes.
    """
    return SystemStatus(
        setting=optional_pair_from_wire(wire.setting, wire.HasField("setting")),
        current=optional_pair_from_wire(wire.current, wire.HasField("current")),
        stages=tuple(_stage_status(stage) for stage in wire.stages),
        placements=tuple(_placement_status(placement) for placement in wire.placements),
        links=tuple(
            LinkStatus(
                source=link.source,
                destination=link.destination,
                bytes_per_second=link.bytes_per_second,
                latency_seconds=link.latency_seconds,
                age_seconds=link.age_seconds,
            )
            for link in wire.links
        ),
        sessions=tuple(
            SessionStatus(
                session_id=session.session_id,
                pair=optional_pair_from_wire(session.nodes, session.HasField("nodes")),
                frames_answered=session.frames_answered,
                frames_in_flight=session.frames_in_flight,
            )
            for session in wire.sessions
        ),
        objective=wire.objective,
        explanation=tuple(wire.explanation),
        events=EventCounts(
            switches=dict(wire.events.switches),
            failovers=dict(wire.events.failovers),
            replayed_frames=wire.events.replayed_frames,
            probe_frames=wire.events.probe_frames,
        ),
        uptime_seconds=wire.uptime_seconds,
        draining=wire.draining,
    )


def _stage_status(wire: operations_pb2.StageStatus) -> StageStatus:
    try:
        stage = Stage(wire.stage)
    except ValueError as error:
        raise InvalidInputError(f"unknown stage {wire.stage!r}") from error
    estimate = None
    if wire.HasField("estimate"):
        estimate = ServiceEstimate(
            execute_seconds=wire.estimate.execute_seconds,
            compute_seconds=wire.estimate.compute_seconds,
            age_seconds=wire.estimate.age_seconds,
        )
    return StageStatus(
        node=wire.node,
        stage=stage,
        address=wire.address,
        healthy=wire.healthy,
        reason=wire.reason,
        replica=wire.replica,
        frames_in_flight=wire.frames_in_flight,
        estimate=estimate,
    )


def _placement_status(wire: operations_pb2.PlacementStatus) -> PlacementStatus:
    pair = optional_pair_from_wire(wire.nodes, wire.HasField("nodes"))
    if pair is None:
        raise InvalidInputError("the status of a placement does not name its nodes")
    prediction = None
    if wire.HasField("prediction"):
        told = wire.prediction
        prediction = PredictedService(
            frames_per_second=told.frames_per_second,
            latency_seconds=told.latency_seconds,
            bytes_per_frame=told.bytes_per_frame,
            energy_joules=told.energy_joules if told.HasField("energy_joules") else None,
            bottleneck=told.bottleneck,
        )
    return PlacementStatus(
        pair=pair,
        available=wire.available,
        reason=wire.reason,
        frames=wire.frames,
        frames_per_second=wire.frames_per_second,
        prediction=prediction,
    )
