"""Stages that answer, wrongly: a healthy gRPC server whose answers a test chooses."""

from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from protos.tandem.v1 import stage_pb2, stage_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING


def good_answer(frame_id: int) -> stage_pb2.FrameResult:
    """Nothing found, very quickly: so quick a stage is always chosen."""
    answer = stage_pb2.FrameResult(frame_id=frame_id)
    answer.detections.SetInParent()
    for timing in (answer.timing.backbone, answer.timing.transformer):
        timing.node = "liar"
        timing.execute_seconds = timing.held_seconds = 1e-4
        timing.request_bytes = 100
    return answer


@asynccontextmanager
async def answering(answer, refuse=None):
    """A backbone that answers each frame by `answer(frame_id)`; gives its address.

    With `refuse`, it is called at each opening, and none is accepted.
    """

    class Servicer(stage_pb2_grpc.BackboneServicer):
        async def Process(self, request_iterator, context):  # noqa: N802
            await request_iterator.__anext__()
            if refuse is not None:
                refuse()
                await context.abort(grpc.StatusCode.UNAVAILABLE, "not today")
            opened = stage_pb2.Opened(node="liar", bundle_digest="d")
            await context.write(stage_pb2.StageResponse(opened=opened))
            async for request in request_iterator:
                result = answer(request.frame.frame_id)
                await context.write(stage_pb2.StageResponse(result=result))

    server = grpc.aio.server()
    stage_pb2_grpc.add_BackboneServicer_to_server(Servicer(), server)
    healthy = health.aio.HealthServicer()
    await healthy.set("tandem.v1.Backbone", SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
