"""From settings to a running stage: what the two stage services have in common."""

from __future__ import annotations

from itertools import chain
from typing import Dict, List, Mapping, Sequence, Union

import grpc
import structlog

from common.bundle import Bundle, load_bundle
from common.domain.placement import ORCHESTRATOR, Stage
from common.engines.base import Engine, Precision
from common.engines.device import SharedDevice
from common.engines.paced import PacedEngine
from common.engines.registry import load_engine
from common.stage.backbone import BackboneStage
from common.stage.backbone_servicer import BackboneServicer
from common.stage.budget import ByteBudget, FrameCost
from common.stage.frame_inputs import FrameInputs
from common.stage.guard import StreamGuard, StreamLimits
from common.stage.runner import EngineRunner
from common.stage.server import ServiceServer, channel_options
from common.stage.servicing import StageHost
from common.stage.settings import BackboneSettings, StageSettings, TransformerSettings
from common.stage.shapes import compile_options, largest_input_bytes
from common.stage.transformer import TransformerStage
from common.stage.transformer_servicer import TransformerServicer
from common.stage.watchdog import Watchdog
from common.telemetry.names import LabelNames
from common.wire.channels import open_channel
from protos.tandem.v1 import stage_pb2_grpc

log = structlog.get_logger()

# Of a message that a stage works on: as it came, its payload taken out, and what is decoded of it.
_COPIES_HELD = 3
# Backbones that a transformer's metrics tell apart.
_SENDERS_LEARNED = 16


async def serve_backbone(settings: BackboneSettings) -> bool:
    """Run the backbone service until SIGTERM; returns whether all of its threads have ended.

    Raises:
        ConfigurationError: the bundle, the engine or an address is wrong.
    """
    bundle = load_bundle(settings.bundle)
    # Before gRPC: it starts a process.
    inputs = FrameInputs(bundle.manifest, settings.max_image_pixels, settings.decoding_limits)
    server = ServiceServer("backbone", settings, settings.node)
    runner = EngineRunner()
    stage = BackboneStage(bundle, settings.node, runner, inputs)
    channels = _channels(settings.transformer_replicas, settings.max_message_bytes)
    senders = LabelNames((ORCHESTRATOR, *settings.transformers))
    host = _host(Stage.BACKBONE, settings, bundle, server, senders)
    servicer = BackboneServicer(host, stage, channels)
    server.add(stage_pb2_grpc.add_BackboneServicer_to_server, servicer, "tandem.v1.Backbone")

    try:
        return await _run(
            Stage.BACKBONE, stage, runner, settings=settings, bundle=bundle, server=server
        )
    finally:
        for channel in chain.from_iterable(channels.values()):
            await channel.close()


async def serve_transformer(settings: TransformerSettings) -> bool:
    """Run the transformer service until SIGTERM; returns whether all of its threads have ended.

    Raises:
        ConfigurationError: the bundle, the engine or an address is wrong.
    """
    bundle = load_bundle(settings.bundle)
    server = ServiceServer("transformer", settings, settings.node)
    runner = EngineRunner()
    stage = TransformerStage(bundle, settings.node, runner)
    # No setting tells it which backbones there are.
    senders = LabelNames(room=_SENDERS_LEARNED)
    host = _host(Stage.TRANSFORMER, settings, bundle, server, senders)
    servicer = TransformerServicer(host, stage)
    server.add(stage_pb2_grpc.add_TransformerServicer_to_server, servicer, "tandem.v1.Transformer")

    return await _run(
        Stage.TRANSFORMER, stage, runner, settings=settings, bundle=bundle, server=server
    )


async def _run(
    kind: Stage,
    stage: Union[BackboneStage, TransformerStage],
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


def _host(
    stage: Stage,
    settings: StageSettings,
    bundle: Bundle,
    server: ServiceServer,
    senders: LabelNames,
) -> StageHost:
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


def _channels(
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
        engine = load_engine(settings.engine, path, settings.engine_threads, options)
        if settings.paced_milliseconds > 0:
            name = settings.paced_device
            device = None if name is None else SharedDevice(name)
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
