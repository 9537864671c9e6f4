"""From settings to a running transformer service."""

from __future__ import annotations

from common.bundle import load_bundle
from common.domain.placement import Stage
from common.server.server import ServiceServer
from common.telemetry.metrics import LabelNames
from protos.tandem.v1 import stage_pb2_grpc
from services.pipeline.engine_thread import EngineThread
from services.pipeline.passage import Pipeline
from services.pipeline.service import StageService, stage_host
from services.transformer.servicer import TransformerServicer
from services.transformer.settings import TransformerSettings
from services.transformer.stage import TransformerStage

# Backbones that a transformer's metrics tell apart.
_SENDERS_LEARNED = 16


async def serve_transformer(settings: TransformerSettings) -> bool:
    """Run the transformer service until SIGTERM; returns whether all of its threads have ended.

    Raises:
        ConfigurationError: the bundle, the engine or an address is wrong.
    """
    bundle = load_bundle(settings.bundle)
    server = ServiceServer("transformer", settings, settings.node)
    pipeline = Pipeline(TransformerStage(bundle.manifest), EngineThread(), settings.node)
    # No setting tells it which backbones there are.
    senders = LabelNames(room=_SENDERS_LEARNED)
    host = stage_host(Stage.TRANSFORMER, settings, bundle, server, senders)
    servicer = TransformerServicer(host, pipeline)
    server.add(stage_pb2_grpc.add_TransformerServicer_to_server, servicer, "tandem.v1.Transformer")
    return await StageService(Stage.TRANSFORMER, settings, bundle, server, pipeline).run()
