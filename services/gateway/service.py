"""From settings to a running gateway."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from common.domain.address import parse_host
from common.security.identity import Role
from common.security.tokens import TokenFiles
from common.server.addresses import tcp_host
from common.server.exposure import refuse_exposure
from common.server.security import Security, security_of
from common.server.server import ServiceServer
from common.telemetry.tracing import Traces
from services.gateway.application import application_of
from services.gateway.callers import Callers
from services.gateway.cameras.camera import Camera
from services.gateway.cameras.configuration import read_cameras
from services.gateway.cameras.feed import CameraFeed
from services.gateway.cameras.metrics import CameraMetrics
from services.gateway.detection_api.door import DetectDoor, VisionDoor
from services.gateway.detection_pool import DetectionPool
from services.gateway.door import Door, Gateway
from services.gateway.events.outbox import EventMetrics
from services.gateway.gatekeeper import Gatekeeper
from services.gateway.http_server import HttpServer
from services.gateway.live_view.door import LiveView
from services.gateway.mqtt.door import Mqtt
from services.gateway.open_inference.door import OpenInferenceDoor
from services.gateway.picture_metrics import PictureMetrics
from services.gateway.settings import GatewaySettings
from services.gateway.traced_requests import TracedRequests
from services.gateway.webhooks.door import Webhooks
from tandem.access import Credentials
from tandem.client import DetectorClient


def doors_of(gateway: Gateway) -> tuple[Door, ...]:
    """The doors that the settings switch on."""
    doors: list[Door] = []
    if gateway.settings.live_view:
        doors.append(LiveView(gateway))
    if gateway.settings.detection_api:
        vision, detect = VisionDoor(gateway), DetectDoor(gateway)
        # Their limits are one setting's.
        detect.guard = vision.guard
        doors += [vision, detect]
    if gateway.settings.open_inference:
        doors.append(OpenInferenceDoor(gateway))
    if gateway.settings.mqtt or gateway.settings.webhooks:
        metrics = EventMetrics(gateway.registry)
        if gateway.settings.mqtt:
            doors.append(Mqtt(gateway, metrics))
        if gateway.settings.webhooks:
            doors.append(Webhooks(gateway, metrics))
    return tuple(doors)


async def serve_gateway(settings: GatewaySettings) -> bool:
    """Run the gateway until SIGTERM; returns whether all of its threads have ended.

    It is healthy once its doors are open; whether the orchestrator can be reached is for each door
    to tell.

    Raises:
        ConfigurationError: an address cannot be bound, a file makes no sense, or other machines
            would be served without TLS.
    """
    security = security_of(settings, Role.GATEWAY)
    http_host = settings.http_published_at or settings.http_bind_host
    refuse_exposure(http_host, settings.has_tls, settings.insecure)
    server = ServiceServer("gateway", settings, security=security)
    credentials = _credentials(settings)
    client = DetectorClient(
        settings.orchestrator, credentials=credentials, traces=server.traces.of_calls()
    )
    # Callers with a picture are told at once that the orchestrator is away, and may try again.
    impatient = DetectorClient(
        settings.orchestrator,
        reconnect_seconds=0,
        credentials=credentials,
        traces=server.traces.of_calls(only_traced=True),
    )
    metrics = PictureMetrics(server.metrics.registry)
    pool = DetectionPool(impatient, settings.picture_streams, metrics)
    gateway = Gateway(
        settings=settings,
        client=client,
        credentials=credentials,
        pool=pool,
        cameras=CameraFeed(),
        callers=Callers(_tokens(settings, security)),
        registry=server.metrics.registry,
        draining=server.draining,
    )
    cameras = _cameras(gateway)
    doors = doors_of(gateway)
    http = _http_server(gateway, doors, security, server.traces)
    server.announce("http", http.url)
    for door in doors:
        door.add_services(server)
    async with client, impatient:
        tasks = [server.supervise(door.run(), door.name) for door in doors]
        tasks += [server.supervise(each.run(), each.state().name) for each in cameras]
        serving: list[asyncio.Task[None]] = []

        async def serve_http() -> None:
            serving.append(server.supervise(http.serve(server.draining), "HTTP"))

        try:
            await server.run(serve_http)
            # It has drained beside gRPC, in the same grace.
            await asyncio.gather(*serving, return_exceptions=True)
        finally:
            await pool.close()
            for task in (*tasks, *serving):
                task.cancel()
            await asyncio.gather(*tasks, *serving, return_exceptions=True)
            http.close()
    return True


def _cameras(gateway: Gateway) -> list[Camera]:
    path = gateway.settings.cameras
    if path is None:
        return []
    metrics = CameraMetrics(gateway.registry)
    cameras = [
        Camera(options, gateway.client, gateway.cameras, metrics) for options in read_cameras(path)
    ]
    for camera in cameras:
        gateway.cameras.add(camera.state)
    return cameras


def _credentials(settings: GatewaySettings) -> Credentials | None:
    """By which the gateway calls the orchestrator: its certificate is the one that it serves by."""
    if settings.tls_certificate is None or settings.tls_peers_ca is None:
        return None
    return Credentials(
        ca=settings.tls_peers_ca,
        certificate=settings.tls_certificate,
        key=settings.tls_key,
        server_name=settings.orchestrator_server_name,
    )


def _tokens(settings: GatewaySettings, security: Security | None) -> TokenFiles | None:
    """The tokens of callers over HTTP; None where nobody has to have one."""
    return security.tokens if security is not None and settings.callers_sign_in else None


def _http_server(
    gateway: Gateway, doors: Sequence[Door], security: Security | None, traces: Traces
) -> HttpServer:
    settings = gateway.settings
    application = TracedRequests(application_of(doors), traces)
    names = _names(settings, security)
    keeper = Gatekeeper(application, doors, gateway.callers, names, gateway.draining)
    encrypts = security is not None and settings.http_reaches_others
    return HttpServer(
        keeper,
        tcp_host(parse_host(settings.http_bind_host)),
        settings.http_port,
        security.tls if security is not None and encrypts else None,
        grace_seconds=settings.grace_seconds,
    )


def _names(settings: GatewaySettings, security: Security | None) -> frozenset[str]:
    """By which browsers may know the gateway; addresses need not be told."""
    names = ["localhost", socket.gethostname(), settings.http_published_at, settings.http_bind_host]
    names += settings.http_names
    certificate = None if security is None else security.tls.material.certificate
    if certificate is not None:
        names += certificate.server_names
    return frozenset(name.lower() for name in names if name)
