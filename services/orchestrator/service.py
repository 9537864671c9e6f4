"""From settings to a running orchestrator."""

from __future__ import annotations

from typing import Dict, Optional

import grpc

from common.domain.placement import Placement, Stage, StageAddress
from common.stage.guard import StreamGuard
from common.stage.server import ServiceServer, channel_options, max_message_bytes
from protos.tandem.v1 import detector_pb2_grpc, operations_pb2_grpc
from services.orchestrator.monitor import StageMonitor
from services.orchestrator.servicers import DetectorServicer, OperationsServicer
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.system import System


async def serve_orchestrator(settings: OrchestratorSettings) -> None:
    """Run the orchestrator until SIGTERM.

    It is healthy once it has looked at every stage: which of them are up is its answer to give,
    not a condition of its own.

    Raises:
        ConfigurationError: an address cannot be bound.
    """
    server = ServiceServer("orchestrator", settings)
    channels = _channels(settings)
    monitor = StageMonitor(channels, settings.health_interval_seconds)
    system = System(
        channels=channels,
        states=monitor.states,
        metrics=server.metrics,
        draining=server.draining,
        window=settings.window,
        setting=_placement_setting(settings),
    )
    detector = DetectorServicer(system, StreamGuard(settings.max_sessions))
    server.add(detector_pb2_grpc.add_DetectorServicer_to_server, detector, "tandem.v1.Detector")
    operations = OperationsServicer(system, detector.sessions)
    server.add(
        operations_pb2_grpc.add_OperationsServicer_to_server, operations, "tandem.v1.Operations"
    )

    async def prepare() -> None:
        monitor.start(system.note)
        await monitor.first_look()

    try:
        await server.run(prepare)
    finally:
        await monitor.close()
        for channel in channels.values():
            await channel.close()


def _channels(settings: OrchestratorSettings) -> Dict[StageAddress, grpc.aio.Channel]:
    options = channel_options(max_message_bytes(settings))
    addresses = [
        StageAddress(name, stage, address)
        for name, node in settings.nodes.items()
        for stage, address in (
            (Stage.BACKBONE, node.backbone),
            (Stage.TRANSFORMER, node.transformer),
        )
        if address is not None
    ]
    return {each: grpc.aio.insecure_channel(each.address, options) for each in addresses}


def _placement_setting(settings: OrchestratorSettings) -> Optional[Placement]:
    return None if settings.placement == "auto" else Placement(settings.placement)
