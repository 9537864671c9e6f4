"""The system's status as `Operations` tells it, gathered from all parts of the orchestrator."""

from __future__ import annotations

import time
from typing import Optional, Tuple

from common.domain.models import DEFAULT_MODEL, StageModels
from common.domain.placement import NodePair, Placement, StageAddress
from common.domain.status import (
    EventCounts,
    LinkStatus,
    ModelChoice,
    ModelStatus,
    PlacementStatus,
    PredictedService,
    ServiceEstimate,
    StageStatus,
    SystemStatus,
)
from common.security.identity import Identity
from services.orchestrator.counters import FrameCounters
from services.orchestrator.decision.explanation import explain
from services.orchestrator.decision.prediction import Prediction
from services.orchestrator.routing.router import Router
from services.orchestrator.routing.routes import StageHealth
from services.orchestrator.routing.served_models import ServedModels
from services.orchestrator.session.sessions import Sessions


def system_status(sessions: Sessions) -> SystemStatus:
    """Everything there is to tell."""
    resources = sessions.resources
    router, frames = resources.router, resources.frames
    return SystemStatus(
        operator_pair=router.operator_pair,
        active_pair=router.active_pair(),
        stages=tuple(
            _stage_status(router, resources.models, each) for each in router.table.health.values()
        ),
        placements=_placement_statuses(router, frames, None),
        links=_link_statuses(router),
        sessions=tuple(session.status for session in sessions.open.values()),
        objective=router.options.policy.objective.value,
        explanation=_explanation(router),
        events=router.events.counts,
        uptime_seconds=frames.uptime_seconds,
        draining=resources.draining.is_set(),
        warnings=(
            *resources.warnings(),
            *resources.models.disagreements(),
            *resources.models.notes(),
        ),
        models=tuple(
            _model_choice(router.of(name), frames)
            for name in sorted(resources.models.names)
            if name != DEFAULT_MODEL
        ),
    )


def _model_choice(router: Router, frames: FrameCounters) -> ModelChoice:
    return ModelChoice(
        name=router.model,
        active_pair=router.active_pair(),
        placements=_placement_statuses(router, frames, router.model),
        explanation=_explanation(router),
    )


def _explanation(router: Router) -> Tuple[str, ...]:
    return explain(
        *(router.decision, router.measurements.estimates, router.options.policy),
        of_system=router.model == DEFAULT_MODEL,
    )


def status_for_client(sessions: Sessions, client: Identity) -> SystemStatus:
    """What a client may know: its own sessions, and whether the service is about to end."""
    return SystemStatus(
        operator_pair=None,
        active_pair=None,
        stages=(),
        placements=(),
        links=(),
        sessions=tuple(each.status for each in sessions.open.values() if each.owner == client),
        objective="",
        explanation=(),
        events=EventCounts({}, {}, 0, 0),
        uptime_seconds=0.0,
        draining=sessions.resources.draining.is_set(),
    )


def _pairs_told(router: Router) -> Tuple[NodePair, ...]:
    """The four named placements, configured or not, then every other pair that is configured."""
    named = tuple(placement.node_pair for placement in Placement)
    return (*named, *(each for each in router.table.pairs if each not in named))


def _stage_status(router: Router, models: ServedModels, health: StageHealth) -> StageStatus:
    server = health.address
    reason = health.reason
    recovery_seconds = router.options.recovery_seconds
    if health.healthy and not health.has_recovered(time.monotonic(), recovery_seconds):
        reason = f"back; chosen again once it has been healthy for {recovery_seconds:g} s"
    return StageStatus(
        node=server.node,
        stage=server.stage,
        address=server.address,
        healthy=health.healthy,
        reason=reason,
        replica=server.replica,
        frames_in_flight=router.table.in_flight[server],
        frames_of_others=router.table.of_others.get(server, 0),
        estimate=_service_estimate(router, server),
        models=_model_statuses(router, server, models.known.get(server)),
    )


def _service_estimate(router: Router, server: StageAddress) -> Optional[ServiceEstimate]:
    """How fast a server's stage is on its node with the router's model."""
    estimate = router.measurements.estimates.stages.get((server.node, server.stage))
    if estimate is None:
        return None
    return ServiceEstimate(estimate.execute_seconds, estimate.compute_seconds, estimate.age_seconds)


def _model_statuses(
    router: Router, server: StageAddress, models: Optional[StageModels]
) -> Tuple[ModelStatus, ...]:
    if models is None:
        return ()
    return tuple(
        ModelStatus(
            *(each.name, each.bundle_name, each.bundle_digest, each.out_of_order or each.note),
            _service_estimate(router.of(each.name), server),
        )
        for each in models.models
    )


def _placement_statuses(
    router: Router, frames: FrameCounters, model: Optional[str]
) -> Tuple[PlacementStatus, ...]:
    """What is told of each node pair; frames are those of a model, or with None of all."""
    return tuple(_placement_status(router, frames, each, model) for each in _pairs_told(router))


def _placement_status(
    router: Router, frames: FrameCounters, node_pair: NodePair, model: Optional[str]
) -> PlacementStatus:
    unavailable_reason = router.table.unavailable_reason(node_pair, router.model)
    return PlacementStatus(
        node_pair=node_pair,
        available=unavailable_reason == "",
        reason=unavailable_reason or router.decision.excluded.get(node_pair, ""),
        frames=frames.frames_served(node_pair, model),
        frames_per_second=frames.frames_per_second(node_pair, model),
        prediction=_predicted_service(router.decision.predictions.get(node_pair)),
    )


def _predicted_service(prediction: Optional[Prediction]) -> Optional[PredictedService]:
    """The prediction as it is told; None until all of it is known."""
    if prediction is None or prediction.frames_per_second is None:
        return None
    return PredictedService(
        frames_per_second=prediction.frames_per_second,
        latency_seconds=prediction.latency_seconds or 0.0,
        bytes_per_frame=prediction.bytes_per_frame or 0.0,
        energy_joules=prediction.energy_joules,
        bottleneck=prediction.bottleneck,
        codec=prediction.rate.codec if prediction.rate else None,
    )


def _link_statuses(router: Router) -> Tuple[LinkStatus, ...]:
    return tuple(
        LinkStatus(
            source=sender,
            destination=receiver,
            bytes_per_second=link.bytes_per_second,
            latency_seconds=link.latency_seconds,
            age_seconds=link.age_seconds,
        )
        for (sender, receiver), link in sorted(router.measurements.estimates.links.items())
    )
