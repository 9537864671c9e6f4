"""The calling side of a stage against stages that misbehave."""

import asyncio

import grpc
import pytest

from common.domain.errors import PreconditionError, UnavailableError
from common.domain.placement import Stage
from common.wire import stage_client as client
from common.wire.stage_client import StageStream
from protos.tandem.v1 import detector_pb2, stage_pb2, stage_pb2_grpc

OPENED = stage_pb2.StageResponse(opened=stage_pb2.Opened(node="edge", bundle_digest="d"))


def result(frame_id):
    return stage_pb2.StageResponse(result=stage_pb2.FrameResult(frame_id=frame_id))


async def well_behaved(requests, context):
    await requests.__anext__()
    await context.write(OPENED)
    async for request in requests:
        await context.write(result(request.frame.frame_id))


async def never_opens(requests, context):
    await asyncio.Event().wait()


async def opens_with_a_result(requests, context):
    await context.write(result(1))
    await asyncio.Event().wait()


async def refuses(requests, context):
    await requests.__anext__()
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "bundles differ")


async def ends_at_once(requests, context):
    await requests.__anext__()


async def ends_after_a_frame(requests, context):
    await context.write(OPENED)
    await requests.__anext__()
    request = await requests.__anext__()
    await context.write(result(request.frame.frame_id))


async def answers_what_nobody_asked(requests, context):
    await requests.__anext__()
    await context.write(OPENED)
    await context.write(result(99))
    async for request in requests:
        await context.write(result(request.frame.frame_id))
        await context.write(result(request.frame.frame_id))


async def answers_backwards(requests, context):
    await requests.__anext__()
    await context.write(OPENED)
    held = []
    async for request in requests:
        held.insert(0, request.frame.frame_id)
        if len(held) == 4:
            for frame_id in held:
                await context.write(result(frame_id))


class serving:  # noqa: N801 - reads as a statement
    """A backbone with this behaviour; gives a channel to it."""

    def __init__(self, behaviour):
        class Servicer(stage_pb2_grpc.BackboneServicer):
            async def Process(self, request_iterator, context):  # noqa: N802
                await behaviour(request_iterator, context)

        self._server = grpc.aio.server()
        stage_pb2_grpc.add_BackboneServicer_to_server(Servicer(), self._server)

    async def __aenter__(self):
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        return self._channel

    async def __aexit__(self, *_):
        await self._channel.close()
        await self._server.stop(None)


async def opened(channel):
    opening = stage_pb2.BackboneRequest(open=stage_pb2.BackboneOpen())
    return await StageStream.open(channel, Stage.BACKBONE, opening, "backbone on edge")


async def ask(stream, frame_id):
    request = stage_pb2.BackboneRequest(frame=detector_pb2.Frame(frame_id=frame_id))
    return (await asyncio.wait_for(stream.ask(request, frame_id), 60)).frame_id


async def test_many_questions_at_a_time():
    async with serving(well_behaved) as channel:
        stream = await opened(channel)
        assert stream.bundle_digest == "d"
        assert await asyncio.gather(*(ask(stream, each) for each in range(50))) == list(range(50))
        assert not stream.lost
        await stream.close()


async def test_answers_are_matched_whatever_their_order():
    async with serving(answers_backwards) as channel:
        stream = await opened(channel)
        assert await asyncio.gather(*(ask(stream, each) for each in range(4))) == [0, 1, 2, 3]
        await stream.close()


async def test_who_gives_a_question_up_takes_nothing_from_the_others():
    async with serving(answers_backwards) as channel:
        stream = await opened(channel)
        requests = [
            stage_pb2.BackboneRequest(frame=detector_pb2.Frame(frame_id=each)) for each in range(4)
        ]
        asked = [
            asyncio.ensure_future(stream.ask(request, each))
            for each, request in enumerate(requests)
        ]
        # Each of them has asked by then; the messages are being sent, or wait to be.
        await asyncio.sleep(0)
        asked[1].cancel()
        answers = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 60)
        assert isinstance(answers.pop(1), asyncio.CancelledError)
        assert [each.frame_id for each in answers] == [0, 2, 3]
        assert not stream.lost
        await stream.close()


async def test_what_is_told_before_a_question_is_sent_before_it():
    async def counts(requests, context):
        await requests.__anext__()
        await context.write(OPENED)
        told = 0
        async for request in requests:
            told += request.HasField("decode_only")
            if request.HasField("frame"):
                assert told == request.frame.frame_id
                await context.write(result(request.frame.frame_id))

    def decode_only():
        return stage_pb2.BackboneRequest(decode_only=detector_pb2.Frame())

    async with serving(counts) as channel:
        stream = await opened(channel)
        stream.tell([decode_only(), decode_only()])
        request = stage_pb2.BackboneRequest(frame=detector_pb2.Frame(frame_id=3))
        asking = stream.ask(request, 3, (decode_only() for _ in range(1)))
        assert (await asyncio.wait_for(asking, 60)).frame_id == 3
        await stream.close()
        with pytest.raises(UnavailableError):
            stream.tell([decode_only()])


async def test_answers_that_nobody_asked_for_are_passed_over():
    async with serving(answers_what_nobody_asked) as channel:
        stream = await opened(channel)
        assert [await ask(stream, each) for each in (1, 2, 3)] == [1, 2, 3]
        await stream.close()


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        (never_opens, UnavailableError, "backbone on edge did not answer in 0.2 s"),
        (opens_with_a_result, UnavailableError, "did not open the stream"),
        (refuses, PreconditionError, "backbone on edge: bundles differ"),
        (ends_at_once, UnavailableError, "backbone on edge"),
    ],
)
async def test_a_stream_that_does_not_open_says_why(monkeypatch, behaviour, kind, words):
    monkeypatch.setattr(client, "OPEN_TIMEOUT_SECONDS", 0.2)
    async with serving(behaviour) as channel:
        with pytest.raises(kind, match=words):
            await opened(channel)


async def test_nobody_listens():
    channel = grpc.aio.insecure_channel("127.0.0.1:1")
    with pytest.raises(UnavailableError, match="backbone on edge"):
        await opened(channel)
    await channel.close()


async def test_every_question_fails_when_the_stream_is_lost_and_so_do_later_ones():
    async with serving(ends_after_a_frame) as channel:
        stream = await opened(channel)
        outcomes = await asyncio.gather(
            *(ask(stream, each) for each in range(5)), return_exceptions=True
        )
        assert outcomes[0] == 0
        assert all(isinstance(each, UnavailableError) for each in outcomes[1:])
        assert isinstance(await stream.wait_lost(), UnavailableError)
        with pytest.raises(UnavailableError, match="backbone on edge"):
            await ask(stream, 6)
        assert stream.lost
        await stream.close()
