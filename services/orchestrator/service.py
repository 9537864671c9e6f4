"""From settings to a running orchestrator."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple, Union

import grpc

from common.domain.placement import NodePair, Stage, StageAddress
from common.server.budget import ByteBudget, FrameCost
from common.server.guard import StreamGuard, StreamLimits
from common.server.options import channel_options
from common.server.server import ServiceServer
from common.wire.connections import open_channel
from protos.tandem.v1 import detector_pb2_grpc, operations_pb2_grpc
from services.orchestrator.decision import Objective, Policy
from services.orchestrator.events import Events
from services.orchestrator.monitor import StageMonitor
from services.orchestrator.route_table import RouteTable
from services.orchestrator.routing import Router, RoutingOptions
from services.orchestrator.servicers import DetectorServicer, OperationsServicer
from services.orchestrator.settings import AUTOMATIC, OrchestratorSettings
from services.orchestrator.system import System

# Of a frame that is passed on: as it came, as it is sent, and what gRPC has yet to write.
_COPIES_HELD = 3
# Sessions that one peer may have, however few there may be.
_LEAST_SHARE = 4


async def serve_orchestrator(settings: OrchestratorSettings) -> bool:
    """Run the orchestrator until SIGTERM; returns whether all of its threads have ended.

    It is healthy once it has looked at every stage: which of them are up is its answer to give,
    not a condition of its own.

    Raises:
        ConfigurationError: an address cannot be bound.
    """
    server = ServiceServer("orchestrator", settings)
    channels = _channels(settings)
    # A heartbeat must not wait behind the frames that a slow link's socket holds.
    health_channels = _channels(settings, ("grpc.use_local_subchannel_pool", 1))
    monitor = StageMonitor(
        health_channels, settings.health_interval_seconds, settings.health_timeout_seconds
    )
    router = Router(
        RouteTable(monitor.states),
        _routing_options(settings),
        _setting(settings),
        Events(server.metrics),
    )
    system = System(
        channels=channels,
        router=router,
        metrics=server.metrics,
        draining=server.draining,
        window=settings.window,
    )
    detector = DetectorServicer(system, _guard(settings))
    server.add(detector_pb2_grpc.add_DetectorServicer_to_server, detector, "tandem.v1.Detector")
    operations = OperationsServicer(system, detector.sessions)
    server.add(
        operations_pb2_grpc.add_OperationsServicer_to_server, operations, "tandem.v1.Operations"
    )
    keeping = server.supervise(system.run(), "looking after routes")

    async def prepare() -> None:
        monitor.start(system.note, router.observe_round_trip, router.heard_at)
        server.supervise(monitor.run(), "watching the stages")
        await monitor.first_look()

    try:
        await server.run(prepare)
    finally:
        keeping.cancel()
        await monitor.close()
        for channel in (*channels.values(), *health_channels.values()):
            await channel.close()
    return True


def _guard(settings: OrchestratorSettings) -> StreamGuard:
    share = max(_LEAST_SHARE, settings.max_sessions // 4)
    limits = StreamLimits(
        streams=settings.max_sessions,
        streams_of_a_peer=share,
        unopened_streams=share,
        silence_seconds=settings.max_silence_seconds,
    )
    budget = ByteBudget(
        settings.max_buffered_bytes,
        settings.max_message_bytes,
        FrameCost(_COPIES_HELD),
        share_peers=True,
    )
    return StreamGuard(limits, budget)


def _channels(
    settings: OrchestratorSettings, *extra: Tuple[str, int]
) -> Dict[StageAddress, grpc.aio.Channel]:
    options = [*channel_options(settings.max_message_bytes), *extra]
    addresses = [
        StageAddress(name, stage, address, replica)
        for name, node in settings.nodes.items()
        for stage, told in ((Stage.BACKBONE, node.backbone), (Stage.TRANSFORMER, node.transformer))
        for replica, address in enumerate(_as_list(told))
    ]
    return {each: open_channel(each.address, options) for each in addresses}


def _as_list(addresses: Union[None, str, List[str]]) -> List[str]:
    if addresses is None:
        return []
    return [addresses] if isinstance(addresses, str) else addresses


def _setting(settings: OrchestratorSettings) -> Optional[NodePair]:
    return None if settings.placement == AUTOMATIC else NodePair.parse(settings.placement)


def _routing_options(settings: OrchestratorSettings) -> RoutingOptions:
    return RoutingOptions(
        policy=Policy(
            objective=Objective(settings.objective),
            improvement=settings.switch_improvement,
            hold_seconds=settings.switch_hold_seconds,
            frames_may_leave=settings.frames_may_leave,
            features_may_leave=settings.features_may_leave,
            located_at=settings.located_at,
        ),
        patience_seconds=settings.unavailable_after,
        recovery_seconds=settings.recovery_seconds,
        probe_share=settings.probe_share,
    )
