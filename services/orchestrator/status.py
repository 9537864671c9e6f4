"""The orchestrator's state as `Operations` tells it."""

from __future__ import annotations

import time
from typing import Iterable, Tuple

from common.domain.placement import NodePair, Placement
from common.wire.placements import node_pair_to_wire, placement_to_wire
from protos.tandem.v1 import operations_pb2
from services.orchestrator.explanation import explain
from services.orchestrator.placement import StageHealth
from services.orchestrator.prediction import Prediction
from services.orchestrator.routing import Router
from services.orchestrator.session import Session
from services.orchestrator.system import System


def system_status(system: System, sessions: Iterable[Session]) -> operations_pb2.SystemStatus:
    """Everything there is to tell."""
    router = system.router
    current = router.current()
    policy = router.options.policy
    return operations_pb2.SystemStatus(
        placement_setting=placement_to_wire(router.setting.placement if router.setting else None),
        placement=placement_to_wire(current.placement if current else None),
        stages=[_stage_status(router, state) for state in router.table.states.values()],
        placements=[_placement_status(system, pair) for pair in _pairs_to_show(router)],
        sessions=[_session_status(session) for session in sessions],
        uptime_seconds=time.monotonic() - system.started,
        draining=system.draining.is_set(),
        setting=node_pair_to_wire(router.setting),
        current=node_pair_to_wire(current),
        links=[
            operations_pb2.LinkStatus(
                source=source,
                destination=destination,
                bytes_per_second=link.bytes_per_second,
                latency_seconds=link.latency_seconds,
                age_seconds=link.age_seconds,
            )
            for (source, destination), link in sorted(router.estimates.links.items())
        ],
        explanation=explain(router.decision, router.estimates, policy),
        objective=policy.objective.value,
        events=operations_pb2.EventCounts(
            switches=router.events.switches,
            failovers=router.events.failovers,
            replayed_frames=router.events.replayed_frames,
            probe_frames=router.events.probe_frames,
        ),
    )


def _pairs_to_show(router: Router) -> Tuple[NodePair, ...]:
    """The four placements, configured or not, then every other pair that is configured."""
    named = tuple(placement.node_pair for placement in Placement)
    return (*named, *(pair for pair in router.table.pairs if pair not in named))


def _stage_status(router: Router, state: StageHealth) -> operations_pb2.StageStatus:
    address = state.address
    status = operations_pb2.StageStatus(
        node=address.node,
        stage=address.stage.value,
        address=address.address,
        healthy=state.healthy,
        reason=state.reason,
        replica=address.replica,
        frames_in_flight=router.table.in_flight[address],
    )
    recovery_seconds = router.options.recovery_seconds
    if state.healthy and not state.settled(time.monotonic(), recovery_seconds):
        status.reason = f"back; chosen again once it has been healthy for {recovery_seconds:g} s"
    estimate = router.estimates.stages.get((address.node, address.stage))
    if estimate is not None:
        status.estimate.execute_seconds = estimate.execute_seconds
        status.estimate.compute_seconds = estimate.compute_seconds
        status.estimate.age_seconds = estimate.age_seconds
    return status


def _placement_status(system: System, pair: NodePair) -> operations_pb2.PlacementStatus:
    decision = system.router.decision
    obstacle = system.router.table.obstacle(pair)
    status = operations_pb2.PlacementStatus(
        placement=placement_to_wire(pair.placement),
        available=obstacle == "",
        reason=obstacle or decision.ruled_out.get(pair, ""),
        frames=system.frames_served(pair),
        frames_per_second=system.frames_per_second(pair),
        nodes=node_pair_to_wire(pair),
    )
    prediction = decision.predictions.get(pair)
    if prediction is not None and prediction.frames_per_second is not None:
        status.prediction.CopyFrom(_prediction(prediction))
    return status


def _prediction(prediction: Prediction) -> operations_pb2.Prediction:
    return operations_pb2.Prediction(
        frames_per_second=prediction.frames_per_second,
        latency_seconds=prediction.latency_seconds,
        bytes_per_frame=prediction.bytes_per_frame,
        energy_joules=prediction.energy_joules,
        bottleneck=prediction.bottleneck,
    )


def _session_status(session: Session) -> operations_pb2.SessionStatus:
    return operations_pb2.SessionStatus(
        session_id=session.session_id,
        placement=placement_to_wire(session.pair.placement if session.pair else None),
        frames_answered=session.frames_answered,
        frames_in_flight=session.frames_in_flight,
        nodes=node_pair_to_wire(session.pair),
    )
