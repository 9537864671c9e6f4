"""A transformer that passes features on to a real one, except where a test meddles."""

import asyncio
from contextlib import asynccontextmanager
from typing import Callable, Optional

import grpc

from common.wire.feature_messages import FeatureMessageReader
from protos.tandem.v1 import stage_pb2, stage_pb2_grpc

Meddle = Callable[[stage_pb2.Features], Optional[stage_pb2.FrameResult]]


def refusal(features: stage_pb2.Features, code: int) -> stage_pb2.FrameResult:
    """A frame's error answer."""
    answer = stage_pb2.FrameResult(frame_id=features.frame_id)
    answer.error.code, answer.error.message = code, "meddled with"
    answer.timing.transformer.node = "edge"
    answer.timing.transformer.request_bytes = len(features.tensor.data)
    return answer


@asynccontextmanager
async def meddling(
    address: str,
    meddle: Meddle = lambda features: None,
    *,
    see: Callable[[stage_pb2.TransformerRequest], None] = lambda request: None,
    is_older: bool = False,
):
    """Stands in front of the transformer at `address`; gives its own address.

    `meddle` gets each frame. Where it returns an answer, the real transformer never sees the frame;
    otherwise it sees what `meddle` has left of it. `see` gets each frame's message as it was sent.
    With `is_older` the transformer seems to know no short messages.
    """

    class Servicer(stage_pb2_grpc.TransformerServicer):
        async def Process(self, request_iterator, context):  # noqa: N802
            turn = asyncio.Lock()

            async def pass_back(call):
                async for answer in call:
                    if is_older and answer.HasField("opened"):
                        answer.opened.ClearField("takes_next_latents")
                    async with turn:
                        await context.write(answer)

            async with grpc.aio.insecure_channel(address) as channel:
                call = stage_pb2_grpc.TransformerStub(channel).Process()
                passing = asyncio.ensure_future(pass_back(call))
                reader = FeatureMessageReader()
                async for request in request_iterator:
                    if request.HasField("open"):
                        await call.write(request)
                        continue
                    see(request)
                    features = reader.features(request)
                    answer = meddle(features)
                    if answer is None:
                        # At full length: the transformer need not have seen the frame before.
                        await call.write(stage_pb2.TransformerRequest(features=features))
                        continue
                    async with turn:
                        await context.write(stage_pb2.StageResponse(result=answer))
                await call.done_writing()
                await passing

    server = grpc.aio.server()
    stage_pb2_grpc.add_TransformerServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
