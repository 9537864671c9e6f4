"""The gateway with its live view as a child process, beside a local cluster."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from common.domain.placement import WORKSTATION
from common.security.identity import Identity, Role
from services.arguments import tls_arguments
from tandem.cluster import ORCHESTRATOR, LocalCluster
from tandem.processes import Announcement, LogSink, ServiceProcess
from tandem.shipped import camera_clip

# Leaves a small machine time for something else.
_DEMO_FRAMES_PER_SECOND = 10


@dataclass(frozen=True)
class LiveViewOptions:
    """How to start the live view; only this machine reaches it.

    Attributes:
        port: of HTTP; 0 picks a free one.
        cameras: YAML file of cameras; None: the demo clip, again and again.
        certificates: folder of an authority with a certificate for the gateway; None: no TLS
            towards the orchestrator.
        log_level: lowest level that is logged.
        on_log: called with the service's name and each line of its log.
    """

    port: int
    cameras: Path | None = None
    certificates: Path | None = None
    log_level: str = "warning"
    on_log: LogSink | None = None


@dataclass(frozen=True)
class RunningLiveView:
    """The live view, once it is healthy.

    Attributes:
        announcement: where the gateway listens.
        url: of the page.
        process: of the gateway.
    """

    announcement: Announcement
    url: str
    process: ServiceProcess


@asynccontextmanager
async def live_view(
    options: LiveViewOptions, cluster: LocalCluster
) -> AsyncIterator[RunningLiveView]:
    """Run the live view of a cluster while the block lasts.

    Raises:
        ConfigurationError: no clip ships here, and no cameras are named.
        UnavailableError: it did not start; with its last words.
    """
    with tempfile.TemporaryDirectory(prefix="tandem-cameras-") as folder:
        cameras = options.cameras or _demo_camera(Path(folder))
        arguments = [
            *("--orchestrator", cluster.orchestrator.address, "--cameras", str(cameras)),
            *("--live-view", "--http-host", "127.0.0.1", "--http-port", str(options.port)),
            *("--port", "0", "--metrics-port", "0", "--log-level", options.log_level),
            *_security(options.certificates),
        ]
        process = await ServiceProcess.start(
            "gateway", "services.gateway", arguments, options.on_log
        )
        try:
            announcement = await process.announcement()
            yield RunningLiveView(announcement, process.told["http"], process)
        finally:
            await process.stop()


def _demo_camera(folder: Path) -> Path:
    path = folder / "cameras.yml"
    camera = {
        "name": "demo",
        "url": str(camera_clip()),
        "frames_per_second": _DEMO_FRAMES_PER_SECOND,
    }
    # JSON is YAML.
    path.write_text(json.dumps({"cameras": [camera]}))
    return path


def _security(certificates: Path | None) -> list[str]:
    if certificates is None:
        return []
    return [
        *tls_arguments(certificates, Identity(Role.GATEWAY, WORKSTATION)),
        *("--orchestrator-server-name", ORCHESTRATOR.server_name),
    ]
