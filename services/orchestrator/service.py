"""From settings to a running orchestrator."""

from __future__ import annotations

from typing import Callable, Optional, Tuple

import structlog

from common.domain.models import StageModels
from common.domain.placement import StageAddress
from common.security.identity import Identity, Role
from common.security.quotas import QuotaFile
from common.security.tls import TlsFiles
from common.server.addresses import checked_host
from common.server.budget import ByteBudget, FrameCost
from common.server.guard import StreamGuard, StreamLimits
from common.server.options import channel_options, max_connections
from common.server.security import security_of
from common.server.server import ServiceServer
from common.telemetry.metrics import Metrics
from common.wire.channels import ServerChannel
from common.wire.resolver import SystemResolver
from protos.tandem.v1 import detector_pb2_grpc, operations_pb2_grpc
from services.orchestrator.counters import EventCounters, FrameCounters
from services.orchestrator.decision.policy import Objective, Policy
from services.orchestrator.deployment import Deployments
from services.orchestrator.insecurity import Insecurity
from services.orchestrator.replicas import Connections, Replicas
from services.orchestrator.routing.measurements import Measurements
from services.orchestrator.routing.models_watch import ModelsWatch
from services.orchestrator.routing.monitor import StageMonitor
from services.orchestrator.routing.route_table import RouteTable
from services.orchestrator.routing.router import Router, RoutingOptions
from services.orchestrator.routing.routes import StageHealth
from services.orchestrator.servicers import DetectorServicer, OperationsServicer
from services.orchestrator.session.frame_encoding import FrameEncoding
from services.orchestrator.session.quotas import IdentityQuotas
from services.orchestrator.session.resources import SessionResources
from services.orchestrator.session.sessions import Sessions
from services.orchestrator.settings import OrchestratorSettings

log = structlog.get_logger()

# Of a frame that is passed on: as it came, as it is sent, and what gRPC has yet to write.
_COPIES_HELD = 3
_LEAST_UNOPENED = 4


async def serve_orchestrator(settings: OrchestratorSettings) -> bool:
    """Run the orchestrator until SIGTERM; returns whether all of its threads have ended.

    It is healthy once it has looked at every stage: which of them are available is its answer to
    give, not a condition of its own.

    Raises:
        ConfigurationError: an address cannot be bound, or the processes that encode pictures
            cannot be started.
    """
    if settings.frame_codec is not None:
        # An orchestrator that encodes nothing loads no libraries for that.
        from common.vision.confined_process import start_server

        start_server()
    _tell_of_few_files(settings.max_sessions)
    security = security_of(settings, Role.ORCHESTRATOR)
    tls = None if security is None else security.tls
    server = ServiceServer("orchestrator", settings, security=security)
    connect = _connector(settings, tls)
    # A heartbeat must not wait behind the frames that a slow link's socket holds.
    connect_for_health = _connector(settings, tls, ("grpc.use_local_subchannel_pool", 1))
    servers = [each for each in settings.stage_addresses if not each.is_name]
    channels = {each: connect(each) for each in servers}
    health_channels = {each: connect_for_health(each) for each in servers}

    addresses = [each.address for each in settings.stage_addresses]
    insecurity = Insecurity(checked_host(settings.host), addresses, tls)
    router = _router(settings, server.metrics)
    sessions = Sessions(
        SessionResources(
            router=router,
            channels=channels,
            frames=FrameCounters(server.metrics),
            metrics=server.metrics,
            draining=server.draining,
            warnings=lambda: (
                *insecurity.warnings(),
                *replicas.warnings(),
                *deployments.warnings(),
            ),
            traces=server.traces,
            quotas=IdentityQuotas(QuotaFile(settings.quotas) if settings.quotas else None),
            frame_encoding=_frame_encoding(settings, router),
            max_group_bytes=settings.max_group_mebibytes << 20,
            window=settings.window,
        )
    )

    def stage_changed(health: StageHealth) -> None:
        replicas.stage_changed(health)

    monitor = StageMonitor(
        health_channels,
        settings.health_interval_seconds,
        settings.health_timeout_seconds,
        on_change=stage_changed,
        on_heartbeat=router.measurements.observe_heartbeat,
        on_in_flight=router.table.note_in_flight,
        answered_at=router.measurements.answered_at,
    )
    replicas = Replicas(
        (each for each in settings.stage_addresses if each.is_name),
        *(sessions, monitor),
        Connections(channels, connect, connect_for_health),
        look_up=SystemResolver().look_up,
        lookup_seconds=settings.lookup_seconds,
    )

    deployments = Deployments(router.table, sessions.resources.models, channels, server.draining)

    def stage_told(server: StageAddress, models: StageModels) -> None:
        sessions.models_changed(server, models)
        deployments.stage_told(server, models)

    def stage_left(server: StageAddress) -> None:
        sessions.models_changed(server, None)
        deployments.server_left(server)

    models_watch = ModelsWatch(
        channels, settings.health_interval_seconds, on_told=stage_told, on_left=stage_left
    )
    _add_servicers(server, sessions, deployments, settings)
    looking_after = server.supervise(sessions.run(), "looking after routes")
    following = server.supervise(replicas.run(), "looking names up")

    async def prepare() -> None:
        server.supervise(monitor.run(), "watching the stages")
        await replicas.first_look()
        await monitor.first_look()
        server.supervise(models_watch.run(), "watching the stages' models")
        await models_watch.first_look()

    try:
        await server.run(prepare)
    finally:
        looking_after.cancel()
        following.cancel()
        await deployments.close()
        await models_watch.close()
        await monitor.close()
        await replicas.close()
        for channel in (*channels.values(), *health_channels.values()):
            await channel.close()
    return True


