"""From settings to a running stage: what the two stage services have in common."""

from __future__ import annotations

from functools import partial
from typing import Any

import structlog

from common.bundle import Bundle
from common.domain.errors import UnsupportedGraphError
from common.domain.placement import Stage
from common.server.budget import ByteBudget, FrameCost
from common.server.guard import StreamGuard, StreamLimits
from common.server.server import ServiceServer
from common.telemetry.metrics import LabelNames
from services.pipeline.frame_stream import StageHost
from services.pipeline.loading import load_stage_engine
from services.pipeline.passage import Pipeline
from services.pipeline.settings import StageSettings
from services.pipeline.shapes import largest_input_bytes, largest_latent_count
from services.pipeline.watchdog import Watchdog

log = structlog.get_logger()

# A stage holds a message as it arrived, its payload, and what it decodes from that.
_COPIES_HELD = 3
# As the engine takes or gives it, as it is kept to be coded again, its level, and for each level
# whether it changed.
_BYTES_OF_A_LATENT = 4 + 2 + 2 + 1


class StageService:
    """Runs one stage: loads its engine, warms it up, serves, watches it, and releases it.

    An engine that can never run the half, since it lacks an operator, does not end the stage, which
    a supervisor would only start again: it is there, and says why it does not serve.
    """

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

    async def _prepare(self) -> str:
        """Make the engine ready; returns why it can never be, and nothing where it is."""
        try:
            await self._load()
            await self._pipeline.warm_up()
            await self._pipeline.allow_batches(self._settings.batch_limits)
        except UnsupportedGraphError as error:
            self._pipeline.engine.unable = str(error)
            return str(error)
        self._is_up.set(1)
        return ""

    async def _load(self) -> None:
        load = partial(load_stage_engine, self._kind, self._settings, self._bundle)
        engine = await self._pipeline.engine.load(load)
        log.info(
            "engine loaded",
            stage=self._kind.value,
            node=self._settings.node,
            engine=engine.description,
            bundle=self._bundle.manifest.name,
            digest=self._bundle.digest,
        )

    async def _tell(self, reason: str) -> None:
        # A hang that is over makes no engine able.
        reason = reason or self._pipeline.engine.unable
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
    host = StageHost(
        stage=stage,
        node=settings.node,
        bundle=bundle,
        metrics=server.metrics,
        traces=server.traces,
        guard=_guard(stage, settings, bundle),
        senders=senders,
        draining=server.draining,
        max_frames_in_flight=settings.max_frames_in_flight,
    )
    server.tell_in_flight(lambda: host.held.count)
    return host


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
    working_bytes = inputs * largest_input_bytes(bundle.manifest, stage)
    working_bytes += _BYTES_OF_A_LATENT * largest_latent_count(bundle.manifest)
    cost = FrameCost(_COPIES_HELD, working_bytes)
    budget = ByteBudget(
        settings.max_buffered_bytes, settings.max_message_bytes, cost, share_peers=False
    )
    return StreamGuard(limits, budget)
