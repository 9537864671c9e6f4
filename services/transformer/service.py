"""From settings to a running transformer service."""

from __future__ import annotations

import structlog

from common.bundle import load_bundle
from common.domain.placement import Stage
from common.server.server import ServiceServer
from common.telemetry.metrics import LabelNames
from protos.tandem.v1 import stage_pb2_grpc
from services.pipeline.runner import EngineRunner
from services.pipeline.service import run_stage, stage_host
from services.transformer.servicer import TransformerServicer
from services.transformer.settings import TransformerSettings
from services.transformer.stage import TransformerStage

log = structlog.get_logger()

# Backbones that a transformer's metrics tell apart.
_SENDERS_LEARNED = 16


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
    host = stage_host(Stage.TRANSFORMER, settings, bundle, server, senders)
    servicer = TransformerServicer(host, stage)
    server.add(stage_pb2_grpc.add_TransformerServicer_to_server, servicer, "tandem.v1.Transformer")

    return await run_stage(
        Stage.TRANSFORMER, stage, runner, settings=settings, bundle=bundle, server=server
    )
