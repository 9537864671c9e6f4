"""What all sessions share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Callable, Mapping, Optional, Tuple

from common.domain.placement import StageAddress
from common.telemetry.metrics import Metrics
from common.telemetry.tracing import Traces
from common.wire.channels import ServerChannel
from services.orchestrator.counters import FrameCounters
from services.orchestrator.routing.router import Router
from services.orchestrator.routing.served_models import ServedModels
from services.orchestrator.session.crowd import Crowd
from services.orchestrator.session.frame_encoding import FrameEncoding
from services.orchestrator.session.quotas import IdentityQuotas

DEFAULT_GROUP_MEBIBYTES = 64
"""Of video that a session keeps since the last key frame, unless settings say otherwise."""


@dataclass(frozen=True)
class SessionResources:
    """What each session is served with.

    Attributes:
        router: chooses where frames of the default model go, and has routers of others.
        channels: one to each stage's server.
        frames: counts the answers.
        metrics: those of this service.
        draining: set once the service is to end, so that frames wait for nothing any more.
        quotas: what each identity may use.
        traces: those of this service.
        warnings: tells what is insecure; a sentence each.
        max_group_bytes: of the video that a session keeps since its last key frame.
        frame_encoding: of pictures that cross a link; None: they are sent as they came.
        crowd: lets the frames of many sessions take turns.
        window: frames of one session in flight; 0: each session finds its own window.
        suspect_turn: held by the one frame, of all sessions, that is sent again after its route
            failed with it. If such a frame is what brings stages down, no other one is under way
            with it.
    """

    router: Router
    channels: Mapping[StageAddress, ServerChannel]
    frames: FrameCounters
    metrics: Metrics
    draining: asyncio.Event
    quotas: IdentityQuotas = field(default_factory=IdentityQuotas)
    traces: Traces = field(default_factory=Traces)
    warnings: Callable[[], Tuple[str, ...]] = tuple
    max_group_bytes: int = DEFAULT_GROUP_MEBIBYTES << 20
    frame_encoding: Optional[FrameEncoding] = None
    crowd: Crowd = field(default_factory=Crowd)
    window: int = 0
    suspect_turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def models(self) -> ServedModels:
        """Which models the stages serve, and with which bundles."""
        return self.router.table.models
