"""What a door is, and what it gets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.responses import JSONResponse, Response

from common.security.identity import Role
from common.server.server import ServiceServer
from services.gateway.callers import USERS, Callers
from services.gateway.cameras.feed import CameraFeed
from services.gateway.detection_pool import DetectionPool
from services.gateway.limits import DoorGuard, DoorLimits
from services.gateway.settings import GatewaySettings
from tandem.access import Credentials
from tandem.client import DetectorClient


@dataclass(frozen=True)
class Gateway:
    """What all doors share.

    Attributes:
        settings: of the gateway.
        client: of the orchestrator, with the gateway's own identity.
        credentials: by which the gateway knows the orchestrator, and proves who it is; None
            without TLS.
        pool: serves single pictures.
        cameras: what is found in the cameras that the gateway reads.
        callers: knows who calls over HTTP.
        registry: of the gateway's metrics.
        draining: set once SIGTERM has come.
    """

    settings: GatewaySettings
    client: DetectorClient
    credentials: Credentials | None
    pool: DetectionPool
    cameras: CameraFeed
    callers: Callers
    registry: CollectorRegistry
    draining: asyncio.Event


class Door:
    """One way into the gateway; a door overrides what it has.

    Attributes:
        name: of the setting that switches it on, and in messages and metrics.
        paths: beginnings of the HTTP paths that are the door's own, such as `/v1/vision/`.
        public_paths: those of them, entire, that need no token, such as a page that asks for one.
        roles: of callers that may use it over HTTP.
        guard: holds callers to the door's limits. `Gatekeeper` asks it for each HTTP request;
            gRPC servicers ask it themselves.
    """

    name: str = ""
    paths: tuple[str, ...] = ()
    public_paths: frozenset[str] = frozenset()
    roles: frozenset[Role] = USERS

    def __init__(self, gateway: Gateway, limits: DoorLimits) -> None:
        """Prepare; nothing is served yet."""
        self.gateway = gateway
        self.guard = DoorGuard(self.name, limits)

    def add_routes(self, application: FastAPI) -> None:
        """Add what the door serves over HTTP; nothing by default."""

    def add_services(self, server: ServiceServer) -> None:
        """Add what the door serves over gRPC; nothing by default."""

    async def run(self) -> None:
        """Work in the background, until cancelled; if it ends or fails, so does the gateway.

        What the door can do without, such as a broker that is lost, is the door's to catch.
        """
        await asyncio.Event().wait()

    def refusal(self, status: int, sentence: str) -> Response:
        """What a caller is answered that is refused before the door sees the request.

        Args:
            status: 401, 403, 404, 405, 413, 415, 429, 500 or 503.
            sentence: that says why.
        """
        return JSONResponse({"error": sentence}, status)
