"""From settings to a running stage: what the two stage services have in common."""

from __future__ import annotations

from typing import Dict, List, Mapping, Protocol, Sequence

import grpc
import structlog

from common.bundle import Bundle
from common.domain.placement import Stage
from common.engines.base import Engine, Precision
from common.engines.paced import PacedEngine, SimulatedDevice
from common.engines.registry import load_engine
from common.server.budget import ByteBudget, FrameCost
from common.server.guard import StreamGuard, StreamLimits
from common.server.server import ServiceServer, channel_options
from common.telemetry.metrics import LabelNames
from common.wire.channels import open_channel
from services.pipeline.runner import EngineRunner
from services.pipeline.servicing import StageHost
from services.pipeline.settings import StageSettings
from services.pipeline.shapes import compile_options, largest_input_bytes
from services.pipeline.watchdog import Watchdog

log = structlog.get_logger()

# Of a message that a stage works on: as it came, its payload taken out, and what is decoded of it.
_COPIES_HELD = 3


class FrameStage(Protocol):
    """What serves frames: a stage with its workers."""

    async def warm_up(self) -> None:
        """Run one frame through, so that the first of a client's is as fast as the others."""
        ...

    def stuck_seconds(self) -> float:
        """How long a worker has been at one frame, if that is far too long, else 0."""
        ...

    def close(self) -> bool:
        """End the workers; returns whether they ended."""
        ...


async def run_stage(
    kind: Stage,
    stage: FrameStage,
    runner: EngineRunner,
    *,
    settings: StageSettings,
    bundle: Bundle,
    server: ServiceServer,
) -> bool:
    """Load, warm up, serve until SIGTERM, release; returns whether all threads have ended."""
    is_up = server.metrics.node_up.labels(settings.node, kind.value)

    async def tell(reason: str) -> None:
        await server.set_serving(not reason, reason)
        is_up.set(not reason)

    async def load() -> None:
        await _load(runner, settings, bundle, kind)

    async def prepare() -> None:
        await load()
        await stage.warm_up()
        is_up.set(1)

    watchdog = Watchdog(
        runner,
        reload=load,
        test=stage.warm_up,
        tell=tell,
        workers_stuck_seconds=stage.stuck_seconds,
    )
    watching = server.supervise(watchdog.run(), "watchdog")
    try:
        await server.run(prepare)
    finally:
        watching.cancel()
        # The engine first: it hands what it has done to the stage's workers.
        engine_ended = await runner.close()
        workers_ended = stage.close()
    return engine_ended and workers_ended


def stage_host(
    stage: Stage,
    settings: StageSettings,
    bundle: Bundle,
    server: ServiceServer,
    senders: LabelNames,
) -> StageHost:
    """What a stage's servicer runs in, of its settings."""
    return StageHost(
        stage=stage,
        node=settings.node,
        bundle=bundle,
        metrics=server.metrics,
        guard=_guard(stage, settings, bundle),
        senders=senders,
        draining=server.draining,
        max_frames_in_flight=settings.max_frames_in_flight,
    )


def _guard(stage: Stage, settings: StageSettings, bundle: Bundle) -> StreamGuard:
    limits = StreamLimits(
        streams=settings.max_sessions,
        # They all come from the orchestrator.
        streams_of_a_peer=settings.max_sessions,
        unopened_streams=max(1, settings.max_sessions // 4),
        silence_seconds=settings.max_silence_seconds,
    )
    cost = FrameCost(_COPIES_HELD, largest_input_bytes(bundle.manifest, stage))
    budget = ByteBudget(
        settings.max_buffered_bytes, settings.max_message_bytes, cost, share_peers=False
    )
    return StreamGuard(limits, budget)


def open_channels(
    replicas: Mapping[str, Sequence[str]], message_bytes: int
) -> Dict[str, List[grpc.aio.Channel]]:
    """A channel to each of each node's transformers; it connects when it is first used."""
    options = channel_options(message_bytes)
    return {
        node: [open_channel(address, options) for address in addresses]
        for node, addresses in replicas.items()
    }


async def _load(
    runner: EngineRunner, settings: StageSettings, bundle: Bundle, stage: Stage
) -> None:
    path = bundle.onnx_path(stage)
    options = compile_options(
        bundle.manifest, stage, Precision(settings.engine_precision), settings.engine_cache
    )

    def load() -> Engine:
        engine = load_engine(
            settings.engine, path, settings.engine_threads, options, settings.engine_device
        )
        if settings.paced_milliseconds > 0:
            name = settings.paced_device
            device = None if name is None else SimulatedDevice(name)
            return PacedEngine(engine, settings.paced_milliseconds / 1000, device)
        return engine

    engine = await runner.load(load)
    log.info(
        "engine loaded",
        stage=stage.value,
        node=settings.node,
        engine=engine.description,
        bundle=bundle.manifest.name,
        digest=bundle.digest,
    )
