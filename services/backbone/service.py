"""From settings to a running backbone service."""

from __future__ import annotations

from itertools import chain

import structlog

from common.bundle import load_bundle
from common.domain.placement import ORCHESTRATOR, Stage
from common.server.server import ServiceServer
from common.telemetry.metrics import LabelNames
from protos.tandem.v1 import stage_pb2_grpc
from services.backbone.frame_inputs import FrameInputs
from services.backbone.servicer import BackboneServicer
from services.backbone.settings import BackboneSettings
from services.backbone.stage import BackboneStage
from services.pipeline.runner import EngineRunner
from services.pipeline.service import open_channels, run_stage, stage_host

log = structlog.get_logger()


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
    channels = open_channels(settings.transformer_replicas, settings.max_message_bytes)
    senders = LabelNames((ORCHESTRATOR, *settings.transformers))
    host = stage_host(Stage.BACKBONE, settings, bundle, server, senders)
    servicer = BackboneServicer(host, stage, channels)
    server.add(stage_pb2_grpc.add_BackboneServicer_to_server, servicer, "tandem.v1.Backbone")

    try:
        return await run_stage(
            Stage.BACKBONE, stage, runner, settings=settings, bundle=bundle, server=server
        )
    finally:
        for channel in chain.from_iterable(channels.values()):
            await channel.close()
