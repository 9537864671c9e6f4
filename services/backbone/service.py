"""From settings to a running backbone service."""

from __future__ import annotations

from functools import partial

from common.bundle import Bundle
from common.domain.placement import ORCHESTRATOR, Stage
from common.security.identity import Role
from common.server.security import security_of
from common.server.server import ServiceServer
from common.telemetry.metrics import LabelNames
from protos.tandem.v1 import stage_pb2_grpc
from services.backbone.pictures import Decoders
from services.backbone.places import FramePlaces
from services.backbone.servicer import BackboneServicer
from services.backbone.settings import BackboneSettings
from services.backbone.stage import BackboneStage
from services.backbone.transformers import Transformers
from services.backbone.video import VideoStreams
from services.pipeline.service import StageService


async def serve_backbone(settings: BackboneSettings) -> bool:
    """Run the backbone service until SIGTERM; returns whether all of its threads have ended.

    Raises:
        ConfigurationError: the bundle, the engine or an address is wrong.
    """
    # Before gRPC: it starts a process.
    halve = settings.jpeg_decoding == "halved"
    decoders = Decoders(settings.max_image_pixels, settings.decoding_limits, halve)
    security = security_of(settings, Role.BACKBONE, settings.node)
    server = ServiceServer("backbone", settings, settings.node, security)
    video = VideoStreams(settings.video_limits, settings.max_video_streams)

    def close() -> None:
        decoders.close()
        video.close()

    def core_of(bundle: Bundle) -> BackboneStage:
        return BackboneStage(bundle, decoders)

    service = StageService(Stage.BACKBONE, settings, server, core_of, close)
    transformers = Transformers(
        settings.node,
        settings.transformer_replicas,
        settings.max_message_bytes,
        None if security is None else security.tls,
        lookup_seconds=settings.lookup_seconds,
        on_failed_lookup=partial(server.metrics.count_failed_lookup, Stage.TRANSFORMER.value),
    )
    host = service.host(LabelNames((ORCHESTRATOR, *settings.transformers)))
    places = FramePlaces(settings.node, settings.frame_places)
    servicer = BackboneServicer(host, transformers=transformers, places=places, video=video)
    server.add(stage_pb2_grpc.add_BackboneServicer_to_server, servicer, "tandem.v1.Backbone")
    looking_up = server.supervise(transformers.run(), "looking names up")
    try:
        return await service.run()
    finally:
        looking_up.cancel()
        await transformers.close()
