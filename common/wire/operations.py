"""The system's status on the wire, in both directions."""

from __future__ import annotations

from typing import Optional

from common.domain.errors import InvalidInputError
from common.domain.placement import NodePair, Stage
from common.domain.status import (
    EventCounts,
    LinkStatus,
    ModelChoice,
    ModelStatus,
    PlacementStatus,
    PredictedService,
    ServiceEstimate,
    SessionStatus,
    StageStatus,
    SystemStatus,
)
from common.wire.frames import codec_to_wire, known_codec_from_wire
from common.wire.placements import (
    node_pair_to_wire,
    optional_node_pair_from_wire,
    placement_to_wire,
)
from protos.tandem.v1 import detector_pb2, operations_pb2


def system_status_to_wire(status: SystemStatus) -> operations_pb2.SystemStatus:
    """The status as the orchestrator tells it; named placements are told beside their nodes."""
    return operations_pb2.SystemStatus(
        placement_setting=placement_to_wire(status.placement_setting),
        placement=placement_to_wire(status.placement),
        setting=node_pair_to_wire(status.operator_pair),
        current=node_pair_to_wire(status.active_pair),
        stages=[_stage_to_wire(stage) for stage in status.stages],
        placements=[_placement_to_wire(placement) for placement in status.placements],
        links=[operations_pb2.LinkStatus(**vars(link)) for link in status.links],
        sessions=[_session_to_wire(session) for session in status.sessions],
        objective=status.objective,
        explanation=status.explanation,
        events=operations_pb2.EventCounts(
            switches=status.events.switches,
            failovers=status.events.failovers,
            replayed_frames=status.events.retried_frames,
            probe_frames=status.events.mirrored_frames,
        ),
        uptime_seconds=status.uptime_seconds,
        draining=status.draining,
        warnings=status.warnings,
        models=[_choice_to_wire(choice) for choice in status.models],
    )


def system_status_from_wire(wire: operations_pb2.SystemStatus) -> SystemStatus:
    """The status that an orchestrator told.

    Raises:
        InvalidInputError: it names a stage that does not exist, or a placement without nodes.
    """
    return SystemStatus(
        operator_pair=optional_node_pair_from_wire(wire.setting, wire.HasField("setting")),
        active_pair=optional_node_pair_from_wire(wire.current, wire.HasField("current")),
        stages=tuple(_stage_from_wire(stage) for stage in wire.stages),
        placements=tuple(_placement_from_wire(placement) for placement in wire.placements),
        links=tuple(_link_from_wire(link) for link in wire.links),
        sessions=tuple(_session_from_wire(session) for session in wire.sessions),
        objective=wire.objective,
        explanation=tuple(wire.explanation),
        events=EventCounts(
            switches=dict(wire.events.switches),
            failovers=dict(wire.events.failovers),
            retried_frames=wire.events.replayed_frames,
            mirrored_frames=wire.events.probe_frames,
        ),
        uptime_seconds=wire.uptime_seconds,
        draining=wire.draining,
        warnings=tuple(wire.warnings),
        models=tuple(_choice_from_wire(choice) for choice in wire.models),
    )


def _choice_to_wire(choice: ModelChoice) -> operations_pb2.ModelChoice:
    return operations_pb2.ModelChoice(
        name=choice.name,
        current=node_pair_to_wire(choice.active_pair),
        placements=[_placement_to_wire(placement) for placement in choice.placements],
        explanation=choice.explanation,
    )


def _choice_from_wire(wire: operations_pb2.ModelChoice) -> ModelChoice:
    return ModelChoice(
        name=wire.name,
        active_pair=optional_node_pair_from_wire(wire.current, wire.HasField("current")),
        placements=tuple(_placement_from_wire(placement) for placement in wire.placements),
        explanation=tuple(wire.explanation),
    )


def _stage_to_wire(status: StageStatus) -> operations_pb2.StageStatus:
    return operations_pb2.StageStatus(
        node=status.node,
        stage=status.stage.value,
        address=status.address,
        healthy=status.healthy,
        reason=status.reason,
        replica=status.replica,
        frames_in_flight=status.frames_in_flight,
        frames_of_others=status.frames_of_others,
        models=[_model_to_wire(model) for model in status.models],
        estimate=_estimate_to_wire(status.estimate),
    )


def _model_to_wire(model: ModelStatus) -> operations_pb2.ModelStatus:
    estimate = _estimate_to_wire(model.estimate)
    return operations_pb2.ModelStatus(**{**vars(model), "estimate": estimate})