def _tell_of_few_files(max_sessions: int) -> None:
    """Each client may come by a connection of its own, and each connection is an open file."""
    connections = max_connections()
    if connections < max_sessions:
        log.warning(
            "fewer connections than max_sessions: raise the hard limit on open files",
            connections=connections,
            max_sessions=max_sessions,
        )


def _router(settings: OrchestratorSettings, metrics: Metrics) -> Router:
    addresses = settings.stage_addresses
    return Router(
        RouteTable(StageHealth.unknown(address) for address in addresses),
        Measurements(settings.located_at, addresses, settings.frame_codec),
        _routing_options(settings),
        EventCounters(metrics),
        settings.operator_pair,
    )


def _frame_encoding(settings: OrchestratorSettings, router: Router) -> Optional[FrameEncoding]:
    if settings.frame_encoding is None:
        return None
    return FrameEncoding(*settings.frame_encoding, router.measurements.observe_encoding)


def _add_servicers(
    server: ServiceServer,
    sessions: Sessions,
    deployments: Deployments,
    settings: OrchestratorSettings,
) -> None:
    detector = DetectorServicer(sessions, _guard(settings))
    server.add(detector_pb2_grpc.add_DetectorServicer_to_server, detector, "tandem.v1.Detector")
    operations = OperationsServicer(sessions, deployments)
    server.add(
        operations_pb2_grpc.add_OperationsServicer_to_server, operations, "tandem.v1.Operations"
    )


def _guard(settings: OrchestratorSettings) -> StreamGuard:
    limits = StreamLimits(
        streams=settings.max_sessions,
        streams_of_a_peer=settings.sessions_of_a_host,
        unopened_streams=max(_LEAST_UNOPENED, settings.max_sessions // 4),
        silence_seconds=settings.max_silence_seconds,
        setting_of_a_peer="max_sessions_per_host",
    )
    budget = ByteBudget(
        settings.max_buffered_bytes,
        settings.max_message_bytes,
        FrameCost(_COPIES_HELD),
        share_peers=True,
    )
    return StreamGuard(limits, budget)


def _connector(
    settings: OrchestratorSettings, tls: Optional[TlsFiles], *extra: Tuple[str, int]
) -> Callable[[StageAddress], ServerChannel]:
    """Makes a channel to a stage's server, which has to prove to be this stage of this node."""
    options = [*channel_options(settings.max_message_bytes), *extra]

    def connect(server: StageAddress) -> ServerChannel:
        identity = Identity(Role(server.stage.value), server.node)
        return ServerChannel(server.address, options, tls, identity)

    return connect


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
        unavailable_after_seconds=settings.unavailable_after,
        recovery_seconds=settings.recovery_seconds,
        mirror_share=settings.probe_share,
    )
