"""From settings to a running stage: what the two stage services have in common."""

from __future__ import annotations

from typing import Any

import structlog

from common.bundle import Bundle
from common.domain.errors import EngineError
from common.domain.placement import Stage
from common.engines.base import Engine, Precision
from common.engines.paced import PacedEngine, SimulatedDevice
from common.engines.registry import load_engine
from common.server.budget import ByteBudget, FrameCost
from common.server.guard import StreamGuard, StreamLimits
from common.server.server import ServiceServer
from common.telemetry.metrics import LabelNames
from services.pipeline.frame_stream import StageHost
from services.pipeline.passage import Pipeline
from services.pipeline.settings import StageSettings
from services.pipeline.shapes import compile_options, largest_input_bytes
from services.pipeline.watchdog import Watchdog

log = structlog.get_logger()

# A stage holds a message as it arrived, its payload, and what it decodes from that.
_COPIES_HELD = 3


class StageService:
    """Runs one stage: loads its engine, warms it up, serves, watches it, and releases it."""

    def __init__(
        self,
        kind: Stage,
        settings: StageSettings,
        bundle: Bundle,
        server: ServiceServer,
        pipeline: Pipeline[Any, Any, Any, Any],
    ) -> None:
        """Serve nothing yet.

        Args:
            kind: which half is served.
            settings: of the service.
            bundle: the model.
            server: to which the servicer has been added.
            pipeline: that the servicer's frames go through; closed with its engine in the end.
        """
        self._kind = kind
        self._settings = settings
        self._bundle = bundle
        self._server = server
        self._pipeline = pipeline
        self._is_up = server.metrics.node_up.labels(settings.node, kind.value)
        pipeline.engine.on_executed = server.metrics.batch_frames.labels(kind.value).observe

    async def run(self) -> bool:
        """Load, warm up, serve until SIGTERM, release; returns whether all threads have ended.

        Raises:
            ConfigurationError: the engine is unknown, or a port cannot be bound.
            EngineError: the engine cannot be loaded, or fails on the first frame.
        """
        engine = self._pipeline.engine
        watchdog = Watchdog(
            engine,
            reload=self._load,
            test=self._pipeline.warm_up,
            tell=self._tell,
            workers_stuck_seconds=self._pipeline.stuck_seconds,
        )
        watching = self._server.supervise(watchdog.run(), "watchdog")
        try:
            await self._server.run(self._prepare)
        finally:
            watching.cancel()
            # The engine first: it hands what it has done to the workers.
            engine_ended = await engine.close()
            workers_ended = self._pipeline.close()
        return engine_ended and workers_ended

    async def _prepare(self) -> None:
        await self._load()
        await self._pipeline.warm_up()
        await self._pipeline.allow_batches(self._settings.batch_limits)
        self._is_up.set(1)

    async def _load(self) -> None:
        engine = await self._pipeline.engine.load(self._loaded_engine)
        log.info(
            "engine loaded",
            stage=self._kind.value,
            node=self._settings.node,
            engine=engine.description,
            bundle=self._bundle.manifest.name,
            digest=self._bundle.digest,
        )

    def _loaded_engine(self) -> Engine:
        settings = self._settings
        try:
            engine = self._engine_for(settings.max_batch)
        except EngineError as error:
            if settings.max_batch == 1:
                raise
            # A graph with a fixed batch dimension cannot be compiled for more than that. If it is
            # something else, loading for single frames fails as well, and tells that.
            log.warning("cannot load for batches", frames=settings.max_batch, error=str(error))
            engine = self._engine_for(1)
        if settings.paced_milliseconds > 0:
            name = settings.paced_device
            device = None if name is None else SimulatedDevice(name)
            seconds = settings.paced_milliseconds / 1000
            return PacedEngine(engine, seconds, device, settings.paced_batch_seconds)
        return engine

    def _engine_for(self, max_batch: int) -> Engine:
        settings, bundle = self._settings, self._bundle
        options = compile_options(
            *(bundle.manifest, self._kind, Precision(settings.engine_precision)),
            settings.engine_cache,
            max_batch,
        )
        path = bundle.onnx_path(self._kind)
        return load_engine(
            *(settings.engine, path, settings.engine_threads, options, settings.engine_device),
            sha256=bundle.sha256(path.name),
        )

    async def _tell(self, reason: str) -> None:
        await self._server.set_serving(not reason, reason)
        self._is_up.set(not reason)


def stage_host(
    stage: Stage,
    settings: StageSettings,
    bundle: Bundle,
    server: ServiceServer,
    senders: LabelNames,
) -> StageHost:
    """Make what a stage's servicer needs from the settings."""
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
        # All of them come from the orchestrator.
        streams_of_a_peer=settings.max_sessions,
        unopened_streams=max(1, settings.max_sessions // 4),
        silence_seconds=settings.max_silence_seconds,
    )
    # Frames are copied to be executed together.
    inputs = 2 if settings.max_batch > 1 else 1
    cost = FrameCost(_COPIES_HELD, inputs * largest_input_bytes(bundle.manifest, stage))
    budget = ByteBudget(
        settings.max_buffered_bytes, settings.max_message_bytes, cost, share_peers=False
    )
    return StreamGuard(limits, budget)