def _estimate_to_wire(
    estimate: Optional[ServiceEstimate],
) -> Optional[operations_pb2.ServiceEstimate]:
    return operations_pb2.ServiceEstimate(**vars(estimate)) if estimate else None


def _estimate_from_wire(
    estimate: operations_pb2.ServiceEstimate, present: bool
) -> Optional[ServiceEstimate]:
    if not present:
        return None
    return ServiceEstimate(
        execute_seconds=estimate.execute_seconds,
        compute_seconds=estimate.compute_seconds,
        age_seconds=estimate.age_seconds,
    )


def _stage_from_wire(wire: operations_pb2.StageStatus) -> StageStatus:
    try:
        stage = Stage(wire.stage)
    except ValueError as error:
        raise InvalidInputError(f"unknown stage {wire.stage!r}") from error
    return StageStatus(
        node=wire.node,
        stage=stage,
        address=wire.address,
        healthy=wire.healthy,
        reason=wire.reason,
        replica=wire.replica,
        frames_in_flight=wire.frames_in_flight,
        frames_of_others=wire.frames_of_others,
        models=tuple(
            ModelStatus(
                *(each.name, each.bundle_name, each.bundle_digest, each.note),
                _estimate_from_wire(each.estimate, each.HasField("estimate")),
            )
            for each in wire.models
        ),
        estimate=_estimate_from_wire(wire.estimate, wire.HasField("estimate")),
    )


def _placement_to_wire(status: PlacementStatus) -> operations_pb2.PlacementStatus:
    prediction = status.prediction
    return operations_pb2.PlacementStatus(
        placement=placement_to_wire(status.node_pair.placement),
        nodes=node_pair_to_wire(status.node_pair),
        available=status.available,
        reason=status.reason,
        frames=status.frames,
        frames_per_second=status.frames_per_second,
        prediction=_prediction_to_wire(prediction) if prediction else None,
    )


def _placement_from_wire(wire: operations_pb2.PlacementStatus) -> PlacementStatus:
    node_pair = optional_node_pair_from_wire(wire.nodes, wire.HasField("nodes"))
    if node_pair is None:
        raise InvalidInputError("the status of a placement does not name its nodes")
    return PlacementStatus(
        node_pair=node_pair,
        available=wire.available,
        reason=wire.reason,
        frames=wire.frames,
        frames_per_second=wire.frames_per_second,
        prediction=_prediction_from_wire(wire.prediction) if wire.HasField("prediction") else None,
    )


def _prediction_to_wire(prediction: PredictedService) -> operations_pb2.Prediction:
    codec = codec_to_wire(prediction.codec)
    return operations_pb2.Prediction(**{**vars(prediction), "codec": codec})


def _prediction_from_wire(wire: operations_pb2.Prediction) -> PredictedService:
    return PredictedService(
        frames_per_second=wire.frames_per_second,
        latency_seconds=wire.latency_seconds,
        bytes_per_frame=wire.bytes_per_frame,
        energy_joules=wire.energy_joules if wire.HasField("energy_joules") else None,
        bottleneck=wire.bottleneck,
        codec=known_codec_from_wire(wire.codec),
    )


def _link_from_wire(wire: operations_pb2.LinkStatus) -> LinkStatus:
    return LinkStatus(
        source=wire.source,
        destination=wire.destination,
        bytes_per_second=wire.bytes_per_second,
        latency_seconds=wire.latency_seconds,
        age_seconds=wire.age_seconds,
    )


def _session_to_wire(status: SessionStatus) -> operations_pb2.SessionStatus:
    return operations_pb2.SessionStatus(
        session_id=status.session_id,
        placement=_placement_name_to_wire(status.node_pair),
        nodes=node_pair_to_wire(status.node_pair),
        frames_answered=status.frames_answered,
        frames_in_flight=status.frames_in_flight,
        codec=codec_to_wire(status.codec),
        codec_reason=status.codec_reason,
        model=status.model,
    )


def _placement_name_to_wire(node_pair: Optional[NodePair]) -> detector_pb2.Placement:
    return placement_to_wire(node_pair.placement if node_pair else None)


def _session_from_wire(wire: operations_pb2.SessionStatus) -> SessionStatus:
    return SessionStatus(
        session_id=wire.session_id,
        node_pair=optional_node_pair_from_wire(wire.nodes, wire.HasField("nodes")),
        frames_answered=wire.frames_answered,
        frames_in_flight=wire.frames_in_flight,
        codec=known_codec_from_wire(wire.codec),
        codec_reason=wire.codec_reason,
        model=wire.model,
    )
